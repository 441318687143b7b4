import { expect, test } from 'vitest'
import { apply, applyAll, gradientsOfSum } from '../testing/apply.ts'
import { gradients } from '../autodiff/gradients.ts'
import { checkGradient, checkSecondOrder, randomRef } from '../testing/gradcheck.ts'
import type { DType } from '../tensor/dtype.ts'
import { type HostTensor, tensor } from '../tensor/hostTensor.ts'
import { type StaticShape, sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { ValueType } from './define.ts'
import { gatherOps } from './gather.ts'

const { gather, scatterAdd, oneHot } = gatherOps
const of = (dtype: DType, ...shape: (number | string)[]): ValueType => ({ dtype, shape })
const ints = (values: readonly number[], shape: StaticShape = [values.length]): HostTensor => tensor(values, shape, 'int32')
const counting = (...shape: number[]): HostTensor => tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => i), shape)

test('gather takes slices along its axis, repeats included', () => {
  expect(apply((x, i) => x.gather(i), counting(3, 2), ints([2, 0, 2]))).toEqual({ dtype: 'float32', shape: [3, 2], values: [4, 5, 0, 1, 4, 5] })
  expect(apply((x, i) => x.gather(i, 1), counting(2, 3), ints([2, 0]))).toEqual({ dtype: 'float32', shape: [2, 2], values: [2, 0, 5, 3] })
  expect(apply((x, i) => x.gather(i, -1), counting(2, 3), ints([1, 2, 0, 0], [2, 2]))).toEqual({
    dtype: 'float32',
    shape: [2, 2, 2],
    values: [1, 2, 0, 0, 4, 5, 3, 3],
  })
  expect(apply((x, i) => x.gather(i, 1), counting(2, 3, 1), ints([1], []))).toEqual({ dtype: 'float32', shape: [2, 1], values: [1, 4] })
  expect(apply((x, i) => x.gather(i), counting(3, 2), ints([]))).toEqual({ dtype: 'float32', shape: [0, 2], values: [] })
  expect(apply((x, i) => x.gather(i), tensor([1, 0], [2], 'bool'), ints([1, 0]))).toEqual({ dtype: 'bool', shape: [2], values: [0, 1] })
})

test('scatterAdd adds up what falls on one index', () => {
  expect(apply((u, i) => u.scatterAdd(i, 0, 4), counting(3, 2), ints([2, 0, 2]))).toEqual({
    dtype: 'float32',
    shape: [4, 2],
    values: [2, 3, 0, 0, 4, 6, 0, 0],
  })
  expect(apply((u, i) => u.scatterAdd(i, 1, 3), counting(2, 2), ints([2, 0])).values).toEqual([1, 0, 0, 3, 0, 2])
  expect(apply((u, i) => u.scatterAdd(i, 1, 2), counting(2, 2, 2), ints([1, 1, 0, 1], [2, 2]))).toEqual({ dtype: 'float32', shape: [2, 2], values: [2, 4, 6, 16] })
  expect(apply((u, i) => u.scatterAdd(i, 1, 3), counting(2, 1), ints([2], []))).toEqual({ dtype: 'float32', shape: [2, 3, 1], values: [0, 0, 0, 0, 0, 1] })
  expect(apply((u, i) => u.scatterAdd(i, 0, 2), ints([2 ** 31 - 1, 1, 5]), ints([0, 0, 1])).values).toEqual([-(2 ** 31), 5])
  expect(apply((u, i) => u.scatterAdd(i, 0, 2), counting(0, 2), ints([])).values).toEqual([0, 0, 0, 0])
})

test('oneHot marks the index; one outside marks nothing', () => {
  expect(apply((i) => i.oneHot(3), ints([2, 0, -1, 3]))).toEqual({ dtype: 'float32', shape: [4, 3], values: [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0] })
  expect(apply((i) => i.oneHot(2, 'bool'), ints([1], [1, 1]))).toEqual({ dtype: 'bool', shape: [1, 1, 2], values: [0, 1] })
  expect(apply((i) => i.oneHot(2, 'int32'), ints([0], []))).toEqual({ dtype: 'int32', shape: [2], values: [1, 0] })
})

test('the decomposition of oneHot is the same function', () => {
  for (const dtype of ['float32', 'int32', 'bool'] as const) {
    const parts = (i: Tensor): Tensor => oneHot.decompose?.({ depth: 3, dtype }, [i])[0] ?? i
    for (const indices of [ints([2, 0, -1, 3], [2, 2]), ints([1], [])]) expect(apply(parts, indices)).toEqual(apply((i) => i.oneHot(3, dtype), indices))
  }
})

test('an index outside is named', () => {
  expect(() => apply((x, i) => x.gather(i), counting(3), ints([0, 3]))).toThrow(new RangeError('gather: index 3 (number 1) is outside an axis of size 3; use 0 to 2'))
  expect(() => apply((x, i) => x.gather(i), counting(3), ints([-1]))).toThrow(RangeError)
  expect(() => apply((u, i) => u.scatterAdd(i, 0, 2), counting(1), ints([2]))).toThrow(
    new RangeError('scatterAdd: index 2 (number 0) is outside an axis of size 2; use 0 to 1'),
  )
})

test('what does not fit is refused', () => {
  const [f32, i32] = [of('float32', 2, 3), of('int32', 2)]
  expect(gather.infer({ axis: 1 }, [of('float32', 'N', 3), of('int32', 'M')])).toEqual(of('float32', 'N', 'M'))
  expect(gather.infer({ axis: 0 }, [of('float32', 'N', 3), of('int32', 2, 'M')])).toEqual(of('float32', 2, 'M', 3))
  expect(() => gather.infer({ axis: 0 }, [f32, of('float32', 2)])).toThrow('gather: indices must be int32, got float32')
  expect(() => gather.infer({ axis: 2 }, [f32, i32])).toThrow('gather: axis=2 is not an axis of a tensor of rank 2: it must be an integer from 0 to 1')
  expect(() => gather.infer({ axis: 0 }, [of('float32'), i32])).toThrow('gather: axis=0 is not an axis of a tensor of rank 0')
  expect(() => gather.infer({ axis: 0 }, [f32])).toThrow('gather: takes 2 inputs (x, indices), got 1')
  expect(scatterAdd.infer({ axis: 1, size: 9 }, [of('float32', 'N', 'M'), of('int32', 'M')])).toEqual(of('float32', 'N', 9))
  expect(() => scatterAdd.infer({ axis: 0, size: 4 }, [of('float32', 3, 2), i32])).toThrow(
    "scatterAdd: updates [3, 2] must have the indices' axes [2] from axis 0 on",
  )
  expect(() => scatterAdd.infer({ axis: 2, size: 4 }, [f32, i32])).toThrow('scatterAdd: axis=2 is not an axis')
  expect(() => scatterAdd.infer({ axis: 0, size: -1 }, [f32, i32])).toThrow('scatterAdd: size=-1 must be an integer >= 0')
  expect(() => scatterAdd.infer({ axis: 0, size: 4 }, [of('bool', 2), i32])).toThrow('scatterAdd: updates must be float32 or float16 or int32, got bool')
  expect(() => oneHot.infer({ depth: 0, dtype: 'float32' }, [i32])).toThrow('oneHot: depth=0 must be an integer >= 1')
  expect(() => oneHot.infer({ depth: 2, dtype: 'float32' }, [f32])).toThrow('oneHot: indices must be int32, got float32')
  expect(() => oneHot.infer({ depth: 2, dtype: 'complex' as DType }, [i32])).toThrow('oneHot: dtype must be')
})

const cases: readonly (readonly [name: string, fn: (x: Tensor, i: Tensor) => Tensor, shape: StaticShape, indices: HostTensor])[] = [
  ['gather', (x, i) => x.gather(i), [3, 2], ints([2, 0, 2])],
  ['gather along an inner axis', (x, i) => x.gather(i, 1), [2, 3, 2], ints([1, 1, 2, 0], [2, 2])],
  ['gather of one slice', (x, i) => x.gather(i, 1), [2, 3], ints([1], [])],
  ['gather of nothing', (x, i) => x.gather(i), [3, 2], ints([])],
  ['scatterAdd', (x, i) => x.scatterAdd(i, 0, 4), [3, 2], ints([2, 0, 2])],
  ['scatterAdd along an inner axis', (x, i) => x.scatterAdd(i, 1, 3), [2, 2, 2, 2], ints([1, 1, 2, 0], [2, 2])],
  ['scatterAdd of one slice', (x, i) => x.scatterAdd(i, 1, 2), [2, 3], ints([1], [])],
]

test.each(cases)('the gradient of %s agrees with differences, twice over', (_, fn, shape, indices) => {
  expect(checkGradient((x) => fn(x, x.constant(indices)), [randomRef(shape, 1)]).worst).toBeLessThan(1e-6)
  expect(checkSecondOrder((x) => fn(x, x.constant(indices)).tanh(), [randomRef(shape, 1)]).worst).toBeLessThan(1e-6)
})

test('an element that was gathered twice takes both gradients; indices take none', () => {
  const weights = tensor([1, 10, 100])
  expect(gradientsOfSum((x, w) => x.gather(x.constant(ints([2, 0, 2]))).mul(w), counting(3), weights)).toEqual([
    [10, 0, 101],
    [2, 0, 2],
  ])
  const [byIndex] = applyAll((x, i) => gradients(x.gather(i).sum(), [i]), counting(3), ints([1, 2]))
  expect(byIndex).toEqual({ dtype: 'int32', shape: [2], values: [0, 0] })
})
