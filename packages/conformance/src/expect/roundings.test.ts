import { fromNumbers, referenceBackend, tensor, type Tensor } from '@dynconv/core'
import { expect, test } from 'vitest'
import { randint, randn } from '../cases/randomTensors.ts'
import { floatTarget } from '../testing/floatEngine.ts'
import { compareRounded, roundedDifference } from './roundings.ts'

const want = (...data: number[]) => ({ shape: [data.length], data: Float64Array.from(data) })
const unit = 2 ** -24

test('each rounding allows half a unit of the number, and of the largest beside it', () => {
  const got = (y: number) => tensor([y, 1024])
  expect(compareRounded(got(1 + 2 * unit), want(1, 1024), 1)).toBeUndefined()
  expect(compareRounded(got(1 + 1024 * unit), want(1, 1024), 1)).toBeUndefined()
  expect(compareRounded(got(1 + 1030 * unit), want(1, 1024), 1)).toContain('1 of 2 elements are off')
  expect(compareRounded(got(1 + 1030 * unit), want(1, 1024), 2)).toBeUndefined()
  expect(compareRounded(got(1 + 2 * unit), want(1, 1024), 2, true)).toBeUndefined()
  expect(compareRounded(got(1 + 4 * unit), want(1, 1024), 2, true)).toContain('1 of 2 elements are off')
  expect(compareRounded(fromNumbers('float16', [1], [1 + 2 ** -10]), want(1), 1)).toBeUndefined()
  expect(compareRounded(fromNumbers('float16', [1], [1 + 2 ** -8]), want(1), 1)).toContain('1 of 1 elements are off')
})

test('integers, NaN and infinities match exactly; what is tiny may be 0', () => {
  const { NaN: nan, POSITIVE_INFINITY: inf } = Number
  expect(compareRounded(tensor([nan, inf, -inf, 0]), want(nan, inf, -inf, 1e-39), 4)).toBeUndefined()
  expect(compareRounded(tensor([inf]), want(1e39), 4)).toBeUndefined()
  expect(compareRounded(tensor([3.4028234663852886e38]), want(1e39), 1e9)).toContain('expected Infinity')
  expect(compareRounded(tensor([0]), want(nan), 4)).toContain('expected NaN')
  expect(compareRounded(tensor([nan]), want(0), 4)).toContain('got NaN')
  expect(compareRounded(tensor([7], [1], 'int32'), want(8), 1e9)).toContain('got 7  expected 8')
  expect(compareRounded(tensor([1, 2]), want(1), 4)).toContain('float32[2]')
  expect(compareRounded(tensor([1]), undefined, 4)).toBe('the result: there is no such result')
})

test('a function on a backend, against the oracle', async () => {
  const backend = referenceBackend()
  const inputs = [randn([3, 4]), randn([4, 5], 2)]
  const product = { name: 'product', fn: (a: Tensor, b: Tensor) => [a.matmul(b), a.add(1)], inputs, roundings: 8 }
  expect(await roundedDifference(backend, product)).toBeUndefined()
  expect(backend.memory()).toMatchObject({ liveTensors: 0, liveBytes: 0 })
  const wrong = await floatTarget('adds wrongly', { kernels: (sound) => ({ add: (attrs, inputs, types) => sound.sub(attrs, inputs, types) }) }).create()
  expect(await roundedDifference(wrong, product)).toContain('product, result 1 float32[3, 4]: 12 of 12 elements are off')
  await wrong.dispose()
})

test('random tensors are the same for the same seed, and others for another', () => {
  expect(randn([2, 3], 5)).toEqual(randn([2, 3], 5))
  expect(randn([2, 3], 5)).not.toEqual(randn([2, 3], 6))
  expect(randint([100], 3).data.every((v) => v >= 0 && v < 3)).toBe(true)
})
