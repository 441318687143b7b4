import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { ShapeError, ValueError } from '../backend/errors.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { decomposed, largestDifference, run } from '../testing/compare.ts'
import { checkGradient, checkSecondOrder, randomRef } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type Shape, sizeOf, type StaticShape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { ResizeMode, Size2d } from './attrs.ts'
import type { ValueType } from './define.ts'
import { type ResizeOptions, resize, resizeOps } from './resize.ts'

const f32 = (...shape: Shape): ValueType => ({ dtype: 'float32', shape })
const row = (...values: number[]) => tensor(values, [1, 1, 1, values.length])
const widths = (values: readonly number[], width: number, mode: ResizeMode) => apply((x) => resize(x, { size: [1, width], mode }), row(...values)).values

test('nearest takes pixel floor(j * from / to)', () => {
  expect(widths([1, 2, 3], 6, 'nearest')).toEqual([1, 1, 2, 2, 3, 3])
  expect(widths([1, 2, 3, 4, 5], 3, 'nearest')).toEqual([1, 2, 4])
  expect(widths([1, 2, 3], 5, 'nearest')).toEqual([1, 1, 2, 2, 3])
  // 49 * (1 / 49) is less than 1 in floating point; the quotient itself is not.
  expect(widths([1, 2], 98, 'nearest').filter((v) => v === 1).length).toBe(49)
  expect(apply((x) => resize(x, { scale: 2 }), tensor([1, 2, 3, 4], [1, 1, 2, 2])).values).toEqual([1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4])
})

test('bilinear weighs the two nearest pixel centres; borders repeat', () => {
  expect(widths([0, 8], 4, 'bilinear')).toEqual([0, 2, 6, 8])
  expect(widths([0, 4, 8, 12], 2, 'bilinear')).toEqual([2, 10])
  // Without antialiasing: three of nine pixels, at their centres.
  expect(widths([1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 'bilinear')).toEqual([2, 5, 8])
  expect(widths([7], 3, 'bilinear')).toEqual([7, 7, 7])
  expect(apply((x) => resize(x, { size: 4, mode: 'bilinear' }), tensor([0, 8, 16, 24], [1, 1, 2, 2])).values).toEqual([0, 2, 6, 8, 4, 6, 10, 12, 12, 14, 18, 20, 16, 18, 22, 24])
})

test('the same size is the same image', () => {
  for (const mode of ['nearest', 'bilinear'] as const) expect(widths([3, 1, 2], 3, mode)).toEqual([3, 1, 2])
})

test('the gradient adds up at the pixels that were read', () => {
  expect(gradientsOfSum((x) => resize(x, { size: [1, 5] }), row(1, 2, 3))).toEqual([[2, 2, 1]])
  expect(gradientsOfSum((x) => resize(x, { size: [1, 2] }), row(1, 2, 3, 4))).toEqual([[1, 0, 1, 0]])
  expect(gradientsOfSum((x) => resize(x, { size: [1, 4], mode: 'bilinear' }), row(1, 2))).toEqual([[2, 2]])
})

const cases: readonly (readonly [x: StaticShape, size: Size2d])[] = [
  [[2, 2, 2, 3], [4, 6]],
  [[1, 2, 5, 4], [2, 3]],
  [[1, 1, 3, 5], [7, 2]],
  [[1, 1, 1, 4], [3, 1]],
  [[1, 2, 3, 3], [3, 3]],
]
const both = cases.flatMap(([x, size]) => (['nearest', 'bilinear'] as const).map((mode) => [x, size, mode] as const))

test.each(both)('gradients of %j to %j, %s, first and second', (shape, size, mode) => {
  const f = (x: Tensor): Tensor => resize(x, { size, mode })
  expect(checkGradient(f, [randomRef(shape, 1)]).count).toBe(sizeOf(shape))
  expect(checkSecondOrder((x) => f(x).pow(3), [randomRef(shape, 2)]).count).toBe(sizeOf(shape))
  const dy: StaticShape = [...shape.slice(0, 2), ...size]
  const grad = (t: Tensor): Tensor => only(t.graph.emit('resizeGrad', { inputSize: [shape[2]!, shape[3]!], mode }, [t]))
  expect(checkGradient(grad, [randomRef(dy, 3)]).count).toBe(sizeOf(dy))
})

test.each(both)('decompositions agree with the definitions: %j to %j, %s', (shape, size, mode) => {
  const f = (x: Tensor): Tensor => resize(x, { size, mode })
  const grad = (x: Tensor, dy: Tensor): Tensor => only(gradients(f(x), [x], dy))
  const [x, dy] = [randomRef(shape, 1), randomRef([...shape.slice(0, 2), ...size], 2)]
  // The weights of bilinear are constants of the graph, rounded to float32.
  const tolerance = mode === 'nearest' ? 1e-14 : 2e-7
  expect(largestDifference(run(decomposed(f), [x]), run(f, [x]))).toBeLessThan(tolerance)
  expect(largestDifference(run(decomposed(grad), [x, dy]), run(grad, [x, dy]))).toBeLessThan(tolerance)
})

test('NaN and infinity stay where they are read', () => {
  expect(widths([1, Number.NaN, 3, Number.POSITIVE_INFINITY], 2, 'nearest')).toEqual([1, 3])
  expect(widths([1, 2, 3, Number.NaN], 2, 'bilinear')).toEqual([1.5, Number.NaN])
})

test('an empty batch stays empty, and the batch may be a name', () => {
  expect(apply((x) => resize(x, { size: 3, mode: 'bilinear' }), tensor([], [0, 2, 4, 4]))).toEqual({ dtype: 'float32', shape: [0, 2, 3, 3], values: [] })
  for (const mode of ['nearest', 'bilinear'] as const) {
    const f = (x: Tensor): Tensor => resize(x, { scale: [2, 0.5], mode })
    expect(typeOfResult((x) => only(decomposed(f)(x)), f32('N', 3, 4, 5))).toEqual(f32('N', 3, 8, 2))
    expect(typeOfResult((x) => only(decomposed((t) => only(gradients(f(t), [t], f(t))))(x)), f32('N', 3, 4, 5))).toEqual(f32('N', 3, 4, 5))
  }
})

test('what resize refuses', () => {
  const to = (x: ValueType, options: ResizeOptions) => typeOfResult((t) => resize(t, options), x)
  expect(() => to(f32(1, 1, 4, 4), { scale: 0.1 })).toThrow('resize: size[0]=0 must be an integer >= 1')
  expect(() => to(f32(1, 1, 4, 4), { scale: -1 })).toThrow(new ValueError('resize: scale [-1, -1] must be positive'))
  expect(() => to(f32(1, 4, 4), { scale: 2 })).toThrow(new ShapeError('resize: x must be [N, C, H, W], got [1, 4, 4]'))
  expect(() => to(f32(1, 1, 0, 4), { size: 2 })).toThrow(new ShapeError('resize: the input has no pixels (0x4)'))
  expect(() => resizeOps.resize.infer({ size: [2, 2], mode: 'cubic' as ResizeMode }, [f32(1, 1, 4, 4)])).toThrow(new ValueError('resize: mode must be nearest or bilinear, got cubic'))
  expect(() => resizeOps.resizeGrad.infer({ inputSize: [2, 0], mode: 'nearest' }, [f32(1, 1, 4, 4)])).toThrow('resizeGrad: inputSize[1]=0 must be an integer >= 1')
})
