import { expect, test } from 'vitest'
import { constant, iota } from '../graph/trace.ts'
import { apply } from '../testing/apply.ts'
import { hostTensor, tensor } from '../tensor/hostTensor.ts'
import { sourceOps } from './source.ts'

test('a constant is its host tensor, halves read as numbers', () => {
  expect(apply(() => constant(tensor([1, -2, 3, 4, 5, 6], [2, 3])))).toEqual({ dtype: 'float32', shape: [2, 3], values: [1, -2, 3, 4, 5, 6] })
  expect(apply(() => constant(hostTensor('float16', [2], new Uint16Array([0x3c00, 0xc100]))))).toEqual({ dtype: 'float16', shape: [2], values: [1, -2.5] })
  expect(apply(() => constant(tensor(7)))).toEqual({ dtype: 'float32', shape: [], values: [7] })
  expect(apply(() => constant(tensor([], [0, 3], 'int32')))).toEqual({ dtype: 'int32', shape: [0, 3], values: [] })
})

test('iota counts along its axis and repeats along the others', () => {
  expect(apply(() => iota([4]))).toEqual({ dtype: 'int32', shape: [4], values: [0, 1, 2, 3] })
  expect(apply(() => iota([2, 3], 0, 'float32'))).toEqual({ dtype: 'float32', shape: [2, 3], values: [0, 0, 0, 1, 1, 1] })
  expect(apply(() => iota([2, 3, 2], 1)).values).toEqual([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
  expect(apply(() => iota([2, 0, 2], 1)).values).toEqual([])
})

test('attributes of sources are checked', () => {
  const { constant: c, iota: i } = sourceOps
  const broken = { dtype: 'float32', shape: [3], data: new Float32Array(2) } as const
  expect(() => c.infer({ value: broken }, [])).toThrow('constant: shape [3] needs 3 elements, got 2')
  expect(() => c.infer({ value: tensor([1]) }, [{ dtype: 'float32', shape: [] }])).toThrow('constant: takes 0 inputs, got 1')
  expect(() => i.infer({ shape: [], axis: 0, dtype: 'int32' }, [])).toThrow('iota: axis=0 is not an axis of a tensor of rank 0: a scalar has no axes')
  expect(() => i.infer({ shape: [2], axis: -1, dtype: 'int32' }, [])).toThrow('axis=-1 is not an axis of a tensor of rank 1')
  expect(() => i.infer({ shape: [2], axis: 0, dtype: 'bool' }, [])).toThrow('iota: dtype must be float32 or float16 or int32, got bool')
  expect(() => i.infer({ shape: [-2], axis: 0, dtype: 'int32' }, [])).toThrow('iota: a dimension must be a non-negative integer or a name, got -2')
  expect(i.infer({ shape: ['N', 2], axis: 0, dtype: 'int32' }, [])).toEqual({ dtype: 'int32', shape: ['N', 2] })
})
