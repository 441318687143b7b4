import { batchNorm, batchNormInference, conv2d, dynamicConv2d, gradients, GraphBuilder, ops, trace, type Tensor } from '@dynconv/core'
import { expect, test } from 'vitest'
import type { Target } from '../wgsl/kernel.ts'
import type { Algorithm } from './choose.ts'
import type { LowerOptions } from './context.ts'
import { lower } from './lower.ts'
import { planMemory } from './memory.ts'
import type { PlanBuffer, Step } from './program.ts'

const target: Target = { f16: false, subgroups: false, kind: 'software', tiledMacs: 2 ** 20, maxGroups: 65535, maxBindings: 8 }

function kernelsOf(fn: (...xs: Tensor[]) => Tensor | readonly Tensor[], ...shapes: readonly (readonly number[])[]): readonly string[] {
  const { program } = lower(trace(fn, { inputs: shapes.map((shape) => ({ shape })) }).graph, target)
  return program.steps.map((step) => (step.kind === 'dispatch' ? step.kernel.label : 'copy'))
}

test('elementwise chains are one kernel, with broadcasts', () => {
  expect(kernelsOf((x, b) => x.mul(b).add(1).exp().relu(), [2, 3, 4], [4])).toEqual(['mul+add+exp+relu'])
})

test('views make no kernels', () => {
  expect(kernelsOf((x) => x.transpose().slice([1, 0], [2, 2]).broadcastTo([3, 2, 2]).neg(), [2, 4])).toEqual(['neg'])
})

test('a result that is read outside too is stored, others are not', () => {
  const { program } = lower(trace((x) => { const y = x.exp(); return [y.sum(), y.mul(2).add(y)] }, { inputs: [{ shape: [8] }] }).graph, target)
  const [first] = program.steps
  expect(first?.kind === 'dispatch' ? [first.kernel.label, first.buffers.length] : []).toEqual(['exp', 2])
  expect(program.steps).toHaveLength(3)
})

test('a group waits for no one: what depends on something outside that depends on it comes after', () => {
  expect(kernelsOf((x) => { const y = x.exp(); return y.add(y.sum()).mul(y) }, [8])).toEqual(['exp', 'reduceSum', 'add+mul'])
})

test('what is done to the elements of a product or sum is done where they are computed', () => {
  expect(kernelsOf((x, w, b) => x.matmul(w).add(b).relu(), [4, 3], [3, 5], [5])).toEqual(['matmul+add+relu'])
  expect(kernelsOf((x) => x.sum([1]).div(3).exp().sum(), [4, 3])).toEqual(['reduceSum+div+exp', 'reduceSum'])
  // What is read outside is stored as well; of two products one is.
  const { program } = lower(trace((x, w) => { const y = x.matmul(w); return [y, y.relu()] }, { inputs: [{ shape: [4, 3] }, { shape: [3, 5] }] }).graph, target)
  expect(program.steps.map((step) => (step.kind === 'dispatch' ? [step.kernel.label, step.buffers.length] : []))).toEqual([['matmul+relu', 4]])
  expect(kernelsOf((x, w) => x.matmul(w).add(w.matmul(x)), [3, 3], [3, 3])).toEqual(['matmul', 'matmul+add'])
})

// Two states that go down by what `step` makes of them.
function updates(step: (w: Tensor, other: Tensor) => Tensor, sizes: readonly [number, number], known: boolean): readonly string[] {
  const b = new GraphBuilder(ops)
  const states = sizes.map((size, i) => b.readState(`w${i}`, 'parameter', 'float32', [size]))
  const [first, second] = states
  if (!first || !second) throw new Error('two states')
  const steps = [step(first, second), step(second, first)]
  states.forEach((w, i) => { const d = steps[i]; if (d) b.writeState(`w${i}`, 'parameter', 'float32', w.shape, w.sub(d)) })
  const placeOf = (name: string) => ({ shared: 0, offset: name === 'w0' ? 0 : 4096, bytes: 8192 })
  const { program } = lower(b.build(), target, known ? { placeOf } : {})
  return program.steps.map((each) => (each.kind === 'dispatch' ? each.kernel.label : each.kind))
}

test('updates that are alike are one dispatch, where the states lie together', () => {
  expect(updates((w) => w.softmax(0), [12, 7], true)).toEqual(['softmax', 'softmax', 'sub of many'])
  expect(updates((w) => w.softmax(0), [12, 7], false)).toEqual(['softmax', 'softmax', 'sub', 'sub'])
  // Beyond a size a tensor has a dispatch of its own.
  expect(updates((w) => w.softmax(0), [2 ** 18 + 1, 7], true)).toEqual(['softmax', 'softmax', 'sub', 'sub'])
})

test('what one kernel reads and another of its buffers writes does not become one buffer', () => {
  let first: Tensor | undefined
  const chained = (w: Tensor): Tensor => {
    first = first ? first.softmax(0) : w.softmax(0)
    return first
  }
  expect(updates(chained, [12, 12], true)).toEqual(['softmax', 'softmax', 'sub', 'sub'])
})

test('independent groups of one shape are merged where an op reads from both', () => {
  expect(kernelsOf((a, b) => a.exp().mul(b.tanh()), [6], [6])).toEqual(['exp+tanh+mul'])
})

test('a group never binds more buffers than the adapter takes', () => {
  const { program } = lower(trace((...xs) => xs.reduce((a, b) => a.add(b)), { inputs: Array.from({ length: 20 }, () => ({ shape: [4] })) }).graph, target)
  expect(program.steps.length).toBeGreaterThan(1)
  expect(Math.max(...program.steps.map((s) => (s.kind === 'dispatch' ? s.buffers.length : 0)))).toBeLessThanOrEqual(8)
})

test('normalisation and activation are one pass after the statistics', () => {
  expect(kernelsOf((x, g, b) => batchNorm(x, g, b)[0].relu(), [2, 3, 4, 4], [3], [3])).toEqual([
    'batchNorm planes',
    'batchNorm channels',
    'sub+mul+mul+add+relu',
  ])
})

// conv -> norm by given statistics -> relu, plus an input; parameters are states, which `update` changes if it is given.
function normalisedSteps(conv: (b: GraphBuilder, x: Tensor) => Tensor, update?: string): readonly string[] {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2, 4, 6, 6])
  const [gamma, beta, mean, variance] = ['gamma', 'beta', 'mean', 'variance'].map((name) => b.readState(name, 'buffer', 'float32', [4]))
  if (!gamma || !beta || !mean || !variance) throw new Error('four states')
  if (update) b.writeState(update, 'buffer', 'float32', [4], gamma.mul(2))
  b.output('y', batchNormInference(conv(b, x), gamma, beta, mean, variance).add(x).relu())
  const { program } = lower(b.build(), target)
  return program.steps.slice(program.fixedSteps).map((step) => (step.kind === 'dispatch' ? step.kernel.label : step.kind))
}

test('a normalisation by given statistics, what is added and the activation are done by the convolution', () => {
  const weight = (b: GraphBuilder): Tensor => b.readState('w', 'parameter', 'float32', [4, 4, 3, 3])
  const bases = (b: GraphBuilder): Tensor => b.readState('w', 'parameter', 'float32', [3, 4, 4, 3, 3])
  const pi = (b: GraphBuilder): Tensor => b.input('pi', 'float32', [2, 3])
  expect(normalisedSteps((b, x) => conv2d(x, weight(b), { padding: 1 }))).toEqual(['conv2d+add+relu'])
  expect(normalisedSteps((b, x) => dynamicConv2d(x, bases(b), pi(b), { padding: 1, form: 'kernels' }))).toEqual(['aggregate', 'conv2d+add+relu'])
  expect(normalisedSteps((b, x) => dynamicConv2d(x, bases(b), pi(b), { padding: 1, form: 'kernels', bias: b.readState('b', 'parameter', 'float32', [3, 4]) }))).toEqual(['matmul', 'mul+add', 'aggregate', 'conv2d+add+relu'])
  // Where the program itself changes what would be folded, kernels would have to be scaled in every run.
  expect(normalisedSteps((b, x) => conv2d(x, weight(b), { padding: 1 }), 'gamma')).toEqual(['conv2d', 'mul', 'sub+mul+mul+add+add+relu'])
  // A kernel of its own is not scaled: it is an input.
  expect(normalisedSteps((b, x) => conv2d(x, b.input('w', 'float32', [4, 4, 3, 3]), { padding: 1 }))).toEqual(['conv2d', 'sub+mul+mul+add+add+relu'])
})

test('a convolution does not find out coordinates for what follows it', () => {
  expect(kernelsOf((x, w, c) => conv2d(x, w).mul(c).relu(), [2, 4, 6, 6], [4, 4, 1, 1], [4, 1, 1])).toEqual(['conv2d', 'mul+relu'])
  expect(kernelsOf((x, w, c) => conv2d(x, w).mul(c).relu(), [2, 4, 6, 6], [4, 4, 1, 1], [1])).toEqual(['conv2d+mul+relu'])
})

// The program of a convolution and of its gradients.
function convSteps(options: LowerOptions, size: number, kind: Target['kind'] = 'software'): readonly string[] {
  const images = { shape: [2, 16, size, size] }
  const { graph } = trace((x, w, pi, dy) => gradients(dynamicConv2d(x, w, pi, { padding: 1, form: 'kernels' }).mul(dy).sum(), [x, w, pi]), {
    inputs: [images, { shape: [3, 16, 16, 3, 3] }, { shape: [2, 3] }, images],
  })
  const { program } = lower(graph, { ...target, tiledMacs: 1, kind }, options)
  return program.steps.map((step) => (step.kind === 'dispatch' ? step.kernel.label : 'copy'))
}

test('the gradient of bases is taken apart transformed, chunk by chunk, where Winograd can', () => {
  const transformedKernelBytes = 16 * 16 * 16 * 4
  expect(convSteps({}, 8).filter((label) => /winograd|contract/.test(label))).toEqual([
    'winograd kernels',
    'winograd patches',
    'winograd tiles',
    'winograd gradient products',
    'contract',
    'winograd gradient',
  ])
  const chunked = convSteps({ memoryBudgetBytes: transformedKernelBytes }, 8)
  expect(chunked.filter((label) => label === 'contract')).toHaveLength(2)
})

test('what was found to be fast goes before the rule, and a preference before both', () => {
  const found = new Map<string, Algorithm>([['filterGrad 2x16x8x8 -> 16x8x8, 3x3 s1,1 p1,1,1,1 d1,1 g1 float32 each', 'direct']])
  expect(convSteps({ found }, 8)).toContain('conv2dFilterGrad direct')
  expect(convSteps({ found, prefer: 'winograd' }, 8)).toContain('winograd gradient products')
  expect(convSteps({}, 8, 'gpu')).toContain('conv2dFilterGrad tiled')
})

test('a processor takes Winograd where its saved products pay for transforms and larger kernels', () => {
  const labels = (size: number, channels: number): readonly string[] => {
    const { graph } = trace((x, w, pi) => dynamicConv2d(x, w, pi, { padding: 1, form: 'kernels' }), {
      inputs: [{ shape: [2, channels, size, size] }, { shape: [3, channels, channels, 3, 3] }, { shape: [2, 3] }],
    })
    return lower(graph, target).program.steps.map((step) => (step.kind === 'dispatch' ? step.kernel.label : 'copy'))
  }
  expect(labels(28, 32)).toEqual(['winograd kernels', 'aggregate', 'winograd patches', 'winograd products', 'winograd output'])
  expect(labels(3, 128)).toEqual(['aggregate', 'conv2d direct'])
  expect(labels(28, 16)).toEqual(['aggregate', 'conv2d direct'])
})

test('on cards kernels of small images are mixed as they are loaded', () => {
  const labels = (kind: Target['kind'], batch: number, channels: number, size: number): readonly string[] => {
    const b = new GraphBuilder(ops)
    const bases = b.readState('w', 'buffer', 'float32', [3, channels, channels, 3, 3])
    b.output('y', dynamicConv2d(b.input('x', 'float32', [batch, channels, size, size]), bases, b.input('pi', 'float32', [batch, 3]), { padding: 1, form: 'kernels' }))
    return lower(b.build(), { ...target, tiledMacs: 1, kind }).program.steps.map((step) => (step.kind === 'dispatch' ? step.kernel.label : 'copy'))
  }
  expect(labels('gpu', 1, 12, 7)).toEqual(['pack', 'dynamicConv2d tiled'])
  expect(labels('gpu', 8, 12, 7)).toEqual(['pack', 'aggregate', 'conv2d tiled'])
  expect(labels('software', 1, 12, 7)).toEqual(['pack', 'aggregate', 'conv2d direct'])
  expect(labels('gpu', 8, 128, 14)).toEqual(['winograd kernels', 'winograd patches', 'winograd products', 'winograd output'])
  expect(labels('gpu', 2, 64, 56)).toEqual(['winograd kernels', 'winograd patches', 'aggregate', 'winograd products', 'winograd output'])
  expect(labels('gpu', 2, 64, 14)).toEqual(['pack', 'aggregate', 'conv2d tiled', 'reduceSum'])
})

// What is needed from the first step that touches it to the last.
function overlaps(steps: readonly Step[], a: PlanBuffer, b: PlanBuffer): boolean {
  const span = (buffer: PlanBuffer): readonly number[] => steps.flatMap((s, i) => ((s.kind === 'dispatch' ? s.buffers : [s.from, s.to]).includes(buffer) ? [i] : []))
  const [x, y] = [span(a), span(b)]
  return Math.min(...x) <= Math.max(...y) && Math.min(...y) <= Math.max(...x)
}

test('buffers that share memory are never needed together, and a chain needs two', () => {
  const step = (x: Tensor): Tensor => x.softmax(0)
  const { program } = lower(trace((x) => step(step(step(step(step(step(x)))))), { inputs: [{ shape: [64] }] }).graph, target)
  const plan = planMemory(program)
  const temporaries = program.buffers.filter((b) => b.source.kind === 'temporary')
  expect(temporaries).toHaveLength(6)
  expect(plan.pieces).toEqual([256, 256])
  expect(plan.unsharedBytes).toBe(6 * 256)
  const pairs = temporaries.flatMap((a) => temporaries.filter((b) => a !== b && plan.pieceOf.get(a.id) === plan.pieceOf.get(b.id)).map((b) => [a, b] as const))
  expect(pairs.filter(([a, b]) => overlaps(program.steps, a, b))).toEqual([])
})
