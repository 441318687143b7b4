// Interleaved measurement. Every variant of a piece of work has one turn in each round, so that a slow minute of the machine
// slows all of them, and another one begins each round. Before a turn comes a rest: threads of the library that ran last may
// still be spinning and would take the cores from whoever comes next. A rest also lets threads fall asleep and caches go
// cold, which would be most of what a short run costs; so a turn of a short piece of work is a burst of runs, the first of
// which do not count. A round's sample is the median of its burst; verdicts are medians of rounds, and ratios are taken
// pair by pair within a round.

import { setTimeout as pause } from 'node:timers/promises'

/** Which of a piece of work's variants it is. */
export interface VariantInfo {
  /** `onnx dynamic K=4 auto` */
  readonly name: string
  /** What runs it: `onnx`, `tfjs:wasm`, `PyTorch eager`. Ratios of dynamic to static stay within one. */
  readonly library: string
  /** Whose library it is: `dynconv`, or a peer. Of a peer's libraries the fastest counts. */
  readonly vendor: string
  /** K, or 0 for ordinary convolutions. */
  readonly numBases: number
}

/** Something to time. */
export interface Variant extends VariantInfo {
  /** Runs `times` times without a pause, and gives the milliseconds that each took, measured where it ran. */
  readonly run: (times: number) => Promise<readonly number[]>
}

/** Times of a variant. */
export interface Timing extends VariantInfo {
  /** The median of the rounds. */
  readonly medianMs: number
  /** The distance between the quartiles of the rounds over the median. */
  readonly spread: number
  /** The 95th percentile of all runs. */
  readonly p95Ms: number
  /** How many runs counted. */
  readonly runs: number
  /** One for each round. */
  readonly samplesMs: readonly number[]
}

/** How to measure. */
export interface MeasureOptions {
  readonly rounds: number
  readonly warmup: number
  /** Milliseconds of rest before each turn. */
  readonly restMs: number
  /** A burst lasts at least this long, unless its work is longer. */
  readonly burstMs?: number
  /** Asked before each turn; throws to stop. */
  readonly signal?: AbortSignal | undefined
  /** Told after each turn. */
  readonly progress?: (done: number, total: number) => void
}

/** A turn: how many runs, and how many of them, the first, do not count. */
export interface Burst {
  readonly runs: number
  readonly dropped: number
}

// How long it takes until threads are awake and caches warm, in work that is shorter than that.
const WAKING_MS = 5

/**
 * The turn of work that takes `ms` a run: as many runs as take `burstMs`, at least eight, after two (or 5 ms) that do not
 * count. Work that takes longer by itself runs once after one that does not count; from 200 ms on the first one counts.
 */
export function burstFor(ms: number, burstMs: number = 30): Burst {
  if (ms >= 200) return { runs: 1, dropped: 0 }
  if (ms >= burstMs) return { runs: 2, dropped: 1 }
  const each = Math.max(ms, 0.05)
  const dropped = Math.max(2, Math.ceil(WAKING_MS / each))
  return { runs: dropped + Math.max(8, Math.ceil(burstMs / each)), dropped }
}

/** Gives each of `variants` its turns: `rounds` rounds, after `warmup` rounds that do not count. */
export async function interleave(variants: readonly Variant[], options: MeasureOptions): Promise<readonly Timing[]> {
  const turns = variants.map((variant) => ({ variant, samples: [] as number[], all: [] as number[], fastest: Number.POSITIVE_INFINITY }))
  const total = (options.warmup + options.rounds) * turns.length
  let done = 0
  for (let round = -options.warmup; round < options.rounds; round++) {
    for (let k = 0; k < turns.length; k++) {
      options.signal?.throwIfAborted()
      const turn = turns[(k + round + options.warmup) % turns.length]
      if (!turn) continue
      await pause(options.restMs)
      const { runs, dropped } = Number.isFinite(turn.fastest) ? burstFor(turn.fastest, options.burstMs) : { runs: 1, dropped: 0 }
      const times = (await turn.variant.run(runs)).slice(dropped)
      turn.fastest = Math.min(turn.fastest, ...times)
      if (round >= 0) {
        turn.samples.push(quantile(times, 0.5))
        turn.all.push(...times)
      }
      options.progress?.(++done, total)
    }
  }
  return turns.map(({ variant, samples, all }) => timingOf(variant, samples, all))
}

/** The statistics of one variant. */
export function timingOf({ name, library, vendor, numBases }: VariantInfo, samplesMs: readonly number[], all: readonly number[] = samplesMs): Timing {
  const medianMs = quantile(samplesMs, 0.5)
  const spread = (quantile(samplesMs, 0.75) - quantile(samplesMs, 0.25)) / medianMs
  return { name, library, vendor, numBases, medianMs, spread, p95Ms: quantile(all, 0.95), runs: all.length, samplesMs }
}

/** The median over rounds of a's time over b's. */
export function pairedRatio(a: Timing, b: Timing): number {
  return quantile(pairs(a, b), 0.5)
}

/** The distance between the quartiles of a's time over b's. */
export function ratioSpread(a: Timing, b: Timing): number {
  return quantile(pairs(a, b), 0.75) - quantile(pairs(a, b), 0.25)
}

function pairs(a: Timing, b: Timing): readonly number[] {
  return a.samplesMs.slice(0, b.samplesMs.length).map((ms, i) => ms / (b.samplesMs[i] ?? Number.NaN))
}

/** Times `work`, `times` times. */
export async function timed(times: number, work: () => unknown): Promise<readonly number[]> {
  const result: number[] = []
  for (let i = 0; i < times; i++) {
    const start = performance.now()
    await work()
    result.push(performance.now() - start)
  }
  return result
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
