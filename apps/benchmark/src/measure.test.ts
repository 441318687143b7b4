import { expect, test } from 'vitest'
import { interleave, pairedRatio, quantile } from './measure.ts'

test('quantiles are linear between neighbours', () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2)
  expect(quantile([4, 1, 2, 3], 0.5)).toBe(2.5)
  expect(quantile([1, 2], 0.25)).toBe(1.25)
  expect(() => quantile([], 0.5)).toThrow('there are no values')
})

test('variants take turns, another one first each round, and warm-up rounds do not count', async () => {
  const order: string[] = []
  const variant = (name: string, times: number[]): { name: string; run: () => Promise<number> } => ({
    name,
    run: () => {
      order.push(name)
      return Promise.resolve(times.shift() ?? Number.NaN)
    },
  })
  const seen: number[] = []
  const [a, b] = await interleave([variant('a', [99, 2, 4]), variant('b', [99, 1, 8])], { rounds: 2, warmup: 1, restMs: 0, progress: (done) => seen.push(done) })
  expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b'])
  expect(seen).toEqual([1, 2, 3, 4, 5, 6])
  expect(a?.samplesMs).toEqual([2, 4])
  expect(a?.medianMs).toBe(3)
  // Pair by pair: 2/1 and 4/8, not 3 / 4.5.
  expect(a && b ? pairedRatio(a, b) : 0).toBe((2 + 0.5) / 2)
})
