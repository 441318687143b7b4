import { expect, test } from 'vitest'
import { overflowAt, roundTo, smallestNormal, spacing } from './ulp.ts'

test('spacing is the distance to the next number', () => {
  expect(spacing('float32', 1)).toBe(2 ** -23)
  expect(spacing('float32', -1.5)).toBe(2 ** -23)
  expect(spacing('float32', 0.75)).toBe(2 ** -24)
  expect(spacing('float32', 0)).toBe(2 ** -149)
  expect(spacing('float16', 1)).toBe(2 ** -10)
  expect(spacing('float16', 65504)).toBe(32)
  expect(spacing('float16', 1e-7)).toBe(2 ** -24)
  expect(spacing('float32', Number.POSITIVE_INFINITY)).toBeNaN()
  const next = new Uint32Array(Float32Array.of(3.3).buffer)
  next[0] = (next[0] ?? 0) + 1
  expect((new Float32Array(next.buffer)[0] ?? 0) - Math.fround(3.3)).toBe(spacing('float32', 3.3))
})

test('rounding is that of the format, beyond it infinity', () => {
  expect(roundTo('float32', 0.1)).toBe(Math.fround(0.1))
  expect(roundTo('float16', 2049)).toBe(2048)
  expect(roundTo('int32', -2.7)).toBe(-2)
  expect(roundTo('float16', overflowAt('float16'))).toBe(Number.POSITIVE_INFINITY)
  expect(roundTo('float16', overflowAt('float16') - 1)).toBe(65504)
  expect(roundTo('float32', overflowAt('float32'))).toBe(Number.POSITIVE_INFINITY)
  expect(roundTo('float32', smallestNormal('float32'))).toBe(2 ** -126)
})
