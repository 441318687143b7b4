// Every blocked kernel against the float64 oracle, on the engine of this machine, with its own block.

import { avgPool2d, batchNorm, batchNormInference, conv2d, dynamicConv2d, evaluate, type Graph, gradients, type HostTensor, maxPool2d, type OpAttrs, type OpName, optimise, type Tensor, toRef } from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OnnxBackend } from '../backend.ts'
import { buildProgram } from '../program.ts'
import { decodeModel } from '../proto/onnx.ts'
import { startBlocked } from '../testing/blocked.ts'
import { type Case, compare, type Difference, difference as differenceOn, graphOf, randn, type TensorFunction } from '../testing/compare.ts'
import { layoutsOf } from './layouts.ts'
import type { Nchwc } from './nchwc.ts'

let nchwc: Nchwc
let backend: OnnxBackend
beforeAll(async () => {
  ;({ nchwc, backend } = await startBlocked())
})
afterAll(() => backend.dispose())

/** How often each op stands in the model of a graph; blocked ops as `nchwc.Conv`. */
function opsOf(graph: Graph, layouts = layoutsOf(nchwc, 2)): ReadonlyMap<string, number> {
  const { graph: model } = decodeModel(buildProgram(graph, layouts.policy(graph)).model)
  const counts = new Map<string, number>()
  for (const { opType, domain } of model.node) {
    const name = domain === 'com.microsoft.nchwc' ? `nchwc.${opType}` : opType
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

const emit = <K extends OpName>(op: K, attrs: OpAttrs[K]): TensorFunction => (...inputs) => inputs[0]?.graph.emit(op, attrs, inputs) ?? []

// The result and its gradients by all inputs, of a weighted sum that is not symmetric.
const withGradients = (f: (...inputs: Tensor[]) => Tensor): TensorFunction => (...inputs) => {
  const y = f(...inputs)
  return [y, ...gradients(y.mul(y).add(y).sum(), inputs)]
}

// Where a case differs from the oracle, if it does.
const difference = (c: Case): Promise<Difference> => differenceOn(backend, c)

interface Walk {
  readonly name: string
  readonly kernel: readonly [number, number]
  readonly size: readonly [number, number]
  readonly attrs?: Partial<OpAttrs['conv2d']>
}

// Kernels, strides, paddings, dilations and odd sizes; those that have no blocked gradient fall back.
const walks: readonly Walk[] = [
  { name: '3x3', kernel: [3, 3], size: [8, 8] },
  { name: '3x3, odd', kernel: [3, 3], size: [7, 5] },
  { name: '3x3 on a large image', kernel: [3, 3], size: [17, 16] },
  { name: '3x3, stride 2', kernel: [3, 3], size: [8, 8], attrs: { stride: [2, 2] } },
  { name: '3x3, stride 2, large image', kernel: [3, 3], size: [34, 32], attrs: { stride: [2, 2] } },
  { name: '3x3, stride 2, odd', kernel: [3, 3], size: [7, 9], attrs: { stride: [2, 2] } },
  { name: '3x3, stride 2 down, 1 across', kernel: [3, 3], size: [8, 6], attrs: { stride: [2, 1] } },
  { name: '3x3, stride 1 down, 3 across', kernel: [3, 3], size: [6, 9], attrs: { stride: [1, 3] } },
  { name: '3x3, no padding', kernel: [3, 3], size: [6, 7], attrs: { padding: [0, 0, 0, 0] } },
  { name: '3x3, asymmetric padding', kernel: [3, 3], size: [6, 7], attrs: { padding: [0, 2, 1, 0] } },
  { name: '3x3, asymmetric padding, stride 2', kernel: [3, 3], size: [8, 6], attrs: { padding: [0, 1, 1, 2], stride: [2, 2] } },
  { name: '3x3, dilated', kernel: [3, 3], size: [8, 9], attrs: { dilation: [2, 1], padding: [2, 2, 1, 1] } },
  { name: '3x3, dilated, stride 2', kernel: [3, 3], size: [8, 8], attrs: { dilation: [2, 2], padding: [2, 2, 2, 2], stride: [2, 2] } },
  { name: '1x1', kernel: [1, 1], size: [6, 5], attrs: { padding: [0, 0, 0, 0] } },
  { name: '1x1, stride 2', kernel: [1, 1], size: [8, 6], attrs: { padding: [0, 0, 0, 0], stride: [2, 2] } },
  { name: '1x1, stride 2, odd', kernel: [1, 1], size: [7, 5], attrs: { padding: [0, 0, 0, 0], stride: [2, 2] } },
  { name: '1x1, stride 3 across', kernel: [1, 1], size: [4, 9], attrs: { padding: [0, 0, 0, 0], stride: [1, 3] } },
  { name: '1x1, padded', kernel: [1, 1], size: [4, 4] },
  { name: '2x3', kernel: [2, 3], size: [5, 8] },
  { name: '5x1', kernel: [5, 1], size: [9, 4], attrs: { padding: [2, 2, 0, 0] } },
  { name: '4x4, stride 2', kernel: [4, 4], size: [8, 8], attrs: { stride: [2, 2] } },
  { name: '2x2, stride 2', kernel: [2, 2], size: [6, 8], attrs: { stride: [2, 2], padding: [0, 0, 0, 0] } },
  { name: '7x7, stride 2', kernel: [7, 7], size: [12, 12], attrs: { stride: [2, 2], padding: [3, 3, 3, 3] } },
  { name: 'kernel as large as the image', kernel: [4, 4], size: [4, 4], attrs: { padding: [0, 0, 0, 0] } },
  { name: 'one pixel', kernel: [3, 3], size: [1, 1] },
]

interface Channels {
  readonly name: string
  readonly batch: number
  readonly inChannels: (block: number) => number
  readonly outChannels: (block: number) => number
  readonly groups?: (block: number) => number
}

const channelCases: readonly Channels[] = [
  { name: 'blocks', batch: 3, inChannels: (b) => 2 * b, outChannels: (b) => b },
  { name: 'one sample', batch: 1, inChannels: (b) => b, outChannels: (b) => 2 * b },
  { name: 'groups', batch: 2, inChannels: (b) => 2 * b, outChannels: (b) => 4 * b, groups: () => 2 },
  { name: 'depthwise', batch: 2, inChannels: (b) => 2 * b, outChannels: (b) => 2 * b, groups: (b) => 2 * b },
  { name: 'stem', batch: 2, inChannels: () => 3, outChannels: (b) => 2 * b },
  { name: 'no blocks', batch: 2, inChannels: (b) => b + b / 2, outChannels: (b) => b / 2 + b },
]

const bases = 3

// What fills no blocks runs on the plain kernels, which have tests of their own.
const walksOf = ({ name }: Channels): readonly Walk[] => (name === 'no blocks' ? walks.slice(0, 4) : walks)

describe.each(channelCases)('$name', (channels) => {
  const shapes = (walk: Walk) => {
    const [batch, i, o, groups] = [channels.batch, channels.inChannels(nchwc.block), channels.outChannels(nchwc.block), channels.groups?.(nchwc.block) ?? 1]
    const attrs = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups, ...walk.attrs } as const
    const kernel = [o, i / groups, ...walk.kernel]
    const roundings = 8 * (walk.kernel[0] * walk.kernel[1] * Math.max(i, o) + walk.size[0] * walk.size[1] * batch)
    return { batch, o, attrs, kernel, x: randn([batch, i, ...walk.size], 1), roundings }
  }

  test.each(walksOf(channels))('static, $name', async (walk) => {
    const { o, attrs, kernel, x, roundings } = shapes(walk)
    const fn = withGradients((t, w, b) => conv2d(t, w, { ...attrs, bias: b }))
    expect(await difference({ name: walk.name, fn, inputs: [x, randn(kernel, 2), randn([o], 3)], roundings })).toBeUndefined()
  })

  test.each(walksOf(channels))('a kernel for every sample, $name', async (walk) => {
    const { batch, o, attrs, kernel, x, roundings } = shapes(walk)
    const fn = withGradients((t, w, pi, b) => dynamicConv2d(t, w, pi, { ...attrs, bias: b, form: 'kernels' }))
    expect(await difference({ name: walk.name, fn, inputs: [x, randn([bases, ...kernel], 2), randn([batch, bases], 3), randn([bases, o], 4)], roundings })).toBeUndefined()
  })

  test.each(walksOf(channels).slice(0, 5))('every base, then a weighted sum, $name', async (walk) => {
    const { batch, o, attrs, kernel, x, roundings } = shapes(walk)
    const fn = withGradients((t, w, pi, b) => dynamicConv2d(t, w, pi, { ...attrs, bias: b, form: 'outputs' }))
    expect(await difference({ name: walk.name, fn, inputs: [x, randn([bases, ...kernel], 2), randn([batch, bases], 3), randn([bases, o], 4)], roundings: bases * roundings })).toBeUndefined()
  })
})

test('form outputs reorders nothing between its steps', () => {
  const b = nchwc.block
  const fn: TensorFunction = (x, w, pi) => dynamicConv2d(dynamicConv2d(x, w, pi, { padding: 1, form: 'outputs' }), w, pi, { padding: 1, form: 'outputs' })
  const used = opsOf(graphOf(fn, [randn([2, b, 4, 4]), randn([2, b, b, 3, 3]), randn([2, 2])]))
  expect([used.get('nchwc.Conv'), used.get('MatMul'), used.get('Transpose')]).toEqual([2, 2, 1])
})

describe('filter gradients', () => {
  test('wide layers take the Winograd form, in chunks of the batch', async () => {
    const channels = 64
    for (const [batch, size] of [[4, [8, 6]], [6, [18, 16]]] as const) {
      const fn = emit('conv2dFilterGrad', { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1, kernelSize: [3, 3] })
      const inputs = [randn([batch, channels, ...size], 1), randn([batch, channels, ...size], 2)]
      expect(await difference({ name: `${size.join('x')}`, fn, inputs, roundings: 8 * batch * size[0] * size[1] })).toBeUndefined()
    }
  })

  test.each([1, 2, 3, 4, 9])('in chunks of %i samples', async (chunk) => {
    const b = nchwc.block
    for (const stride of [1, 2]) {
      const fn = emit('dynamicConv2dKernelGrad', { stride: [stride, stride], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1, kernelSize: [3, 3], form: 'kernels', chunk })
      const inputs = [randn([4, b, 8, 8], 1), randn([4, 2 * b, 8 / stride, 8 / stride], 2), randn([bases, 2 * b, b, 3, 3], 3), randn([4, bases], 4)]
      expect(await difference({ name: `chunk ${chunk}`, fn, inputs, roundings: 1000 })).toBeUndefined()
    }
  })
})

const norm = (x: Tensor, gamma: Tensor, beta: Tensor): Tensor => batchNorm(x, gamma, beta)[0]
const one = { stride: 1, padding: 1 } as const

describe('fusions', () => {
  const images = (b: number, seed: number): HostTensor => randn([3, 2 * b, 6, 5], seed)
  const kernels = (b: number, seed: number): HostTensor => randn([2 * b, 2 * b, 3, 3], seed)
  const vector = (b: number, seed: number): HostTensor => randn([2 * b], seed)

  test('a residual and relu go into the convolution', async () => {
    const b = nchwc.block
    const fn: TensorFunction = (x, w) => conv2d(x, w, one).add(x).relu()
    const inputs = [images(b, 1), kernels(b, 2)]
    expect(await difference({ name: 'residual', fn, inputs, roundings: 2000 })).toBeUndefined()
    const used = opsOf(graphOf(fn, inputs))
    expect(used.get('nchwc.Conv')).toBe(1)
    expect([used.get('Add'), used.get('Relu')]).toEqual([undefined, undefined])
  })

  test('a residual and relu go into a normalisation, and the gradient is masked without a comparison', async () => {
    const b = nchwc.block
    const fn = withGradients((x, w, gamma, beta) => norm(conv2d(x, w, one), gamma, beta).add(x).relu())
    const inputs = [images(b, 1), kernels(b, 2), vector(b, 3), vector(b, 4)]
    expect(await difference({ name: 'block', fn, inputs, roundings: 2000 })).toBeUndefined()
    const used = opsOf(graphOf(fn, inputs))
    expect(used.get('HardSigmoid')).toBe(1)
    expect([used.get('Greater'), used.get('Where'), used.get('Relu')]).toEqual([undefined, undefined, undefined])
  })

  const sums: Readonly<Record<string, (t: readonly Tensor[]) => Tensor>> = {
    'two convolutions': ([x, w, v]) => conv2d(x!, w!, one).add(conv2d(x!, v!, one)),
    'two convolutions, relu': ([x, w, v]) => conv2d(x!, w!, one).add(conv2d(x!, v!, one)).relu(),
    'a tree of sums': ([x, w, v]) => x!.add(conv2d(x!, w!, one).add(x!.mul(2))).add(conv2d(x!, v!, one).add(x!)).relu(),
    'a sum that is read twice': ([x, w]) => { const s = conv2d(x!, w!, one).add(x!); return s.relu().add(s.mul(0.5)) },
    'a convolution that is read twice': ([x, w]) => { const y = conv2d(x!, w!, one); return y.add(x!).mul(y) },
    'a convolution plus itself': ([x, w]) => { const y = conv2d(x!, w!, one); return y.add(y) },
    'a clamped sum': ([x, w]) => conv2d(x!, w!, one).add(x!).clamp(-1, 6),
    'a value per channel': ([x, w, , c]) => conv2d(x!, w!, one).add(c!.reshape([1, -1, 1, 1])).relu(),
    'a value per channel, broadcast': ([x, w, , c]) => conv2d(x!, w!, one).add(c!.reshape([-1, 1, 1]).broadcastTo(x!.shape)).relu(),
    'a value per sample and channel': ([x, w]) => conv2d(x!, w!, one).add(x!.sum([2, 3], true)).relu(),
    'a value per pixel': ([x, w]) => conv2d(x!, w!, one).add(x!.sum([0, 1], true)).relu(),
    'a number': ([x, w]) => conv2d(x!, w!, one).add(1).relu(),
    'values per sample on both sides of a normalisation': ([x, w, , c]) => norm(conv2d(x!, w!, one), c!, c!).add(x!.sum([2, 3], true)).add(x!.mean([2, 3], true)).relu(),
    'a gate per channel': ([x, w]) => conv2d(x!, w!, one).mul(x!.mean([2, 3], true).sigmoid()),
    'relu of the input alone': ([x, w]) => conv2d(x!.relu(), w!, one),
    'clamp, a smooth activation': ([x, w]) => { const y = conv2d(x!, w!, one); return y.clamp(0, 6).add(y.mul(y.sigmoid())) },
    'a transposed convolution with relu': ([x, w]) => x!.graph.emit('conv2dInputGrad', { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1, inputSize: [6, 5] }, [x!, w!])[0]!.add(x!).relu(),
    'selection by a comparison': ([x, w]) => { const y = conv2d(x!, w!, one); return y.greater(x!).select(y, x!.mul(0.1)) },
    'maximum over pixels': ([x, w]) => conv2d(x!, w!, one).maxOver([2, 3]),
    'reshape and back': ([x, w, v]) => conv2d(conv2d(x!, w!, one).flatten(1).mul(2).reshape(x!.shape), v!, one),
    'sums over some axes': ([x, w]) => { const y = conv2d(x!, w!, one); return y.sum([2, 3], true).add(y.sum([0, 2, 3], true)).add(y.sum([1], true)).add(y.sum()) },
  }
  test.each(Object.keys(sums))('%s', async (name) => {
    const b = nchwc.block
    const fn = withGradients((...t) => sums[name]!(t))
    // Inputs that the function does not read have zero gradients.
    const inputs = [images(b, 1), kernels(b, 2), kernels(b, 3), vector(b, 4)]
    expect(await difference({ name, fn, inputs, roundings: 2000 })).toBeUndefined()
    const graph = optimise(graphOf(fn, inputs))
    const again: Case = { name: `${name}, optimised`, fn, inputs, roundings: 2000 }
    expect(await differenceOf(graph, again)).toBeUndefined()
  })

  test('dynamic: residual, bias and relu go into the convolution; backward, what is added per sample is its bias', async () => {
    const b = nchwc.block
    const fn = withGradients((x, w, pi, bias, v) => {
      const gates = x.mean([2, 3]).matmul(v).softmax(1).mul(pi)
      return dynamicConv2d(x, w, gates, { ...one, bias, form: 'kernels' }).add(x).relu()
    })
    const inputs = [images(b, 1), randn([bases, 2 * b, 2 * b, 3, 3], 2), randn([3, bases], 3), randn([bases, 2 * b], 4), randn([2 * b, bases], 5)]
    expect(await difference({ name: 'dynamic', fn, inputs, roundings: 2000 })).toBeUndefined()
    const graph = optimise(graphOf(fn, inputs))
    expect(await differenceOf(graph, { name: 'optimised', fn, inputs, roundings: 2000 })).toBeUndefined()
    const used = opsOf(graph)
    expect([used.get('Relu'), used.get('Expand')]).toEqual([undefined, undefined])
  })

  async function differenceOf(graph: Graph, c: Case) {
    const program = await backend.compile(graph)
    try {
      const expected = evaluate(graph, c.inputs.map(toRef)).outputs
      const outputs = await program.run(c.inputs)
      return outputs.map((t, i) => compare(t, expected[i], c.roundings ?? 4)).find((d) => d !== undefined)
    } finally {
      program.dispose()
    }
  }
})

describe('what runs in blocks', () => {
  const used = (fn: TensorFunction, inputs: readonly HostTensor[]): ReadonlyMap<string, number> => opsOf(optimise(graphOf(fn, inputs)))
  const plainOps = ['Conv', 'ConvTranspose', 'MatMul', 'ReorderOutput', 'nchwc.ReorderOutput'] as const

  test('a depthwise convolution with all its gradients, static and dynamic', () => {
    const b = nchwc.block
    const depthwise = (stride: number) => ({ padding: 1, groups: 2 * b, stride })
    for (const stride of [1, 2]) {
      const inputs = [randn([2, 2 * b, 8, 8]), randn([2 * b, 1, 3, 3])]
      const ops = used((x, w) => { const y = conv2d(x.relu(), w, depthwise(stride)).relu(); return gradients(y.sum(), [w]) }, inputs)
      expect(plainOps.filter((op) => ops.has(op))).toEqual([])
    }
    const dynamic = used(
      (x, w, pi) => gradients(dynamicConv2d(x, w, pi, { ...depthwise(1), form: 'kernels' }).relu().sum(), [x, w, pi]),
      [randn([2, 2 * b, 8, 8]), randn([3, 2 * b, 1, 3, 3]), randn([2, 3])],
    )
    // Two mixtures of the bases, forward and turned, and dx as the only result that leaves the blocks.
    expect([dynamic.get('Conv'), dynamic.get('MatMul'), dynamic.get('nchwc.ReorderOutput')]).toEqual([undefined, 2, 1])
  })

  test('a grouped convolution', () => {
    const b = nchwc.block
    const inputs = [randn([2, 2 * b, b, b]), randn([2 * b, b, 3, 3])]
    const ops = used((x, w) => gradients(conv2d(x.relu(), w, { padding: 1, groups: 2 }).relu().sum(), [w]), inputs)
    expect(plainOps.filter((op) => ops.has(op))).toEqual([])
  })

  test('and why the rest does not is explained', async () => {
    const b = nchwc.block
    const explain = async (fn: TensorFunction, inputs: readonly HostTensor[]): Promise<string> => {
      const program = await backend.compile(graphOf(fn, inputs))
      const text = program.explain()
      program.dispose()
      return text
    }
    const uneven = await explain((x, w) => conv2d(x, w, { padding: 1 }), [randn([2, b + 1, 4, 4]), randn([b, b + 1, 3, 3])])
    expect(uneven).toContain(`layout NCHWc, block ${b}: 0 of 1 convolutions and gradients in blocks`)
    expect(uneven).toContain(`channels ${b + 1} -> ${b} do not fill blocks of ${b}`)
    const dilated = await explain((x, w) => gradients(conv2d(x, w, { padding: 2, stride: 2, dilation: 2 }).sum(), [x, w]), [randn([2, b, 8, 8]), randn([b, b, 3, 3])])
    expect(dilated).toContain('no blocked gradient for this stride, padding and size')
    const outputs = await explain((x, w, pi) => dynamicConv2d(x, w, pi, { padding: 1, form: 'outputs' }), [randn([2, b, 4, 4]), randn([2, b, b, 3, 3]), randn([2, 2])])
    expect(outputs).toContain('1 of 1 convolutions and gradients in blocks')
  })
})

test('with blocks of 8 and of 16 the same convolutions run in blocks', () => {
  const fn: TensorFunction = (x, w, v, gamma, beta, bases, pi) => {
    const y = norm(conv2d(x, w, one), gamma, beta).relu()
    const z = dynamicConv2d(norm(conv2d(y, v, { padding: 1, stride: 2 }), gamma, beta).relu(), bases, pi, { padding: 1, form: 'kernels' })
    return [z, ...gradients(z.mul(z).sum(), [w, v, gamma, beta, bases, pi])]
  }
  const inputs = [[2, 3, 16, 16], [32, 3, 3, 3], [32, 32, 3, 3], [32], [32], [2, 32, 32, 3, 3], [2, 2]].map((shape) => randn(shape))
  const [eight, sixteen] = [8, 16].map((block) => opsOf(graphOf(fn, inputs), layoutsOf({ block }, 2)))
  for (const used of [eight, sixteen]) {
    expect(used?.get('nchwc.Conv')).toBeGreaterThan(8)
    expect([used?.get('Conv'), used?.get('ConvTranspose'), used?.get('BatchNormalization')]).toEqual([undefined, undefined, undefined])
  }
})

describe('pools', () => {
  const bad = (x: HostTensor): HostTensor => ({ ...x, data: x.data.map((v, i) => [v, v, Number.NaN, Number.NEGATIVE_INFINITY, v][i % 97 < 5 ? i % 97 : 0] ?? v) })
  const image = (): HostTensor => randn([2, nchwc.block, 7, 6], 1)
  const kernel = (): HostTensor => randn([nchwc.block, nchwc.block, 1, 1], 2)

  test.each([{ kernelSize: 3, stride: 2, padding: 1 }, { kernelSize: 2 }, { kernelSize: [2, 3], stride: [1, 2], padding: [0, 1, 1, 0] }] as const)('stay in blocks: %o', async (options) => {
    const fn: TensorFunction = (x, w) => [conv2d(maxPool2d(conv2d(x, w), options), w), conv2d(avgPool2d(conv2d(x, w), options), w)]
    const inputs = [image(), kernel()]
    expect(await difference({ name: 'pool', fn, inputs, roundings: 2000 })).toBeUndefined()
    const used = opsOf(graphOf(fn, inputs))
    expect([used.get('AveragePool'), used.get('nchwc.AveragePool'), used.get('nchwc.ReorderInput'), used.get('nchwc.ReorderOutput')]).toEqual([undefined, 1, 1, 2])
  })

  test('NaN and infinity come through a maximum', async () => {
    // A depthwise kernel of ones keeps every number as it is.
    const identity = { dtype: 'float32', shape: [nchwc.block, 1, 1, 1], data: new Float32Array(nchwc.block).fill(1) } as const
    const fn: TensorFunction = (x, w) => maxPool2d(conv2d(x, w, { groups: nchwc.block }), { kernelSize: 2, stride: 1 })
    expect(await difference({ name: 'bad numbers', fn, inputs: [bad(image()), identity], roundings: 8 })).toBeUndefined()
  })

  test('gradients', async () => {
    const fn = withGradients((x, w) => conv2d(maxPool2d(conv2d(x, w), { kernelSize: 3, stride: 2, padding: 1 }), w).add(conv2d(avgPool2d(conv2d(x, w), { kernelSize: 3, stride: 2, padding: 1 }), w)))
    expect(await difference({ name: 'gradients', fn, inputs: [image(), kernel()], roundings: 4000 })).toBeUndefined()
  })
})

describe('normalisation', () => {
  test("a mean over pixels is the engine's average alone, and a sum beside it a multiple of it", async () => {
    const inputs = [randn([2, 32, 5, 6], 1), randn([32, 32, 3, 3], 2)]
    const means: TensorFunction = (x, w) => [conv2d(x, w, one).mean([2, 3]), conv2d(x, w, one).mean([2, 3], true)]
    const counts = opsOf(graphOf(means, inputs))
    expect([counts.get('nchwc.GlobalAveragePool'), counts.get('Mul'), counts.get('Div')]).toEqual([2, undefined, undefined])
    const all: TensorFunction = (x, w) => {
      const y = conv2d(x, w, one)
      return [y.mean([2, 3]), y.mean([2, 3], true), y.sum([2, 3]).div(7), y.sum([2, 3]).div(x.mean([2, 3]).mul(0).add(30)), y.mean([0, 2, 3])]
    }
    expect(opsOf(graphOf(all, inputs)).get('nchwc.GlobalAveragePool')).toBe(2)
    expect(await difference({ name: 'means', fn: all, inputs, roundings: 9 * 32 + 60 })).toBeUndefined()
  })

  test('the variance keeps its digits where the mean is a thousand deviations', async () => {
    const b = nchwc.block
    const w = { dtype: 'float32', shape: [b, b, 1, 1], data: Float32Array.from({ length: b * b }, (_, i) => Number(i % (b + 1) === 0)) } as const
    const x = randn([4, b, 8, 8], 1)
    const far = { ...x, data: x.data.map((v) => v + 1000) } as HostTensor
    const fn: TensorFunction = (t, k, gamma, beta) => norm(conv2d(t, k), gamma, beta)
    // Deviations of 1 around 1000 are known to 2^-24 * 1000 of themselves; E[x^2] - mean^2 would know none of them.
    expect(await difference({ name: 'far', fn, inputs: [far, w, randn([b], 3), randn([b], 4)], roundings: 1000 })).toBeUndefined()
  })

  test('with given statistics', async () => {
    const b = nchwc.block
    const fn: TensorFunction = (x, w, gamma, beta, mean, variance) =>
      batchNormInference(conv2d(x, w, one), gamma, beta, mean, variance.square()).add(x).relu()
    const inputs = [randn([2, b, 6, 5], 1), randn([b, b, 3, 3], 2), ...[3, 4, 5, 6].map((seed) => randn([b], seed))]
    expect(await difference({ name: 'inference', fn, inputs, roundings: 1000 })).toBeUndefined()
    expect(opsOf(graphOf(fn, inputs)).get('nchwc.Conv')).toBe(2)
  })
})
