// Interleaved measurement: every variant of a workload runs once in each round, so that a slow minute of the machine slows
// all of them. Another one begins each round, and each waits a little before it starts: the threads of the library that ran
// last may still be spinning, and would take the cores from whoever comes next. Verdicts are medians, and ratios taken pair
// by pair within a round.

import { setTimeout as pause } from 'node:timers/promises'

/** Something to time. */
export interface Variant {
  readonly name: string
  /** Runs once and gives the milliseconds it took, measured where it ran. */
  readonly run: () => Promise<number>
}

/** Times of a variant. */
export interface Timing {
  readonly name: string
  readonly medianMs: number
  /** The distance between the quartiles over the median. */
  readonly spread: number
  readonly samplesMs: readonly number[]
}

/** How to measure. */
export interface MeasureOptions {
  readonly rounds: number
  readonly warmup: number
  /** Milliseconds of rest before each run. */
  readonly restMs: number
  /** Told after each run. */
  readonly progress?: (done: number, total: number) => void
}

/** Runs `variants` in turn, `rounds` times over, after `warmup` rounds that do not count. */
export async function interleave(variants: readonly Variant[], options: MeasureOptions): Promise<readonly Timing[]> {
  const samples = variants.map((): number[] => [])
  const total = (options.warmup + options.rounds) * variants.length
  let done = 0
  for (let round = -options.warmup; round < options.rounds; round++) {
    for (let turn = 0; turn < variants.length; turn++) {
      const i = (turn + round + options.warmup) % variants.length
      await pause(options.restMs)
      const ms = await variants[i]?.run()
      if (round >= 0 && ms !== undefined) samples[i]?.push(ms)
      options.progress?.(++done, total)
    }
  }
  return variants.map((variant, i) => {
    const list = samples[i] ?? []
    return { name: variant.name, medianMs: quantile(list, 0.5), spread: (quantile(list, 0.75) - quantile(list, 0.25)) / quantile(list, 0.5), samplesMs: list }
  })
}

/** The median over rounds of a's time over b's. */
export function pairedRatio(a: Timing, b: Timing): number {
  return quantile(a.samplesMs.map((ms, i) => ms / (b.samplesMs[i] ?? Number.NaN)), 0.5)
}

/** The q-quantile, linear between neighbours. @throws RangeError for an empty list */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)]
  const high = sorted[Math.ceil(at)]
  if (low === undefined || high === undefined) throw new RangeError('quantile: there are no values')
  return low + (high - low) * (at - Math.floor(at))
}
