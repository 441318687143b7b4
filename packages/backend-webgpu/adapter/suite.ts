// What runs on a real adapter, in Node and in a browser: the conformance suite on the kernels that the adapter gets, and
// the tiled kernels of both kinds, which small shapes do not get by themselves, on a share of it. Runs in browsers.

import { allCases, type Case, contractCases, formatResult, type Mode, moduleCase, opCase, runSuite } from '@dynconv/conformance'
import { BatchNorm2d, Conv2d, DynamicConv2d, fromNumbers, Module, type OpAttrs, Random, sizeOf, type StaticShape, type Tensor, tensor } from '@dynconv/core'
import { webgpu, type WebGpuOptions } from '../src/index.ts'

/** A part of the run. */
export interface Part {
  readonly title: string
  readonly options: WebGpuOptions
  readonly modes: readonly Mode[]
  /** Which cases; all of them unless given. */
  readonly cases?: (c: Case, index: number) => boolean
  /** Or these, in place of the suite's own. */
  readonly own?: () => readonly Case[]
  /** Or only the cases whose names hold one of these. */
  readonly filters?: readonly string[]
}

const products = ['matmul', 'conv2d', 'conv2dInputGrad', 'conv2dFilterGrad', 'dynamicConv2d']

// Every n-th case of the products: their texts are long, and take about a second to compile on a processor.
const everyProduct =
  (step: number) =>
  ({ family }: Case, index: number): boolean =>
    products.includes(family) && index % step === 0

type Data = Parameters<typeof opCase>[2][string]

const data = (shape: StaticShape): Data => ({
  dtype: 'float32',
  shape,
  make: (seed) => {
    const random = new Random(seed, ...shape)
    return fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.normal()))
  },
})

const walk = (stride: number, padding: number, groups: number = 1): OpAttrs['conv2d'] => ({
  stride: [stride, stride],
  padding: [padding, padding, padding, padding],
  dilation: [1, 1],
  groups,
})

// What follows its convolution, by which it can be done: normalisation by given statistics, a sum with the input, an activation.
class Followed extends Module {
  readonly conv: Conv2d | DynamicConv2d
  readonly norm: BatchNorm2d

  constructor(conv: Conv2d | DynamicConv2d, channels: number) {
    super()
    this.conv = conv
    this.norm = new BatchNorm2d(channels)
    const { weight, bias, running_mean: mean, running_var: variance } = this.norm
    for (const [i, vector] of [weight, bias, mean, variance].entries()) vector.data = tensor(Array.from({ length: channels }, (_, c) => 0.5 + ((c * 7 + i) % 5) / 4))
  }

  override forward(x: Tensor): Tensor {
    return x.add(this.norm.forward(this.conv.forward(x))).relu()
  }
}

function followed(channels: number, [height, width]: readonly [number, number], bias: boolean): readonly Case[] {
  const same = { inChannels: channels, outChannels: channels, kernelSize: 3, padding: 1, bias } as const
  const of = (name: string, make: () => Conv2d | DynamicConv2d): Case =>
    moduleCase({ id: `${name} and what follows[${channels} ${height}x${width}]`, family: 'layers', inputs: [data([2, channels, height, width])], build: () => new Followed(make(), channels), prepared: true, orders: 1, differences: false })
  return [of('Conv2d', () => new Conv2d(same)), of('DynamicConv2d', () => new DynamicConv2d({ ...same, numBases: 3, form: 'kernels' }))]
}

// Large enough to get tiles by themselves, and large ones.
const sized = (): readonly Case[] => {
  const once = { orders: 1, differences: false } as const
  return [
    opCase('conv2d', walk(1, 1), { x: data([2, 16, 14, 14]), weight: data([24, 16, 3, 3]), bias: data([24]) }, once),
    opCase('conv2d', walk(2, 3), { x: data([1, 3, 32, 32]), weight: data([32, 3, 7, 7]) }, once),
    opCase('conv2d', walk(2, 1, 2), { x: data([4, 32, 13, 15]), weight: data([36, 16, 3, 3]) }, once),
    opCase('conv2d', walk(1, 0), { x: data([3, 64, 9, 7]), weight: data([96, 64, 1, 1]) }, once),
    // Few results of long sums, which are cut into parts; with channels and without that fill a slice.
    opCase('conv2d', walk(2, 1), { x: data([2, 96, 7, 7]), weight: data([40, 96, 3, 3]), bias: data([40]) }, once),
    opCase('conv2d', walk(1, 2), { x: data([1, 40, 8, 8]), weight: data([20, 40, 5, 5]) }, once),
    opCase('dynamicConv2d', { ...walk(1, 1), form: 'kernels' }, { x: data([3, 16, 14, 14]), bases: data([4, 20, 16, 3, 3]), pi: data([3, 4]), bias: data([4, 20]) }, once),
    opCase('matmul', { transposeA: false, transposeB: false }, { a: data([130, 70]), b: data([70, 120]) }, once),
    ...followed(24, [15, 14], true),
    // In parts.
    ...followed(96, [7, 7], false),
  ]
}

// Such that Winograd's filtering takes, in tiles of either side: odd sizes, and borders of every width.
const filterable = (): readonly Case[] => {
  const once = { orders: 1, differences: false } as const
  return [
    opCase('conv2d', walk(1, 1), { x: data([2, 32, 13, 9]), weight: data([20, 32, 3, 3]), bias: data([20]) }, once),
    opCase('dynamicConv2d', { ...walk(1, 2), form: 'kernels' }, { x: data([3, 32, 10, 7]), bases: data([2, 48, 32, 3, 3]), pi: data([3, 2]), bias: data([2, 48]) }, once),
    opCase('dynamicConv2d', { ...walk(1, 1), form: 'kernels' }, { x: data([2, 8, 26, 25]), bases: data([3, 8, 8, 3, 3]), pi: data([2, 3]), bias: data([3, 8]) }, once),
    // Small images of more samples than a workgroup takes together, and with more bases.
    opCase('dynamicConv2d', { ...walk(1, 1), form: 'kernels' }, { x: data([9, 36, 7, 7]), bases: data([4, 72, 36, 3, 3]), pi: data([9, 4]), bias: data([4, 72]) }, once),
    opCase('dynamicConv2d', { ...walk(1, 1), form: 'kernels' }, { x: data([3, 32, 5, 6]), bases: data([6, 32, 32, 3, 3]), pi: data([3, 6]) }, once),
    // Long sums, which are cut into parts.
    opCase('conv2d', walk(1, 1), { x: data([1, 256, 6, 6]), weight: data([32, 256, 3, 3]), bias: data([32]) }, once),
    opCase('dynamicConv2d', { ...walk(1, 1), form: 'kernels' }, { x: data([3, 256, 5, 5]), bases: data([2, 32, 256, 3, 3]), pi: data([3, 2]), bias: data([2, 32]) }, once),
    ...followed(32, [13, 10], true),
  ]
}

// Rows long enough to be shared by lanes.
const longRows = (): readonly Case[] => {
  const once = { orders: 1, differences: false } as const
  return [
    opCase('reduceSum', { axes: [1, 3], keepDims: false }, { x: data([3, 5, 4, 37]) }, once),
    opCase('reduceMax', { axes: [1], keepDims: true }, { x: data([6, 300]) }, once),
    opCase('softmax', { axis: 1 }, { x: data([5, 200]) }, once),
    opCase('logSoftmax', { axis: 0 }, { x: data([150, 3]) }, once),
    opCase('batchNorm', { epsilon: 1e-5 }, { x: data([3, 4, 12, 13]), gamma: data([4]), beta: data([4]) }, once),
  ]
}

/** All of it, for Node. */
export const everything: readonly Part[] = [
  { title: 'every op, layer, network and training', options: {}, modes: ['forward'] },
  { title: 'states, uploads, errors, disposal', options: {}, modes: ['memory'], filters: contractCases().map(({ id }) => id) },
  { title: 'gradients', options: {}, modes: ['gradient'], cases: (_c, index) => index % 4 === 0 },
  { title: 'second gradients', options: {}, modes: ['second-order'], cases: (_c, index) => index % 12 === 0 },
  { title: 'tiles in registers', options: { kernels: 'software', tiledMacs: 1 }, modes: ['forward', 'gradient'], cases: everyProduct(26) },
  { title: 'larger sizes, tiles in registers', options: { kernels: 'software' }, modes: ['forward', 'gradient'], own: sized },
  { title: 'larger sizes, tiles in workgroup memory', options: { kernels: 'gpu' }, modes: ['forward', 'gradient'], own: sized },
  { title: "larger sizes, Winograd's filtering, products in registers", options: { kernels: 'software', convolutions: 'winograd' }, modes: ['forward', 'gradient'], own: filterable },
  { title: "larger sizes, Winograd's filtering, each lane for itself", options: { kernels: 'software', convolutions: 'winograd', subgroups: false }, modes: ['forward'], own: filterable },
  { title: "larger sizes, Winograd's filtering, products in workgroup memory", options: { kernels: 'gpu', convolutions: 'winograd' }, modes: ['forward', 'gradient'], own: filterable },
  { title: 'the fastest of all forms, found by a probe', options: { probe: true }, modes: ['forward'], own: filterable },
  { title: 'rows shared by lanes', options: { kernels: 'gpu' }, modes: ['forward', 'gradient'], own: longRows },
  { title: 'small steps together', options: { kernels: 'gpu' }, modes: ['gradient'], cases: ({ family }, index) => family === 'layers' && index % 3 === 0 },
  { title: 'tiles in workgroup memory', options: { kernels: 'gpu', tiledMacs: 1 }, modes: ['forward', 'gradient'], cases: everyProduct(34) },
]

/** The conformance suite as `pnpm conformance` runs it. */
export const whole: readonly Part[] = [{ title: 'conformance', options: {}, modes: ['forward', 'gradient', 'second-order', 'memory'] }]

/** A share of it, for browsers. */
export const share: readonly Part[] = [
  { title: 'every fourth case', options: {}, modes: ['forward'], cases: (c, index) => index % 4 === 0 || c.family === 'layers' },
  { title: 'gradients', options: {}, modes: ['gradient'], cases: (_c, index) => index % 16 === 0 },
]

// WGSL lets an engine flush numbers below the smallest normal one to 0 (section 15.7), wherever they come from; for results
// that need no rounding the suite's tolerance is 0. A failure whose every element is such a 0 is none.
const smallestNormal = 2 ** -126

/** Whether all that is wrong is that numbers below the smallest normal one came out as 0. */
export function onlyFlushes(problems: readonly string[]): boolean {
  return problems.every((problem) => {
    const count = Number(/: (\d+) of \d+ elements are off/.exec(problem)?.[1] ?? Number.NaN)
    const shown = [...problem.matchAll(/got (\S+)\s+expected (\S+)/g)]
    return shown.length === count && shown.every(([, got, expected]) => Number(got) === 0 && Math.abs(Number(expected)) < smallestNormal)
  })
}

/** What a part gave. */
export interface Outcome {
  readonly title: string
  readonly passed: number
  readonly failed: number
  readonly unsupported: number
  readonly seconds: number
  readonly problems: readonly string[]
}

/** Runs a part. */
export async function runPart({ title, options, modes, cases, own, filters = [] }: Part): Promise<Outcome> {
  const chosen = own?.() ?? (cases && allCases().filter(cases))
  const target = { name: 'webgpu', create: () => webgpu(options) }
  const report = await runSuite({ targets: [target], modes, filters, ...(chosen ? { cases: chosen } : {}) })
  const count = (key: 'passed' | 'failed' | 'unsupported'): number => report.lanes.reduce((sum, lane) => sum + lane[key], 0)
  const failed = report.results.filter((r) => r.status === 'failed')
  const flushed = failed.filter((r) => onlyFlushes(r.problems))
  const failures = failed.filter((r) => !flushed.includes(r)).map(formatResult)
  const problems = [...failures, ...report.lanes.flatMap((lane) => (lane.problem === undefined ? [] : [`${lane.mode}: ${lane.problem}`]))]
  return { title, passed: count('passed') + flushed.length, failed: failures.length, unsupported: count('unsupported'), seconds: report.seconds, problems }
}

/** A part's outcome for people. */
export function formatOutcome({ title, passed, failed, unsupported, seconds, problems }: Outcome): string {
  const head = `${title}: ${passed} passed, ${failed} failed, ${unsupported} unsupported, ${seconds.toFixed(0)} s`
  return [head, ...problems.slice(0, 20).map((p) => `  ${p}`)].join('\n')
}
