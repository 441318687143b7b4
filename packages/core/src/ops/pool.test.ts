import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { decomposed, largestDifference, run } from '../testing/compare.ts'
import { checkGradient, checkSecondOrder, randomRef, ref } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type Shape, sizeOf, type StaticShape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { Pool2dAttrs } from './attrs.ts'
import type { RefTensor, ValueType } from './define.ts'
import { type AvgPool2dOptions, avgPool2d, globalAvgPool2d, maxPool2d, type Pool2dOptions, poolOps } from './pool.ts'

const f32 = (...shape: Shape): ValueType => ({ dtype: 'float32', shape })
const counting = (...shape: number[]) => tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => i), shape)
const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN]

test('max of windows side by side', () => {
  expect(apply((x) => maxPool2d(x, { kernelSize: 2 }), counting(1, 1, 4, 4))).toEqual({ dtype: 'float32', shape: [1, 1, 2, 2], values: [5, 7, 13, 15] })
})

test('the padding of a max counts as -infinity, not as zero', () => {
  const x = tensor([-1, -2, -3, -4], [1, 1, 2, 2])
  expect(apply((t) => maxPool2d(t, { kernelSize: 2, stride: 1, padding: 1 }), x).values).toEqual([-1, -1, -2, -1, -1, -2, -3, -3, -4])
})

test('NaN is larger than every number; -infinity stays', () => {
  const x = tensor([1, nan, inf, 2, -inf, -inf, -inf, -inf], [1, 1, 2, 4])
  expect(apply((t) => maxPool2d(t, { kernelSize: [1, 2] }), x).values).toEqual([nan, inf, -inf, -inf])
})

test('the gradient of a max goes to the first largest element, and overlapping windows add', () => {
  expect(gradientsOfSum((x) => maxPool2d(x, { kernelSize: 2, stride: 1 }), tensor([1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 3, 3]))).toEqual([[1, 1, 0, 1, 1, 0, 0, 0, 0]])
  // The 9 in the middle is the largest of all four windows.
  expect(gradientsOfSum((x) => maxPool2d(x, { kernelSize: 2, stride: 1 }), tensor([1, 2, 3, 4, 9, 5, 6, 7, 8], [1, 1, 3, 3]))).toEqual([[0, 0, 0, 0, 4, 0, 0, 0, 0]])
  expect(gradientsOfSum((x) => maxPool2d(x, { kernelSize: [1, 3] }), tensor([5, 2, 5, 3, nan, nan, -inf, -inf, -inf], [1, 1, 1, 9]))).toEqual([[1, 0, 0, 0, 1, 0, 1, 0, 0]])
})

test('means, with the padding counted or not', () => {
  const x = tensor([4, 8, 12, 16], [1, 1, 2, 2])
  expect(apply((t) => avgPool2d(t, { kernelSize: 2 }), x).values).toEqual([10])
  expect(apply((t) => avgPool2d(t, { kernelSize: 2, stride: 2, padding: 1 }), x).values).toEqual([1, 2, 3, 4])
  expect(apply((t) => avgPool2d(t, { kernelSize: 2, stride: 2, padding: 1, countIncludePad: false }), x).values).toEqual([4, 8, 12, 16])
  expect(gradientsOfSum((t) => avgPool2d(t, { kernelSize: 2, stride: 2, padding: 1 }), x)).toEqual([[0.25, 0.25, 0.25, 0.25]])
  expect(gradientsOfSum((t) => avgPool2d(t, { kernelSize: [1, 2], stride: 1 }), tensor([1, 2, 3], [1, 1, 1, 3]))).toEqual([[0.5, 1, 0.5]])
})

test('the mean of all pixels', () => {
  expect(apply((x) => globalAvgPool2d(x), counting(1, 2, 2, 2))).toEqual({ dtype: 'float32', shape: [1, 2, 1, 1], values: [1.5, 5.5] })
  expect(typeOfResult((x) => globalAvgPool2d(x), f32('N', 3, 5, 4)).shape).toEqual(['N', 3, 1, 1])
  expect(() => typeOfResult((x) => globalAvgPool2d(x), f32(3, 5, 4))).toThrow('globalAvgPool2d: x must be [N, C, H, W], got [3, 5, 4]')
})

interface Case {
  readonly shape: StaticShape
  readonly options: Pool2dOptions
}

const cases: Readonly<Record<string, Case>> = {
  'side by side': { shape: [2, 2, 4, 6], options: { kernelSize: 2 } },
  '1x1': { shape: [1, 2, 2, 3], options: { kernelSize: 1 } },
  '1x1 with stride': { shape: [1, 1, 4, 5], options: { kernelSize: 1, stride: [2, 3] } },
  overlapping: { shape: [1, 2, 5, 5], options: { kernelSize: 3, stride: 1 } },
  'ResNet stem': { shape: [1, 2, 7, 6], options: { kernelSize: 3, stride: 2, padding: 1 } },
  'not square, unequal sides': { shape: [1, 1, 5, 6], options: { kernelSize: [2, 3], stride: [1, 2], padding: [1, 0, 2, 1] } },
  'pixels left over': { shape: [1, 2, 7, 8], options: { kernelSize: [2, 3], stride: [3, 4] } },
  'stride larger than the kernel, padded': { shape: [1, 1, 6, 7], options: { kernelSize: [2, 2], stride: [3, 5], padding: [1, 1, 0, 1] } },
  'the whole image': { shape: [2, 1, 3, 4], options: { kernelSize: [3, 4] } },
  'larger than the image': { shape: [1, 1, 2, 1], options: { kernelSize: [4, 3], stride: 1, padding: [2, 1, 1, 2] } },
}

const names = Object.keys(cases)
const caseOf = (name: string): Case => cases[name]!

// All different, and further apart than any step of the differences.
function distinct(shape: StaticShape): RefTensor {
  const size = sizeOf(shape)
  const order = Array.from({ length: size }, (_, i) => i)
  const keys = randomRef(shape, 3).data
  order.sort((a, b) => keys[a]! - keys[b]!)
  return ref(shape, order.map((v) => v / 2 - size / 4))
}

test.each(names)('gradients of the max: %s', (name) => {
  const { shape, options } = caseOf(name)
  const f = (x: Tensor): Tensor => maxPool2d(x, options)
  expect(checkGradient(f, [distinct(shape)]).count).toBe(sizeOf(shape))
  // Squared, so that the second derivative is not zero: the gradient of maxPool2dGrad by dy.
  expect(checkSecondOrder((x) => f(x).square(), [distinct(shape)]).count).toBe(sizeOf(shape))
})

test.each(names)('third derivatives of the max: %s', (name) => {
  const { shape, options } = caseOf(name)
  const x = distinct(shape)
  const small = ref(shape, x.data.map((v) => v / 8))
  expect(checkSecondOrder((t) => gradients(maxPool2d(t, options).pow(3).sum(), [t]), [small]).count).toBe(sizeOf(shape))
})

test.each(names.flatMap((name) => [true, false].map((countIncludePad) => ({ name, countIncludePad }))))('gradients of the mean: $name, $countIncludePad', ({ name, countIncludePad }) => {
  const { shape, options } = caseOf(name)
  const f = (x: Tensor): Tensor => avgPool2d(x, { ...options, countIncludePad })
  expect(checkGradient(f, [randomRef(shape, 5)]).count).toBe(sizeOf(shape))
  expect(checkSecondOrder((x) => f(x).square(), [randomRef(shape, 5)]).count).toBe(sizeOf(shape))
})

const maxGrad = (options: Pool2dOptions) => (x: Tensor, dy: Tensor): Tensor => gradients(maxPool2d(x, options), [x], dy)[0]!
const avgGrad = (options: AvgPool2dOptions) => (x: Tensor, dy: Tensor): Tensor => gradients(avgPool2d(x, options), [x], dy)[0]!

test.each(names)('decompositions agree with the definitions: %s', (name) => {
  const { shape, options } = caseOf(name)
  const y = typeOfResult((x) => maxPool2d(x, options), { shape }).shape as StaticShape
  const dy = ref(y, Float64Array.from({ length: sizeOf(y) }, (_, i) => i + 1))
  // Few values, so that there are ties; infinities and NaN among them.
  const tied = ref(shape, distinct(shape).data.map((v) => [1, 2, -inf, 2, nan, -inf, -inf, inf][Math.abs(v * 2) % 8] ?? -inf))
  for (const x of [distinct(shape), tied, ref(shape, new Float64Array(sizeOf(shape)).fill(-inf))]) {
    const max = (t: Tensor): Tensor => maxPool2d(t, options)
    expect(largestDifference(run(decomposed(max), [x]), run(max, [x]))).toBe(0)
    expect(largestDifference(run(decomposed(maxGrad(options)), [x, dy]), run(maxGrad(options), [x, dy]))).toBe(0)
  }
  for (const countIncludePad of [true, false]) {
    const all = { ...options, countIncludePad }
    const mean = (t: Tensor): Tensor => avgPool2d(t, all)
    expect(largestDifference(run(decomposed(mean), [distinct(shape)]), run(mean, [distinct(shape)]))).toBe(0)
    expect(largestDifference(run(decomposed(avgGrad(all)), [distinct(shape), dy]), run(avgGrad(all), [distinct(shape), dy]))).toBeLessThan(1e-12)
  }
})

test('the second derivative reads at the first largest element too', () => {
  // y^2 of each window: its Hessian is 2 at the first largest element. Windows: (padding, -inf, -inf) and (3, 3, 3).
  const sumOfSquares = (x: Tensor): Tensor => maxPool2d(x, { kernelSize: [1, 3], padding: [0, 0, 1, 0] }).square().sum()
  const x = tensor([-inf, -inf, 3, 3, 3], [1, 1, 1, 5])
  expect(gradientsOfSum((t) => only(gradients(sumOfSquares(t), [t])), x)).toEqual([[2, 0, 2, 0, 0]])
})

test('an empty batch stays empty', () => {
  const empty = counting(0, 2, 4, 4)
  expect(apply((x) => maxPool2d(x, { kernelSize: 2 }), empty)).toEqual({ dtype: 'float32', shape: [0, 2, 2, 2], values: [] })
  expect(gradientsOfSum((x) => maxPool2d(x, { kernelSize: 2 }).add(avgPool2d(x, { kernelSize: 2 })), empty)).toEqual([[]])
})

test('the batch may be a name', () => {
  expect(typeOfResult((x) => gradients(maxPool2d(x, { kernelSize: 2 }), [x], maxPool2d(x, { kernelSize: 2 }))[0]!, f32('N', 3, 8, 8))).toEqual(f32('N', 3, 8, 8))
  expect(typeOfResult((x) => only(decomposed((t) => avgPool2d(t, { kernelSize: 3, padding: 1, countIncludePad: false }))(x)), f32('N', 3, 8, 8))).toEqual(f32('N', 3, 3, 3))
  expect(() => typeOfResult((x) => only(decomposed((t) => maxPool2d(t, { kernelSize: 2 }))(x)), f32('N', 3, 8, 8))).toThrow('specialise the graph first')
})

test('what pools refuse', () => {
  const max = (x: ValueType, options: Pool2dOptions) => typeOfResult((t) => maxPool2d(t, options), x)
  expect(() => max(f32(1, 3, 7, 7), { kernelSize: 8 })).toThrow('maxPool2d: kernel 8x8 is larger than the padded input 7x7')
  expect(() => max(f32(1, 3, 7, 7), { kernelSize: 2, padding: [0, 2] })).toThrow('maxPool2d: padding [0, 0, 2, 2] must be smaller than the kernel 2x2, or a window would hold no pixel')
  expect(() => max(f32(1, 3, 0, 7), { kernelSize: 2, padding: 1 })).toThrow('maxPool2d: the input has no pixels (0x7)')
  expect(() => max(f32(3, 7, 7), { kernelSize: 2 })).toThrow('maxPool2d: x must be [N, C, H, W], got [3, 7, 7]')
  expect(() => max(f32(1, 3, 7, 7), { kernelSize: 0 })).toThrow('maxPool2d: kernelSize[0]=0 must be an integer >= 1')
  expect(() => max({ dtype: 'int32', shape: [1, 3, 7, 7] }, { kernelSize: 2 })).toThrow('maxPool2d: x must be float32 or float16, got int32')
  const attrs: Pool2dAttrs = { kernelSize: [2, 2], stride: [2, 2], padding: [0, 0, 0, 0] }
  expect(() => poolOps.maxPool2dGrad.infer(attrs, [f32(1, 3, 4, 4), f32(1, 3, 2, 3)])).toThrow('maxPool2dGrad: dy must be [1, 3, 2, 2], got [1, 3, 2, 3]')
  expect(() => poolOps.avgPool2dGrad.infer({ ...attrs, countIncludePad: true, inputSize: [7, 4] }, [f32(1, 3, 2, 2)])).toThrow(
    'avgPool2dGrad: dy is 2x2, but an input of 7x4 gives 3x2',
  )
  expect(() => poolOps.avgPool2d.infer({ ...attrs, countIncludePad: 1 as unknown as boolean }, [f32(1, 3, 4, 4)])).toThrow('avgPool2d: countIncludePad must be true or false, got 1')
})
