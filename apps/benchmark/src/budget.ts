// A budget: what ratios of a report may be at the most. Ratios only, for times depend on the machine and ratios hardly do:
// dynamic to static, ours to a peer, memory to memory. Each has a margin for noise; a ratio that is too noisy for a verdict
// does not pass.

import { FormatError } from '@dynconv/core'
import { readFileBytes } from '@dynconv/core/node'
import { isNoisy, type Report, type Row, type Uncertain } from './report.ts'

/** What a budget can bound. */
export const budgetMetrics = ['toStatic', 'toPeer', 'toStaticAndBases', 'toStaticAndKernels', 'memoryToStaticAndBases'] as const

/** A quantity of a row. */
export type BudgetMetric = (typeof budgetMetrics)[number]

/** Whether a metric goes by the measured speed of memory. */
export function needsCeilings(metric: BudgetMetric): boolean {
  return metric === 'toStaticAndBases' || metric === 'toStaticAndKernels'
}

/** One bound. */
export interface BudgetEntry {
  readonly workload: string
  readonly variant: string
  readonly metric: BudgetMetric
  /** With `toPeer`: whose. */
  readonly peer?: string
  readonly most: number
  /** Other bounds by what an engine says of itself: `NCHWc block 8`, where a processor has AVX2 and no AVX-512. */
  readonly mostWhere?: Readonly<Record<string, number>>
}

/** The file. */
export interface Budget {
  /** What the bounds are and on which machine they were seen, for people. */
  readonly about: string
  /** 0.1: ten percent over a bound still pass. */
  readonly margin: number
  readonly entries: readonly BudgetEntry[]
}

/** How an entry fared. */
export interface BudgetVerdict {
  readonly entry: BudgetEntry
  readonly value: number | undefined
  /** The row's share of what the machine can do, where its bound is known. */
  readonly share?: number | undefined
  readonly verdict: 'within' | 'over' | 'noisy' | 'missing'
}

/** Sets a report against a budget. An entry that the report does not know is missing, which is a failure too. */
export function checkBudget({ rows, machine }: Pick<Report, 'rows'> & { readonly machine: Pick<Report['machine'], 'engines'> }, budget: Budget): readonly BudgetVerdict[] {
  return budget.entries.map((written) => {
    const [, most = written.most] = Object.entries(written.mostWhere ?? {}).find(([mark]) => machine.engines.some((engine) => engine.includes(mark))) ?? []
    const entry = { ...written, most }
    const row = rows.find((r) => r.workload === entry.workload && r.name === entry.variant)
    const found = row && measured(row, entry)
    if (!found) return { entry, value: undefined, verdict: 'missing' }
    const verdict = isNoisy(found) ? 'noisy' : found.value <= most * (1 + budget.margin) ? 'within' : 'over'
    return { entry, value: found.value, share: row?.bound?.share, verdict }
  })
}

/** The verdicts of two measurements of one budget: what was within its bound once is able to be. */
export function betterOf(first: readonly BudgetVerdict[], second: readonly BudgetVerdict[]): readonly BudgetVerdict[] {
  return first.map((a, i) => {
    const b = second[i]
    return a.verdict === 'within' || !b || b.verdict === 'missing' ? a : b
  })
}

function measured(row: Row, { metric, peer = '' }: BudgetEntry): Uncertain | undefined {
  if (metric === 'toStatic') return row.toStatic
  if (metric === 'toPeer') return Object.hasOwn(row.toPeers, peer) ? row.toPeers[peer] : undefined
  const value = row[metric]
  if (value === undefined) return undefined
  // Set against a count, not pair by pair: the row's own spread stands for the ratio's. Peaks are measured once.
  return needsCeilings(metric) ? { value, spread: row.spread * value, pairs: row.samplesMs.length } : { value, spread: 0, pairs: Number.POSITIVE_INFINITY }
}

/** Reads a budget. @throws FormatError that says what is wrong with it; FileError when there is no such file */
export async function readBudget(file: string): Promise<Budget> {
  const text = new TextDecoder().decode(await readFileBytes(file))
  const fail = (message: string, cause?: unknown): FormatError => new FormatError(message, { file, offset: 0, cause })
  let found: unknown
  try {
    found = JSON.parse(text)
  } catch (cause) {
    throw fail(`this is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
  const is = (v: unknown): v is { readonly [key: string]: unknown } => typeof v === 'object' && v !== null
  if (!is(found)) throw fail('a budget is an object { about, margin, entries }')
  const { about, margin, entries } = found
  if (typeof about !== 'string') throw fail('about must be a text')
  if (typeof margin !== 'number' || !(margin >= 0)) throw fail(`margin must be a number from 0, got ${String(margin)}`)
  if (!Array.isArray(entries) || !entries.length) throw fail('entries must be a list with something in it')
  return {
    about,
    margin,
    entries: entries.map((entry: unknown, i): BudgetEntry => {
      if (!is(entry)) throw fail(`entries[${i}] must be an object`)
      const { workload, variant, metric, peer, most, mostWhere = {} } = entry
      const known = budgetMetrics.find((m) => m === metric)
      if (typeof workload !== 'string' || typeof variant !== 'string') throw fail(`entries[${i}] must name a workload and a variant`)
      if (!known) throw fail(`entries[${i}].metric must be one of ${budgetMetrics.join(', ')}, got ${String(metric)}`)
      if (typeof most !== 'number' || !(most > 0)) throw fail(`entries[${i}].most must be a positive number, got ${String(most)}`)
      if (known === 'toPeer' && typeof peer !== 'string') throw fail(`entries[${i}].peer must name a peer`)
      if (!is(mostWhere)) throw fail(`entries[${i}].mostWhere must be an object of bounds`)
      const others = Object.entries(mostWhere).map(([mark, bound]): [string, number] => {
        if (typeof bound !== 'number' || !(bound > 0)) throw fail(`entries[${i}].mostWhere['${mark}'] must be a positive number, got ${String(bound)}`)
        return [mark, bound]
      })
      return { workload, variant, metric: known, most, ...(typeof peer === 'string' ? { peer } : {}), ...(others.length ? { mostWhere: Object.fromEntries(others) } : {}) }
    }),
  }
}
