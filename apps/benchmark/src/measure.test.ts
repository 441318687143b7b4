import { expect, test } from 'vitest'
import { burstFor, interleave, pairedRatio, quantile, timingOf, type Variant } from './measure.ts'

const info = { library: 'l', vendor: 'dynconv', numBases: 0 }

test('quantiles are linear between neighbours', () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2)
  expect(quantile([4, 1, 2, 3], 0.5)).toBe(2.5)
  expect(quantile([1, 2], 0.25)).toBe(1.25)
  expect(() => quantile([], 0.5)).toThrow('there are no values')
})

test('variants take turns, another one first each round, and warm-up rounds do not count', async () => {
  const order: string[] = []
  const variant = (name: string, times: number[]): Variant => ({
    ...info,
    name,
    run: (n) => {
      order.push(name)
      return Promise.resolve(times.splice(0, n))
    },
  })
  const seen: number[] = []
  const [a, b] = await interleave([variant('a', [999, 200, 400]), variant('b', [999, 200, 800])], { rounds: 2, warmup: 1, restMs: 0, progress: (done) => seen.push(done) })
  expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b'])
  expect(seen).toEqual([1, 2, 3, 4, 5, 6])
  expect(a?.samplesMs).toEqual([200, 400])
  expect(a?.medianMs).toBe(300)
  // Pair by pair: 200/200 and 400/800, not 300 / 500.
  expect(a && b ? pairedRatio(a, b) : 0).toBe((1 + 0.5) / 2)
})

test('a turn of short work is a burst whose first runs do not count', async () => {
  const asked: number[] = []
  let run = 0
  const cold: Variant = {
    ...info,
    name: 'cold',
    // Each burst begins slowly, as with threads asleep and caches cold.
    run: (n) => {
      asked.push(n)
      run++
      return Promise.resolve(Array.from({ length: n }, (_, i) => (i < 2 ? 50 : run)))
    },
  }
  const [timing] = await interleave([cold], { rounds: 2, warmup: 2, restMs: 0 })
  // The first run tells 50 ms, which makes a turn of two; then it is known to be short.
  expect(asked).toEqual([1, 2, 2, 2])
  expect(timing?.runs).toBe(2)
  const short: Variant = { ...cold, run: (n) => Promise.resolve(Array.from({ length: n }, (_, i) => (i < 2 ? 20 : 5))) }
  const [burst] = await interleave([short], { rounds: 3, warmup: 1, restMs: 0 })
  expect(burst?.samplesMs).toEqual([5, 5, 5])
  expect(burst?.p95Ms).toBe(5)
})

test('a burst lasts 30 ms or ten runs after a short while to wake up, and long work runs by itself', () => {
  expect(burstFor(1)).toEqual({ runs: 35, dropped: 5 })
  expect(burstFor(10)).toEqual({ runs: 10, dropped: 2 })
  expect(burstFor(0)).toEqual({ runs: 700, dropped: 100 })
  expect(burstFor(50)).toEqual({ runs: 2, dropped: 1 })
  expect(burstFor(500)).toEqual({ runs: 1, dropped: 0 })
})

test('an aborted signal ends a measurement before the next turn', async () => {
  const stop = new AbortController()
  const variant: Variant = { ...info, name: 'v', run: () => Promise.resolve([999]) }
  const running = interleave([variant], { rounds: 5, warmup: 0, restMs: 0, signal: stop.signal, progress: () => stop.abort(new Error('enough')) })
  await expect(running).rejects.toThrow('enough')
})

test('statistics: the median and the spread are of rounds, the 95th percentile of all runs', () => {
  const timing = timingOf({ ...info, name: 'v' }, [1, 2, 3], [1, 1, 2, 2, 3, 9])
  expect(timing).toMatchObject({ medianMs: 2, spread: 0.5, runs: 6 })
  expect(timing.p95Ms).toBeCloseTo(7.5)
})
