import { fromNumbers, tensor } from '@dynconv/core'
import { expect, test } from 'vitest'
import { compare, formatDifference } from './compare.ts'
import type { Wanted } from './expectation.ts'

function wanted(values: readonly number[], allowed: number, dtype: 'float32' | 'float16' | 'int32' = 'float32', shape: readonly number[] = [values.length]): Wanted {
  return { name: 'y', type: { dtype, shape }, value: { shape, data: Float64Array.from(values) }, allowed: new Float64Array(values.length).fill(allowed) }
}

test('within the tolerance is right, and rounding is always', () => {
  expect(compare(tensor([1, 2]), wanted([1, 2], 0))).toBeUndefined()
  expect(compare(tensor([0.1]), wanted([0.1], 0))).toBeUndefined()
  expect(compare(tensor([1.5]), wanted([1], 0.5))).toBeUndefined()
  expect(compare(tensor([1.5]), wanted([1], 0.4))?.count).toBe(1)
  expect(compare(tensor([-0]), wanted([0], 0))).toBeUndefined()
})

test('NaN and infinities are where they belong', () => {
  const { NaN: nan, POSITIVE_INFINITY: inf } = Number
  expect(compare(tensor([nan, inf, -inf]), wanted([nan, inf, -inf], 1))).toBeUndefined()
  expect(compare(tensor([0]), wanted([nan], 1e9))?.count).toBe(1)
  expect(compare(tensor([nan]), wanted([0], 1e9))?.count).toBe(1)
  expect(compare(tensor([-inf]), wanted([inf], 1e9))?.count).toBe(1)
  expect(compare(tensor([3e38]), wanted([inf], 1e9))?.count).toBe(1)
  expect(compare(tensor([inf]), wanted([1], 1e9))?.count).toBe(1)
})

test('near the largest number an engine may overflow, or not yet', () => {
  const { POSITIVE_INFINITY: inf } = Number
  const f16 = (v: number): ReturnType<typeof fromNumbers> => fromNumbers('float16', [1], [v])
  expect(compare(f16(inf), wanted([65510], 20, 'float16'))).toBeUndefined()
  expect(compare(f16(65504), wanted([65530], 32, 'float16'))).toBeUndefined()
  expect(compare(f16(inf), wanted([65000], 20, 'float16'))?.count).toBe(1)
  expect(compare(f16(-inf), wanted([65510], 20, 'float16'))?.count).toBe(1)
})

test('integers have no tolerance', () => {
  expect(compare(tensor([3], [1], 'int32'), wanted([4], 100, 'int32'))?.count).toBe(1)
})

test('type, shape and length come first', () => {
  expect(formatDifference(compare(undefined, wanted([1], 0)) ?? never())).toBe('y: expected float32[1], but it is missing')
  expect(formatDifference(compare(tensor([1], [1], 'int32'), wanted([1], 0)) ?? never())).toBe('y: expected float32[1], but it is int32[1]')
  expect(formatDifference(compare(tensor([1, 2]), wanted([1], 0)) ?? never())).toBe('y: expected float32[1], but it is float32[2]')
})

test('five positions are printed, with what was got, expected and allowed', () => {
  const got = tensor([9, 9, 9, 9, 9, 9.5], [2, 3])
  expect(formatDifference(compare(got, wanted([1, 2, 3, 9, 4, 5], 2 ** -21, 'float32', [2, 3])) ?? never())).toBe(
    [
      'y float32[2, 3]: 5 of 6 elements are off',
      '  [0, 0]  got 9  expected 1  6.7e+7 ulp  allowed 4 ulp',
      '  [0, 1]  got 9  expected 2  2.9e+7 ulp  allowed 2 ulp',
      '  [0, 2]  got 9  expected 3  2.5e+7 ulp  allowed 2 ulp',
      '  [1, 1]  got 9  expected 4  1.0e+7 ulp  allowed 1 ulp',
      '  [1, 2]  got 9.5  expected 5  9.4e+6 ulp  allowed 1 ulp',
    ].join('\n'),
  )
})

function never(): never {
  throw new Error('there is no difference')
}
