import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { DTypeError, ShapeError, ValueError } from '../backend/errors.ts'
import { trace } from '../graph/trace.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { decomposed, largestDifference, run } from '../testing/compare.ts'
import { checkGradient, checkSecondOrder, randomRef } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type Shape, sizeOf, type StaticShape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { DynamicConv2dAttrs, DynamicConvForm, OpName } from './attrs.ts'
import { conv2d, convAttrs, pixels } from './conv.ts'
import type { RefTensor, ValueType } from './define.ts'
import { type DynamicConv2dOpOptions, dynamicConv2d, dynamicConvOps } from './dynamicConv.ts'

const f32 = (...shape: Shape): ValueType => ({ dtype: 'float32', shape })
const unit: DynamicConv2dAttrs = { stride: [1, 1], padding: [0, 0, 0, 0], dilation: [1, 1], groups: 1, form: 'auto' }

test('each sample has its own mixture of kernels and biases', () => {
  // Two samples of two pixels, two 1x1 bases 1 and 10, biases 100 and 200: kernels 1 and 0.5 + 5 = 5.5.
  const x = tensor([1, 2, 4, 6], [2, 1, 1, 2])
  const bases = tensor([1, 10], [2, 1, 1, 1, 1])
  const pi = tensor([1, 0, 0.5, 0.5], [2, 2])
  expect(apply((a, w, p) => dynamicConv2d(a, w, p), x, bases, pi)).toEqual({ dtype: 'float32', shape: [2, 1, 1, 2], values: [1, 2, 22, 33] })
  expect(apply((a, w, p, c) => dynamicConv2d(a, w, p, { bias: c }), x, bases, pi, tensor([100, 200], [2, 1])).values).toEqual([101, 102, 172, 183])
})

test('gradients by hand: the sum of the output', () => {
  // y_b = (pi_b . w) x_b + pi_b . c over two pixels, with sums X = (3, 10): dx_b = pi_b . w, dw_k = sum_b pi_bk X_b,
  // dpi_bk = w_k X_b + 2 c_k, dc_k = 2 sum_b pi_bk.
  const inputs = [tensor([1, 2, 4, 6], [2, 1, 1, 2]), tensor([1, 10], [2, 1, 1, 1, 1]), tensor([1, 0, 0.5, 0.5], [2, 2]), tensor([100, 200], [2, 1])]
  expect(gradientsOfSum((a, w, p, c) => dynamicConv2d(a, w, p, { bias: c }), ...inputs)).toEqual([
    [1, 1, 5.5, 5.5],
    [8, 5],
    [203, 430, 210, 500],
    [3, 1],
  ])
})

test('one base with weight 1 is an ordinary convolution', () => {
  const [x, w] = [randomRef([2, 4, 5, 5], 1), randomRef([6, 2, 3, 3], 2)]
  const options = { stride: 2, padding: 1, groups: 2 }
  const ordinary = run((a, b) => conv2d(a, b, options), [x, w])
  expect(largestDifference(run((a, b) => dynamicConv2d(a, b.reshape([1, 6, 2, 3, 3]), a.full(1, [2, 1]), options), [x, w]), ordinary)).toBe(0)
})

interface Case {
  readonly batch: number
  readonly x: StaticShape
  readonly bases: StaticShape
  readonly options?: DynamicConv2dOpOptions
  readonly bias?: boolean
}

const cases: Readonly<Record<string, Case>> = {
  '1x1': { batch: 2, x: [2, 2, 2], bases: [2, 3, 2, 1, 1] },
  'one base, one sample': { batch: 1, x: [1, 3, 3], bases: [1, 2, 1, 2, 2], bias: true },
  '3x3, bias': { batch: 3, x: [2, 4, 4], bases: [2, 2, 2, 3, 3], options: { padding: 1 }, bias: true },
  groups: { batch: 2, x: [4, 3, 3], bases: [3, 6, 2, 2, 2], options: { groups: 2 }, bias: true },
  depthwise: { batch: 2, x: [3, 4, 3], bases: [2, 6, 1, 2, 3], options: { groups: 3, padding: [1, 1], stride: 2 } },
  'stride and dilation, unequal sides, not square': {
    batch: 2,
    x: [2, 6, 5],
    bases: [2, 2, 2, 3, 2],
    options: { stride: [2, 1], dilation: [1, 2], padding: [2, 0, 1, 0] },
  },
  'pixels left over, groups, stride, dilation': { batch: 3, x: [4, 5, 6], bases: [2, 4, 2, 2, 2], options: { groups: 2, stride: [3, 2], dilation: [2, 1], padding: [0, 1, 0, 0] }, bias: true },
}

const names = Object.keys(cases)
const forms = ['kernels', 'outputs'] as const
const each = names.flatMap((name) => forms.map((form) => ({ name, form })))
const inputsOf = ({ batch, x, bases, bias }: Case): readonly RefTensor[] => [
  randomRef([batch, ...x], 1),
  randomRef(bases, 2),
  randomRef([batch, bases[0]!], 3),
  ...(bias ? [randomRef(bases.slice(0, 2), 4)] : []),
]
const layer = ({ options }: Case, form: DynamicConvForm) => (x: Tensor, bases: Tensor, pi: Tensor, bias?: Tensor): Tensor => dynamicConv2d(x, bases, pi, { ...options, bias, form })
const caseOf = (name: string): Case => cases[name]!
const count = (inputs: readonly RefTensor[]): number => inputs.reduce((sum, t) => sum + sizeOf(t.shape), 0)

test.each(each)('gradients, first and second: $name, $form', ({ name, form }) => {
  const inputs = inputsOf(caseOf(name))
  expect(checkGradient(layer(caseOf(name), form), inputs).count).toBe(count(inputs))
  expect(checkSecondOrder(layer(caseOf(name), form), inputs).count).toBe(count(inputs))
})

test.each(each)('the decomposition agrees with the definition: $name, $form', ({ name, form }) => {
  const inputs = inputsOf(caseOf(name))
  expect(largestDifference(run(decomposed(layer(caseOf(name), form)), inputs), run(layer(caseOf(name), form), inputs))).toBeLessThan(1e-12)
})

// The two gradient ops alone, as functions of x, bases, pi and dy.
type GradOp = (...inputs: Tensor[]) => readonly Tensor[]

function inputGradOf({ options = {} }: Case, form: DynamicConvForm): GradOp {
  return (...inputs) => {
    const [x, bases, pi, dy] = inputs as [Tensor, Tensor, Tensor, Tensor]
    return x.graph.emit('dynamicConv2dInputGrad', { ...convAttrs('test', bases, options), form, inputSize: pixels(x) }, [dy, bases, pi])
  }
}

function kernelGradOf({ options = {} }: Case, form: DynamicConvForm, chunk = 0): GradOp {
  return (...inputs) => {
    const [x, bases, pi, dy] = inputs as [Tensor, Tensor, Tensor, Tensor]
    return x.graph.emit('dynamicConv2dKernelGrad', { ...convAttrs('test', bases, options), form, kernelSize: pixels(bases), chunk }, [x, dy, bases, pi])
  }
}

function gradInputs(c: Case): readonly RefTensor[] {
  const inputs = inputsOf({ ...c, bias: false })
  const [y] = run(layer(c, 'auto'), inputs)
  return [...inputs, randomRef(y!.shape, 5)]
}

test.each(each)('the gradient ops agree with their decompositions: $name, $form', ({ name, form }) => {
  const inputs = gradInputs(caseOf(name))
  for (const whole of [inputGradOf(caseOf(name), form), kernelGradOf(caseOf(name), form)]) {
    expect(largestDifference(run(decomposed(whole), inputs), run(whole, inputs))).toBeLessThan(1e-12)
  }
})

test.each(each)('gradients of the gradient ops: $name, $form', ({ name, form }) => {
  const inputs = gradInputs(caseOf(name))
  expect(checkGradient(inputGradOf(caseOf(name), form), inputs, { wrt: [1, 2, 3] }).count).toBe(count(inputs.slice(1)))
  expect(checkGradient(kernelGradOf(caseOf(name), form, 2), inputs).count).toBe(count(inputs))
})

test.each([1, 2, 3, 4, 5, 9])('the kernel gradient in chunks of %d of 5 samples', (chunk) => {
  const c: Case = { ...caseOf('groups'), batch: 5 }
  const inputs = gradInputs(c)
  const chunked = kernelGradOf(c, 'kernels', chunk)
  expect(largestDifference(run(decomposed(chunked), inputs), run(chunked, inputs))).toBeLessThan(1e-12)
  const nodes = trace(decomposed(chunked), { inputs }).graph.nodes
  const filterGrads = nodes.filter((n) => n.op === 'conv2dFilterGrad')
  expect(filterGrads.length).toBe(Math.ceil(5 / chunk))
  // Streaming: a chunk's part is added before the next chunk's kernels are made.
  const at = (op: OpName): number[] => nodes.flatMap((n, i) => (n.op === op ? [i] : []))
  const [made, added] = [at('conv2dFilterGrad'), at('add')]
  expect(added.length).toBe(made.length - 1)
  added.forEach((i, k) => {
    expect(i).toBeGreaterThan(made[k + 1]!)
    expect(i).toBeLessThan(made[k + 2] ?? nodes.length)
  })
})

test('integers come out exactly in both forms', () => {
  const counting = (...shape: number[]): RefTensor => ({ shape, data: Float64Array.from({ length: sizeOf(shape) }, (_, i) => (i % 7) - 3) })
  const c = caseOf('pixels left over, groups, stride, dilation')
  const inputs = [counting(c.batch, ...c.x), counting(...c.bases), counting(c.batch, c.bases[0]!), counting(...c.bases.slice(0, 2))]
  const whole = run(layer(c, 'auto'), inputs)
  for (const form of forms) expect(largestDifference(run(decomposed(layer(c, form) as (...t: Tensor[]) => Tensor), inputs), whole)).toBe(0)
})

test('second derivatives with the routing in the graph: pi depends on x', () => {
  const routed = (x: Tensor, bases: Tensor, routing: Tensor): Tensor => {
    const pi = x.mean([2, 3]).matmul(routing).softmax()
    return dynamicConv2d(x, bases, pi, { padding: 1 })
  }
  const inputs = [randomRef([2, 2, 3, 3], 1), randomRef([2, 2, 2, 3, 3], 2), randomRef([2, 2], 3)]
  expect(checkGradient(routed, inputs).count).toBe(count(inputs))
  expect(checkSecondOrder(routed, inputs).count).toBe(count(inputs))
})

test('an empty batch gives empty images and zero gradients, in every form', () => {
  const [bases, bias] = [tensor(new Float32Array(8).fill(1), [2, 2, 2, 1, 1]), tensor([1, 2, 3, 4], [2, 2])]
  for (const form of ['auto', 'kernels', 'outputs'] as const) {
    const f = (x: Tensor, w: Tensor, p: Tensor, c: Tensor): Tensor => dynamicConv2d(x, w, p, { form, bias: c })
    const inputs = [tensor([], [0, 2, 3, 3]), bases, tensor([], [0, 2]), bias]
    expect(apply((...t) => f(t[0]!, t[1]!, t[2]!, t[3]!), ...inputs)).toEqual({ dtype: 'float32', shape: [0, 2, 3, 3], values: [] })
    expect(apply((...t) => only(decomposed((...u) => f(u[0]!, u[1]!, u[2]!, u[3]!))(...t)), ...inputs).shape).toEqual([0, 2, 3, 3])
    expect(gradientsOfSum((...t) => f(t[0]!, t[1]!, t[2]!, t[3]!), ...inputs)).toEqual([[], new Array(8).fill(0), [], [0, 0, 0, 0]])
  }
})

test('form outputs lets the batch be a name, and so does auto; form kernels needs it', () => {
  const types = [f32('B', 4, 8, 8), f32(3, 6, 2, 3, 3), f32('B', 3)]
  const lowered = (form: DynamicConvForm) => (x: Tensor, w: Tensor, p: Tensor): Tensor => only(decomposed((a, b, c) => dynamicConv2d(a, b, c, { groups: 2, form }))(x, w, p))
  expect(typeOfResult((x, w, p) => dynamicConv2d(x, w, p, { groups: 2 }), ...types)).toEqual(f32('B', 6, 6, 6))
  expect(typeOfResult(lowered('outputs'), ...types)).toEqual(f32('B', 6, 6, 6))
  expect(typeOfResult(lowered('auto'), ...types)).toEqual(f32('B', 6, 6, 6))
  expect(() => typeOfResult(lowered('kernels'), ...types)).toThrow("dynamicConv2d: the batch (in form 'kernels') must be a known size, got B; specialise the graph first")
  const attrs = { ...unit, groups: 2, form: 'outputs' as const }
  const inputGrad = (dy: Tensor, w: Tensor, p: Tensor): Tensor => only(dynamicConvOps.dynamicConv2dInputGrad.decompose!({ ...attrs, inputSize: [8, 8] }, [dy, w, p]))
  expect(typeOfResult(inputGrad, f32('B', 6, 6, 6), types[1]!, types[2]!)).toEqual(types[0])
  const kernelGrad = (x: Tensor, dy: Tensor, w: Tensor, p: Tensor): readonly Tensor[] =>
    dynamicConvOps.dynamicConv2dKernelGrad.decompose!({ ...attrs, kernelSize: [3, 3], chunk: 0 }, [x, dy, w, p])
  for (const which of [0, 1]) expect(typeOfResult((...t) => kernelGrad(t[0]!, t[1]!, t[2]!, t[3]!)[which]!, types[0]!, f32('B', 6, 6, 6), types[1]!, types[2]!)).toEqual(types[1 + which])
})

test('form kernels is one product and one convolution; form outputs one convolution and one product', () => {
  const types = [f32(2, 4, 8, 8), f32(3, 6, 2, 3, 3), f32(2, 3)]
  for (const form of forms) {
    const { nodes } = trace((...t) => decomposed((a, b, c) => dynamicConv2d(a, b, c, { groups: 2, form }))(...t), { inputs: types }).graph
    const ops = nodes.map((n) => n.op).filter((op) => op !== 'dynamicConv2d' && op !== 'reshape')
    expect(ops).toEqual(form === 'kernels' ? ['matmul', 'conv2d'] : ['transpose', 'conv2d', 'matmul'])
  }
})

test('only what is needed: a gradient by x alone makes no kernel gradient', () => {
  const ops = (which: number) => {
    const f = (...t: Tensor[]): readonly Tensor[] => gradients(dynamicConv2d(t[0]!, t[1]!, t[2]!).sum(), [t[which]!])
    return trace(f, { inputs: [f32(2, 2, 3, 3), f32(2, 2, 2, 1, 1), f32(2, 2)] }).graph.nodes.map((n) => n.op)
  }
  expect(ops(0)).toContain('dynamicConv2dInputGrad')
  expect(ops(0)).not.toContain('dynamicConv2dKernelGrad')
  expect(ops(1)).toContain('dynamicConv2dKernelGrad')
  expect(ops(1)).not.toContain('dynamicConv2dInputGrad')
})

test('what dynamicConv2d refuses, and says', () => {
  const infer = (x: ValueType, bases: ValueType, pi: ValueType, attrs: Partial<DynamicConv2dAttrs> = {}, ...bias: ValueType[]) =>
    dynamicConvOps.dynamicConv2d.infer({ ...unit, ...attrs }, [x, bases, pi, ...bias])
  const [x, bases, pi] = [f32(2, 64, 7, 7), f32(4, 64, 64, 3, 3), f32(2, 4)]
  expect(() => infer(x, bases, f32(2, 3))).toThrow(new ShapeError('dynamicConv2d: pi must be [B, 4], a weight for each of the 4 bases, got [2, 3]'))
  expect(() => infer(x, bases, f32(3, 4))).toThrow(new ShapeError('dynamicConv2d: x has batch 2, pi has batch 3; they must be equal'))
  expect(() => infer(f32('N', 64, 7, 7), bases, f32('M', 4))).toThrow('dynamicConv2d: x has batch N, pi has batch M; they must be equal')
  expect(() => infer(x, f32(64, 64, 3, 3), pi)).toThrow(new ShapeError('dynamicConv2d: bases must be [K, O, I/groups, kh, kw], got [64, 64, 3, 3]'))
  expect(() => infer(x, f32(0, 64, 64, 3, 3), f32(2, 0))).toThrow('dynamicConv2d: bases must not be empty, got [0, 64, 64, 3, 3]')
  expect(() => infer(x, bases, pi, { groups: 3 })).toThrow(new ShapeError('dynamicConv2d: groups=3 must divide inChannels=64'))
  expect(() => infer(x, f32(4, 64, 32, 3, 3), pi)).toThrow(new ShapeError('dynamicConv2d: bases takes 32 channels a group, but x has 64'))
  expect(() => infer(x, f32(4, 64, 64, 9, 9), pi)).toThrow('dynamicConv2d: kernel 9x9 is larger than the padded input 7x7')
  expect(() => infer(f32(2, 64, 0, 7), bases, pi, { padding: [2, 2, 2, 2] })).toThrow(new ShapeError('dynamicConv2d: the input has no pixels (0x7)'))
  expect(() => infer(x, bases, pi, {}, f32(64))).toThrow(new ShapeError('dynamicConv2d: bias must be [4, 64], got [64]'))
  expect(() => infer(x, bases, pi, { form: 'fast' as DynamicConvForm })).toThrow(new ValueError('dynamicConv2d: form must be auto, kernels, outputs, got fast'))
  expect(() => infer(x, bases, { dtype: 'float16', shape: [2, 4] })).toThrow(DTypeError)
  expect(() => dynamicConvOps.dynamicConv2d.infer(unit, [x, bases])).toThrow('dynamicConv2d: takes 4 inputs (x, bases, pi, bias), got 2')
})

test('what the gradients refuse', () => {
  const [x, dy, bases, pi] = [f32(2, 4, 8, 8), f32(2, 6, 6, 6), f32(3, 6, 4, 3, 3), f32(2, 3)]
  const kernelGrad = (kernelSize: readonly [number, number], chunk: number, ...inputs: ValueType[]) => dynamicConvOps.dynamicConv2dKernelGrad.infer({ ...unit, kernelSize, chunk }, inputs)
  expect(kernelGrad([3, 3], 1, x, dy, bases, pi)).toEqual([bases, pi])
  expect(() => kernelGrad([3, 3], -1, x, dy, bases, pi)).toThrow('dynamicConv2dKernelGrad: chunk=-1 must be an integer >= 0')
  expect(() => kernelGrad([3, 2], 0, x, dy, bases, pi)).toThrow('dynamicConv2dKernelGrad: kernelSize [3, 2] must be that of bases, [3, 3]')
  expect(() => kernelGrad([3, 3], 0, x, f32(2, 6, 6, 5), bases, pi)).toThrow('dynamicConv2dKernelGrad: dy is 6x5, but an input of 8x8 gives 6x6')
  expect(() => kernelGrad([3, 3], 0, x, f32(2, 5, 6, 6), bases, pi)).toThrow('dynamicConv2dKernelGrad: dy has 5 channels, but the kernels make 6')
  const inputGrad = (inputSize: readonly [number, number], ...inputs: ValueType[]) => dynamicConvOps.dynamicConv2dInputGrad.infer({ ...unit, inputSize }, inputs)
  expect(inputGrad([8, 8], dy, bases, pi)).toEqual(x)
  expect(() => inputGrad([9, 8], dy, bases, pi)).toThrow('dynamicConv2dInputGrad: dy is 6x6, but an input of 9x8 gives 7x6')
})

test('multiply-adds of both forms', () => {
  const [x, bases, pi, y] = [[2, 4, 8, 8], [3, 6, 2, 3, 3], [2, 3], [2, 6, 6, 6]]
  const [n, outputs] = [6 * 2 * 3 * 3, 2 * 6 * 6 * 6]
  const convolution = outputs * 2 * 3 * 3
  const macs = (form: DynamicConvForm) => dynamicConvOps.dynamicConv2d.macs?.({ ...unit, groups: 2, form }, [x, bases, pi], [y])
  expect(macs('kernels')).toBe(convolution + 2 * 3 * n)
  expect(macs('auto')).toBe(convolution + 2 * 3 * n)
  expect(macs('outputs')).toBe(3 * (convolution + outputs))
  const inputGrad = (form: DynamicConvForm) => dynamicConvOps.dynamicConv2dInputGrad.macs?.({ ...unit, groups: 2, form, inputSize: [8, 8] }, [y, bases, pi], [x])
  expect(inputGrad('kernels')).toBe(convolution + 2 * 3 * n)
  expect(inputGrad('outputs')).toBe(3 * (convolution + outputs))
  const kernelGrad = (form: DynamicConvForm) => dynamicConvOps.dynamicConv2dKernelGrad.macs?.({ ...unit, groups: 2, form, kernelSize: [3, 3], chunk: 0 }, [x, y, bases, pi], [bases, pi])
  expect(kernelGrad('kernels')).toBe(convolution + 2 * 2 * 3 * n)
  expect(kernelGrad('outputs')).toBe(2 * 3 * (convolution + outputs))
})
