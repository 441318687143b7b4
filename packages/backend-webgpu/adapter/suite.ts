// What runs on a real adapter, in Node and in a browser: the conformance suite on the kernels that the adapter gets, and
// the tiled kernels of both kinds, which small shapes do not get by themselves, on a share of it. Runs in browsers.

import { allCases, type Case, contractCases, formatResult, type Mode, runSuite } from '@dynconv/conformance'
import { webgpu, type WebGpuOptions } from '../src/index.ts'

/** A part of the run. */
export interface Part {
  readonly title: string
  readonly options: WebGpuOptions
  readonly modes: readonly Mode[]
  /** Which cases; all of them unless given. */
  readonly cases?: (c: Case, index: number) => boolean
  /** Or only the cases whose names hold one of these. */
  readonly filters?: readonly string[]
}

const products = ['matmul', 'conv2d', 'conv2dInputGrad', 'conv2dFilterGrad', 'dynamicConv2d']

// Every n-th case of the products: their texts are long, and take about a second to compile on a processor.
const everyProduct =
  (step: number) =>
  ({ family }: Case, index: number): boolean =>
    products.includes(family) && index % step === 0

/** All of it, for Node. */
export const everything: readonly Part[] = [
  { title: 'every op, layer, network and training', options: {}, modes: ['forward'] },
  { title: 'states, uploads, errors, disposal', options: {}, modes: ['memory'], filters: contractCases().map(({ id }) => id) },
  { title: 'gradients', options: {}, modes: ['gradient'], cases: (_c, index) => index % 4 === 0 },
  { title: 'second gradients', options: {}, modes: ['second-order'], cases: (_c, index) => index % 12 === 0 },
  { title: 'tiles in registers', options: { kernels: 'software', tiledMacs: 1 }, modes: ['forward', 'gradient'], cases: everyProduct(13) },
  { title: 'tiles in workgroup memory', options: { kernels: 'gpu', tiledMacs: 1 }, modes: ['forward', 'gradient'], cases: everyProduct(17) },
]

/** A share of it, for browsers. */
export const share: readonly Part[] = [
  { title: 'every fourth case', options: {}, modes: ['forward'], cases: (c, index) => index % 4 === 0 || c.family === 'layers' },
  { title: 'gradients', options: {}, modes: ['gradient'], cases: (_c, index) => index % 16 === 0 },
]

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
export async function runPart({ title, options, modes, cases, filters = [] }: Part): Promise<Outcome> {
  const chosen = cases && allCases().filter(cases)
  const target = { name: 'webgpu', create: () => webgpu(options) }
  const report = await runSuite({ targets: [target], modes, filters, ...(chosen ? { cases: chosen } : {}) })
  const count = (key: 'passed' | 'failed' | 'unsupported'): number => report.lanes.reduce((sum, lane) => sum + lane[key], 0)
  const failures = report.results.filter((r) => r.status === 'failed').map(formatResult)
  const problems = [...failures, ...report.lanes.flatMap((lane) => (lane.problem === undefined ? [] : [`${lane.mode}: ${lane.problem}`]))]
  return { title, passed: count('passed'), failed: count('failed'), unsupported: count('unsupported'), seconds: report.seconds, problems }
}

/** A part's outcome for people. */
export function formatOutcome({ title, passed, failed, unsupported, seconds, problems }: Outcome): string {
  const head = `${title}: ${passed} passed, ${failed} failed, ${unsupported} unsupported, ${seconds.toFixed(0)} s`
  return [head, ...problems.slice(0, 20).map((p) => `  ${p}`)].join('\n')
}
