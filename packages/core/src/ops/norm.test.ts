import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { DTypeError, ShapeError, ValueError } from '../backend/errors.ts'
import { apply, applyAll, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { decomposed, largestDifference, run } from '../testing/compare.ts'
import { checkGradient, checkSecondOrder, randomRef, ref } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type Shape, sizeOf, type StaticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { RefTensor, ValueType } from './define.ts'
import { batchNorm, batchNormInference, groupNorm, normOps } from './norm.ts'

const f32 = (...shape: Shape): ValueType => ({ dtype: 'float32', shape })
// A power of two, so that the constant of a decomposition is exact.
const epsilon = 2 ** -12

const refs = (x: StaticShape, vectors: number): readonly RefTensor[] => [
  randomRef(x, 1),
  ...Array.from({ length: vectors }, (_, i) => randomRef([x[1]!], 20 + i)),
]
const positive = (t: RefTensor): RefTensor => ({ shape: t.shape, data: t.data.map((v) => v * v + 0.1) })

test('statistics of each channel, and values with mean beta and deviation gamma', () => {
  // Channel 0 holds 1, 3 (mean 2, variance 1), channel 1 holds 10, 30 (mean 20, variance 100).
  const x = tensor([1, 10, 3, 30], [2, 2, 1, 1])
  const [y, mean, variance] = applyAll((a, g, b) => batchNorm(a, g, b, { epsilon: 3 }), x, tensor([2, 1]), tensor([5, 0]))
  expect(mean).toEqual({ dtype: 'float32', shape: [2], values: [2, 20] })
  expect(variance?.values).toEqual([1, 100])
  expect(y?.shape).toEqual([2, 2, 1, 1])
  expect(y?.values).toEqual([5 - 1, -10 / Math.sqrt(103), 5 + 1, 10 / Math.sqrt(103)])
})

test('inference takes the statistics that it is given', () => {
  const x = tensor([3, 5, 100, 104], [1, 2, 2])
  const got = apply((a, g, b, m, v) => batchNormInference(a, g, b, m, v, { epsilon: 1 }), x, tensor([2, 1]), tensor([0, 7]), tensor([1, 100]), tensor([3, 15]))
  expect(got).toEqual({ dtype: 'float32', shape: [1, 2, 2], values: [2, 4, 7, 8] })
})

test('groups: each sample and group of channels by itself; one group is layer normalisation', () => {
  // Groups of the sample: (1, 3), variance 1, and (10, 30), variance 100.
  const x = tensor([1, 3, 10, 30], [1, 4])
  const one = tensor([1, 1, 1, 1])
  const zero = tensor([0, 0, 0, 1])
  expect(apply((a, g, b) => groupNorm(a, g, b, { groups: 2, epsilon: 3 }), x, one, zero).values).toEqual([-0.5, 0.5, -10 / Math.sqrt(103), 10 / Math.sqrt(103) + 1])
  expect(apply((a, g, b) => groupNorm(a, g, b, { groups: 1, epsilon: 1 }), tensor([0, 0, 0, 0], [1, 4]), one, zero).values).toEqual([0, 0, 0, 1])
})

test('the gradient of a normalised batch adds up to zero over each channel', () => {
  const [dx, dgamma, dbeta] = gradientsOfSum((a, g, b) => batchNorm(a, g, b)[0], tensor([1, 2, 4, 8], [4, 1]), tensor([3]), tensor([0]))
  expect(dx!.reduce((a, b) => a + b)).toBeCloseTo(0, 12)
  expect(dgamma![0]).toBeCloseTo(0, 12)
  expect(dbeta).toEqual([4])
})

const shapes: Readonly<Record<string, StaticShape>> = {
  images: [2, 3, 2, 2],
  vectors: [5, 2],
  'sequences, one channel': [2, 1, 4],
  volumes: [2, 2, 1, 2, 2],
}
const names = Object.keys(shapes)
const shapeOf = (name: string): StaticShape => shapes[name]!

test.each(names)('gradients of batchNorm, first and second: %s', (name) => {
  const x = shapeOf(name)
  const onlyY = (a: Tensor, g: Tensor, b: Tensor): Tensor => batchNorm(a, g, b, { epsilon })[0]
  expect(checkGradient(onlyY, refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1]!)
  expect(checkSecondOrder(onlyY, refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1]!)
})

test.each(names)('gradients through the statistics too, first and second: %s', (name) => {
  const x = shapeOf(name)
  expect(checkGradient((a, g, b) => batchNorm(a, g, b, { epsilon }), refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1]!)
  expect(checkSecondOrder((a, g, b) => batchNorm(a, g, b, { epsilon }), refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1]!)
  const onlyStatistics = (a: Tensor, g: Tensor, b: Tensor): readonly Tensor[] => batchNorm(a, g, b).slice(1)
  expect(checkGradient(onlyStatistics, refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1]!)
})

test.each(names)('gradients of batchNormGrad as an op of its own: %s', (name) => {
  const x = shapeOf(name)
  const [a, gamma, mean, variance] = refs(x, 3)
  const f = (...inputs: Tensor[]): readonly Tensor[] => inputs[0]!.graph.emit('batchNormGrad', { epsilon }, inputs)
  expect(checkGradient(f, [a!, gamma!, mean!, positive(variance!), randomRef(x, 9)]).count).toBe(2 * sizeOf(x) + 3 * x[1]!)
})

test.each(names)('gradients of batchNormInference: %s', (name) => {
  const x = shapeOf(name)
  const [a, gamma, beta, mean, variance] = refs(x, 4)
  const f = (...[t, g, b, m, v]: Tensor[]): Tensor => batchNormInference(t!, g!, b!, m!, v!, { epsilon })
  const inputs = [a!, gamma!, beta!, mean!, positive(variance!)]
  expect(checkGradient(f, inputs).count).toBe(sizeOf(x) + 4 * x[1]!)
  expect(checkSecondOrder(f, inputs).count).toBe(sizeOf(x) + 4 * x[1]!)
})

test.each([
  [[2, 4, 2, 2], 2],
  [[2, 4, 1, 3], 1],
  [[2, 3, 4], 3],
  [[3, 6], 2],
] as const)('gradients of groupNorm, first and second: %j in %d groups', (x, groups) => {
  const f = (a: Tensor, g: Tensor, b: Tensor): Tensor => groupNorm(a, g, b, { groups, epsilon })
  expect(checkGradient(f, refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1])
  expect(checkSecondOrder(f, refs(x, 2)).count).toBe(sizeOf(x) + 2 * x[1])
  expect(largestDifference(run(decomposed(f), refs(x, 2)), run(f, refs(x, 2)))).toBeLessThan(1e-12)
})

test.each(names)('decompositions agree with the definitions: %s', (name) => {
  const x = shapeOf(name)
  const training = (a: Tensor, g: Tensor, b: Tensor): readonly Tensor[] => batchNorm(a, g, b, { epsilon })
  expect(largestDifference(run(decomposed(training), refs(x, 2)), run(training, refs(x, 2)))).toBeLessThan(1e-12)
  const grad = (...inputs: Tensor[]): readonly Tensor[] => inputs[0]!.graph.emit('batchNormGrad', { epsilon }, inputs)
  const [a, gamma, mean, variance] = refs(x, 3)
  const gradInputs = [a!, gamma!, mean!, positive(variance!), randomRef(x, 9)]
  expect(largestDifference(run(decomposed(grad), gradInputs), run(grad, gradInputs))).toBeLessThan(1e-12)
  const inference = (...[t, g, b, m, v]: Tensor[]): Tensor => batchNormInference(t!, g!, b!, m!, v!, { epsilon })
  const inputs = [...refs(x, 3), positive(randomRef([x[1]!], 30))]
  expect(largestDifference(run(decomposed(inference), inputs), run(inference, inputs))).toBeLessThan(1e-12)
})

test('a large mean does not spoil the variance', () => {
  const x = ref([4, 1], [1e6 + 1, 1e6 + 2, 1e6 + 3, 1e6 + 4])
  const [, mean, variance] = run((a) => batchNorm(a, a.full(1, [1]), a.full(0, [1])), [x])
  expect([mean?.data[0], variance?.data[0]]).toEqual([1e6 + 2.5, 1.25])
})

test('an empty batch has no statistics', () => {
  const empty = tensor([], [0, 2, 3, 3])
  const v = tensor([1, 1])
  const [y, mean, variance] = applyAll((a, g, b) => batchNorm(a, g, b), empty, v, v)
  expect([y?.values, mean?.values, variance?.values]).toEqual([[], [Number.NaN, Number.NaN], [Number.NaN, Number.NaN]])
  expect(apply((a, g, b) => groupNorm(a, g, b, { groups: 2 }), empty, v, v).shape).toEqual([0, 2, 3, 3])
  expect(apply((a, g, b) => batchNormInference(a, g, b, g, g), empty, v, v).shape).toEqual([0, 2, 3, 3])
})

test('the batch may be a name where no count of it is needed', () => {
  const [x, v] = [f32('N', 4, 3, 3), f32(4)]
  expect(typeOfResult((a, g, b) => gradients(batchNorm(a, g, b)[0], [a], a)[0]!, x, v, v)).toEqual(x)
  expect(typeOfResult((a, g, b) => decomposed((t: Tensor) => groupNorm(t, g, b, { groups: 2 }))(a)[0]!, x, v, v)).toEqual(x)
  expect(() => typeOfResult((a, g, b) => decomposed((t: Tensor) => batchNorm(t, g, b))(a)[0]!, x, v, v)).toThrow(
    'batchNorm: axis 0 of x must be a known size, got N; specialise the graph first',
  )
})

test('what the norms refuse', () => {
  const attrs = { epsilon: 1e-5 }
  const [x, v] = [f32(2, 6, 3, 3), f32(6)]
  expect(() => normOps.batchNorm.infer(attrs, [x, f32(5), v])).toThrow(new ShapeError('batchNorm: gamma must be [6] for x [2, 6, 3, 3], got [5]'))
  expect(() => normOps.batchNorm.infer(attrs, [f32(6), v, v])).toThrow(new ShapeError('batchNorm: x must be [N, C, ...spatial], got [6]'))
  expect(() => normOps.batchNorm.infer({ epsilon: 0 }, [x, v, v])).toThrow(new ValueError('batchNorm: epsilon=0 must be positive'))
  expect(() => normOps.batchNorm.infer({ epsilon: Number.NaN }, [x, v, v])).toThrow(ValueError)
  expect(() => normOps.batchNorm.infer(attrs, [x, v, { dtype: 'float16', shape: [6] }])).toThrow(DTypeError)
  expect(() => normOps.batchNorm.infer(attrs, [{ dtype: 'int32', shape: [2, 6] }, v, v])).toThrow(new DTypeError('batchNorm: x must be float32 or float16, got int32'))
  expect(() => normOps.batchNorm.infer(attrs, [x, v])).toThrow('batchNorm: takes 3 inputs (x, gamma, beta), got 2')
  expect(() => normOps.batchNormGrad.infer(attrs, [x, v, v, v, f32(2, 6, 3, 4)])).toThrow('batchNormGrad: dy must be [2, 6, 3, 3], got [2, 6, 3, 4]')
  expect(() => normOps.batchNormInference.infer(attrs, [x, v, v, v, f32(1)])).toThrow('batchNormInference: variance must be [6] for x [2, 6, 3, 3], got [1]')
  expect(() => normOps.groupNorm.infer({ ...attrs, groups: 4 }, [x, v, v])).toThrow(new ShapeError('groupNorm: groups=4 must divide channels=6'))
  expect(() => normOps.groupNorm.infer({ ...attrs, groups: 0 }, [x, v, v])).toThrow('groupNorm: groups=0 must be an integer >= 1')
  expect(() => normOps.groupNorm.infer({ ...attrs, groups: 2 }, [f32(2, 'C'), v, v])).toThrow('groupNorm: channels must be a known size, got C; specialise the graph first')
})
