import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { trace } from '../graph/trace.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { checkGradient, checkSecondOrder, randomRef, ref } from '../testing/gradcheck.ts'
import type { DType } from '../tensor/dtype.ts'
import { type HostTensor, tensor } from '../tensor/hostTensor.ts'
import { type StaticShape, sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { RefTensor, ValueType } from './define.ts'
import { reduceOps } from './reduce.ts'

const { reduceSum, reduceMax, argMax, softmax, logSoftmax } = reduceOps
const { NaN: nan, POSITIVE_INFINITY: inf } = Number
const of = (dtype: DType, ...shape: (number | string)[]): ValueType => ({ dtype, shape })
const counting = (...shape: number[]): HostTensor => tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => i + 1), shape)

test('sums over any axes, kept or not', () => {
  expect(apply((x) => x.sum(), counting(2, 3))).toEqual({ dtype: 'float32', shape: [], values: [21] })
  expect(apply((x) => x.sum([0]), counting(2, 3))).toEqual({ dtype: 'float32', shape: [3], values: [5, 7, 9] })
  expect(apply((x) => x.sum([-1], true), counting(2, 3))).toEqual({ dtype: 'float32', shape: [2, 1], values: [6, 15] })
  expect(apply((x) => x.sum([0, 2]), counting(2, 2, 2))).toEqual({ dtype: 'float32', shape: [2], values: [14, 22] })
  expect(apply((x) => x.sum([]), counting(2))).toEqual({ dtype: 'float32', shape: [2], values: [1, 2] })
  expect(apply((x) => x.sum(), tensor(3)).values).toEqual([3])
  expect(apply((x) => x.sum([1]), counting(2, 0))).toEqual({ dtype: 'float32', shape: [2], values: [0, 0] })
  expect(apply((x) => x.sum([0]), counting(2, 0))).toEqual({ dtype: 'float32', shape: [0], values: [] })
  expect(apply((x) => x.sum(), tensor([2 ** 31 - 1, 2], [2], 'int32'))).toEqual({ dtype: 'int32', shape: [], values: [-(2 ** 31) + 1] })
  expect(apply((x) => x.mean([1]), counting(2, 3)).values).toEqual([2, 5])
})

test('the largest over any axes; NaN wins', () => {
  const x = tensor([3, -1, 2, -5, -4, -6], [2, 3])
  expect(apply((t) => t.maxOver(), x)).toEqual({ dtype: 'float32', shape: [], values: [3] })
  expect(apply((t) => t.maxOver([1]), x)).toEqual({ dtype: 'float32', shape: [2], values: [3, -4] })
  expect(apply((t) => t.maxOver([0], true), x)).toEqual({ dtype: 'float32', shape: [1, 3], values: [3, -1, 2] })
  expect(apply((t) => t.maxOver([0]), tensor([1, nan, nan, 5], [2, 2])).values).toEqual([nan, nan])
  expect(apply((t) => t.maxOver(), tensor([-inf, -inf])).values).toEqual([-inf])
  expect(apply((t) => t.maxOver(), tensor([-7, -9], [2], 'int32'))).toEqual({ dtype: 'int32', shape: [], values: [-7] })
  expect(apply((t) => t.maxOver([0]), counting(2, 0))).toEqual({ dtype: 'float32', shape: [0], values: [] })
})

test('argMax is the first largest, or the first NaN', () => {
  expect(apply((x) => x.argMax(), tensor([1, 3, 3, 2, 2, 2], [2, 3]))).toEqual({ dtype: 'int32', shape: [2], values: [1, 0] })
  expect(apply((x) => x.argMax(0), tensor([1, 3, 3, 2, 2, 4], [2, 3]))).toEqual({ dtype: 'int32', shape: [3], values: [1, 0, 1] })
  expect(apply((x) => x.argMax(1), counting(2, 2, 2)).values).toEqual([1, 1, 1, 1])
  expect(apply((x) => x.argMax(), tensor([1, nan, inf, nan])).values).toEqual([1])
  expect(apply((x) => x.argMax(), tensor([nan, 5])).values).toEqual([0])
  expect(apply((x) => x.argMax(), tensor([-inf, -inf])).values).toEqual([0])
  expect(apply((x) => x.argMax(), tensor([-5, -2], [2], 'int32')).values).toEqual([1])
})

test('softmax and its logarithm normalise along their axis', () => {
  const x = tensor([Math.log(1), Math.log(3), 0, 0], [2, 2])
  const close = (fn: (x: Tensor) => Tensor, input: HostTensor, expected: readonly number[]): void => {
    const { values } = apply(fn, input)
    expect(values).toHaveLength(expected.length)
    values.forEach((v, i) => expect(v).toBeCloseTo(expected[i] ?? nan, 6))
  }
  close((t) => t.softmax(), x, [0.25, 0.75, 0.5, 0.5])
  close((t) => t.softmax(0), x, [0.5, 0.75, 0.5, 0.25])
  close((t) => t.logSoftmax(), x, [Math.log(0.25), Math.log(0.75), Math.log(0.5), Math.log(0.5)])
  expect(apply((t) => t.softmax(), tensor([1000, 1000, -1000])).values).toEqual([0.5, 0.5, 0])
  expect(apply((t) => t.logSoftmax(), tensor([1000, 0])).values).toEqual([0, -1000])
  expect(apply((t) => t.softmax(), tensor([-inf, 0])).values).toEqual([0, 1])
  expect(apply((t) => t.logSoftmax(), tensor([-inf, 0])).values).toEqual([-inf, 0])
  expect(apply((t) => t.softmax(), tensor([nan, 0])).values).toEqual([nan, nan])
  expect(apply((t) => t.softmax(), tensor([-inf, -inf])).values).toEqual([nan, nan])
  expect(apply((t) => t.softmax(1), counting(2, 0))).toEqual({ dtype: 'float32', shape: [2, 0], values: [] })
  expect(apply((t) => t.softmax(0), counting(1, 2)).values).toEqual([1, 1])
  // As long as the pixels of a large image, or a large vocabulary.
  expect(apply((t) => t.softmax(), tensor(new Float32Array(2 ** 18))).values.every((v) => v === 2 ** -18)).toBe(true)
})

test('the decompositions of the softmaxes are the same functions', () => {
  const x = tensor([1000, 999, -3, 0, 0.5, 2], [2, 3])
  const pairs: readonly (readonly [(t: Tensor) => Tensor, (t: Tensor) => Tensor | undefined])[] = [
    [(t) => t.softmax(0), (t) => softmax.decompose?.({ axis: 0 }, [t])[0]],
    [(t) => t.logSoftmax(1), (t) => logSoftmax.decompose?.({ axis: 1 }, [t])[0]],
  ]
  for (const [whole, parts] of pairs) expect(apply((t) => parts(t) ?? t.full(nan), x)).toEqual(apply(whole, x))
})

test('unknown sizes pass through', () => {
  expect(typeOfResult((x) => x.sum([1]), { shape: ['N', 3] }).shape).toEqual(['N'])
  expect(typeOfResult((x) => x.maxOver([0], true), { shape: ['N', 3] }).shape).toEqual([1, 3])
  expect(typeOfResult((x) => x.softmax(), { shape: ['N', 3] }).shape).toEqual(['N', 3])
  expect(typeOfResult((x) => x.argMax(), { shape: ['N', 3] })).toEqual(of('int32', 'N'))
})

test('what does not fit is refused', () => {
  const f32 = of('float32', 2, 3)
  expect(() => reduceSum.infer({ axes: [2], keepDims: false }, [f32])).toThrow('reduceSum: axis=2 is not an axis of a tensor of rank 2')
  expect(() => reduceSum.infer({ axes: [-1], keepDims: false }, [f32])).toThrow('reduceSum: axis=-1 is not an axis of a tensor of rank 2')
  expect(() => reduceSum.infer({ axes: [1, 0], keepDims: false }, [f32])).toThrow('reduceSum: axes [1, 0] must ascend, none twice')
  expect(() => reduceMax.infer({ axes: [1, 1], keepDims: false }, [f32])).toThrow('reduceMax: axes [1, 1] must ascend, none twice')
  expect(() => reduceSum.infer({ axes: 1 as unknown as number[], keepDims: false }, [f32])).toThrow('reduceSum: axes must be a list of integers, got 1')
  expect(() => reduceSum.infer({ axes: [], keepDims: 1 as unknown as boolean }, [f32])).toThrow('reduceSum: keepDims must be true or false, got 1')
  expect(() => reduceSum.infer({ axes: [0], keepDims: true }, [of('bool', 2)])).toThrow('reduceSum: x must be float32 or float16 or int32, got bool')
  expect(() => reduceMax.infer({ axes: [1], keepDims: true }, [of('float32', 2, 0)])).toThrow('reduceMax: axis 1 of [2, 0] is empty, so it has no largest element')
  expect(() => argMax.infer({ axis: 0 }, [of('float32', 0)])).toThrow('argMax: axis 0 of [0] is empty')
  expect(() => argMax.infer({ axis: 0 }, [of('float32')])).toThrow('argMax: axis=0 is not an axis of a tensor of rank 0')
  expect(() => softmax.infer({ axis: 1 }, [of('int32', 2, 3)])).toThrow('softmax: x must be float32 or float16, got int32')
  expect(() => logSoftmax.infer({ axis: 2 }, [f32])).toThrow('logSoftmax: axis=2 is not an axis')
  expect(() => softmax.infer({ axis: 1 }, [f32, f32])).toThrow('softmax: takes 1 input (x), got 2')
})

// Distinct by at least 0.25, so that no maximum is near a tie.
const spread = (shape: StaticShape): RefTensor => ref(shape, Float64Array.from({ length: sizeOf(shape) }, (_, i) => ((i * 7) % 11) / 4))

const cases: readonly (readonly [name: string, fn: (x: Tensor) => Tensor, input: RefTensor])[] = [
  ['sum of all', (x) => x.sum(), randomRef([2, 3], 1)],
  ['sum of a scalar', (x) => x.sum(), randomRef([], 1)],
  ['sum of nothing', (x) => x.sum([1]), randomRef([2, 0], 1)],
  ['sum over outer and inner axes', (x) => x.sum([0, 2]), randomRef([2, 2, 2], 2)],
  ['sum, axes kept', (x) => x.sum([1, 3, 5], true), randomRef([2, 1, 1, 2, 1, 2], 3)],
  ['mean', (x) => x.mean([0]), randomRef([3, 2], 4)],
  ['maximum of all', (x) => x.maxOver(), spread([2, 3])],
  ['maximum over an axis', (x) => x.maxOver([1]), spread([2, 3, 2])],
  ['maximum, axes kept', (x) => x.maxOver([0, 2], true), spread([2, 1, 3])],
  ['maximum of a scalar', (x) => x.maxOver(), spread([])],
  ['maximum over a size of 1', (x) => x.maxOver([0]), spread([1, 3])],
  ['softmax', (x) => x.softmax(), randomRef([2, 3], 5)],
  ['softmax along an outer axis', (x) => x.softmax(0), randomRef([3, 1, 2], 6)],
  ['softmax along a size of 1', (x) => x.softmax(), randomRef([3, 1], 7)],
  ['softmax of rank 6', (x) => x.softmax(3), randomRef([1, 2, 1, 3, 1, 2], 8)],
  ['softmax of nothing', (x) => x.softmax(), randomRef([2, 0], 8)],
  ['logSoftmax', (x) => x.logSoftmax(), randomRef([2, 3], 9)],
  ['logSoftmax along an outer axis', (x) => x.logSoftmax(0), randomRef([3, 1, 2], 10)],
  ['softmax by its parts', (x) => softmax.decompose?.({ axis: 1 }, [x])[0] ?? x, spread([2, 3])],
  ['logSoftmax by its parts', (x) => logSoftmax.decompose?.({ axis: 1 }, [x])[0] ?? x, spread([2, 3])],
]

test.each(cases)('the gradient of %s agrees with differences, twice over', (_, fn, input) => {
  expect(checkGradient(fn, [input]).worst).toBeLessThan(1e-6)
  expect(checkSecondOrder((x) => fn(x).mul(0.5).tanh(), [input]).worst).toBeLessThan(1e-6)
})

test('ties share the gradient of a maximum', () => {
  expect(gradientsOfSum((x) => x.maxOver([1]), tensor([2, 2, 1, 5, 5, 5, 5, 0, 0], [3, 3]))).toEqual([[0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3, 1, 0, 0]])
})

test('half precision stays half precision in the gradient', () => {
  const { graph } = trace((x) => gradients(x.maxOver([1], true).sub(x.softmax()).mul(x.logSoftmax(0)).sum(), [x]), { inputs: [{ shape: [2, 3], dtype: 'float16' }] })
  expect(graph.values.filter((v) => v.dtype === 'float32')).toEqual([])
  expect(graph.outputs.map((o) => graph.values[o.value])).toEqual([{ dtype: 'float16', shape: [2, 3] }])
})
