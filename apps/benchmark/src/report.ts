// A report: everything that a run found, as plain data. It is what `--json` writes and what tables, pages, comparisons and
// budgets are made from. Nothing here measures.

import { defaultMemoryBudgetBytes, FormatError } from '@dynconv/core'
import { readFileBytes } from '@dynconv/core/node'
import { type Bound, bandwidthFor, boundOf, type Ceilings } from './ceilings.ts'
import type { Machine } from './machine.ts'
import { pairedRatio, ratioSpread, type Timing } from './measure.ts'
import type { PeakMemory } from './memory.ts'
import type { Work } from './work.ts'
import type { Workload } from './workloads.ts'

/** The layout of the JSON; another one is refused. */
export const reportVersion = 1

/** One time over another, pair by pair. */
export interface Ratio {
  readonly value: number
  /** The distance between the quartiles of the pairs. */
  readonly spread: number
  /** How many pairs there are. */
  readonly pairs: number
  /** The name of the variant that it is set against. */
  readonly against: string
}

/** What is known of a variant beside its times; each is undefined where nobody measured or counted it. */
export interface Facts {
  /** Seconds from a built network to its first result, measured once. */
  readonly firstRunSeconds?: number | undefined
  readonly work?: Work | undefined
  readonly memory?: PeakMemory | undefined
}

/** A variant of a workload. */
export interface Row extends Timing, Facts {
  readonly workload: string
  readonly imagesPerSecond: number
  /** Over the static one of the same library. */
  readonly toStatic?: Ratio | undefined
  /** Of our rows: over the fastest library of each peer with the same K. */
  readonly toPeers: { readonly [vendor: string]: Ratio }
  readonly bound?: Bound | undefined
  /** Of dynamic rows: the time over that of the static one and of reading the bases from memory. */
  readonly toStaticAndBases?: number | undefined
  /**
   * Of dynamic rows in inference: the time over that of the static one and of moving its further bases and the mixed kernels,
   * each written once and read once, at the memory's peak.
   */
  readonly toStaticAndKernels?: number | undefined
  /** Of dynamic rows: the peak of the runs over that of the static one. */
  readonly memoryToStatic?: number | undefined
  /**
   * Of dynamic rows: the peak of the runs over that of the static one and the bytes of the further bases. A training step holds
   * those with their moment, as they are and as they will be, with their gradient, and in the module; and the planner grants
   * it its budget.
   */
  readonly memoryToStaticAndBases?: number | undefined
}

/** Everything that a run found. */
export interface Report {
  readonly version: typeof reportVersion
  readonly machine: Machine
  /** How it was measured, for people. */
  readonly method: readonly string[]
  readonly ceilings?: Ceilings | undefined
  readonly workloads: readonly Workload[]
  readonly rows: readonly Row[]
  /** What did not run, and why. */
  readonly notRun: readonly string[]
}

/** Above this spread between the quartiles, as a share of the ratio, there is no verdict. */
const noisyShare = 0.3

/** Fewer pairs say nothing of the spread. */
const fewestPairs = 3

/** A ratio without the name of what it is set against. */
export type Uncertain = Pick<Ratio, 'value' | 'spread' | 'pairs'>

/** Whether a ratio is too uncertain for a verdict. */
export function isNoisy({ value, spread, pairs }: Uncertain): boolean {
  return pairs < fewestPairs || !(spread <= noisyShare * value)
}

/** A workload's times. */
export interface Result {
  readonly workload: Workload
  readonly timings: readonly (Timing & Facts)[]
}

/** Rows with their ratios, from times. */
export function rowsOf({ workload, timings }: Result, ceilings?: Ceilings): readonly Row[] {
  return timings.map((t) => {
    const base = t.numBases ? timings.find((s) => s.library === t.library && !s.numBases) : undefined
    const rivals = t.vendor === 'dynconv' ? timings.filter((s) => s.vendor !== 'dynconv' && s.numBases === t.numBases) : []
    const toPeers: { [vendor: string]: Ratio } = {}
    for (const vendor of new Set(rivals.map((r) => r.vendor))) {
      const [best] = rivals.filter((r) => r.vendor === vendor).toSorted((a, b) => a.medianMs - b.medianMs)
      if (best) toPeers[vendor] = ratio(t, best)
    }
    // A peer does the same work as ours.
    const work = t.work ?? timings.find((s) => s.work && s.numBases === t.numBases)?.work
    return {
      ...t,
      workload: workload.name,
      imagesPerSecond: (workload.batch * 1e3) / t.medianMs,
      toStatic: base && ratio(t, base),
      toPeers,
      bound: work && ceilings ? boundOf(work, t.medianMs / 1e3, t.library, ceilings) : undefined,
      ...(base ? overBases(t, base, workload, ceilings) : {}),
    }
  })
}

function ratio(a: Timing, b: Timing): Ratio {
  return { value: pairedRatio(a, b), spread: ratioSpread(a, b), pairs: Math.min(a.samplesMs.length, b.samplesMs.length), against: b.name }
}

function overBases(t: Timing & Facts, base: Timing & Facts, { task, batch }: Workload, ceilings: Ceilings | undefined): Pick<Row, 'toStaticAndBases' | 'toStaticAndKernels' | 'memoryToStatic' | 'memoryToStaticAndBases'> {
  const further = t.work && base.work ? t.work.stateBytes - base.work.stateBytes : undefined
  // State is value and moment; a step also has the next of both, the gradient, and the module's value.
  const held = further === undefined ? undefined : task === 'train' ? 3 * further + defaultMemoryBudgetBytes : further
  // The static time and that of moving `bytes`, where all of `touched` is to be had from memory.
  const withMoving = (bytes: number, touched: number): number | undefined => {
    const bandwidth = ceilings && bandwidthFor(touched, ceilings)
    return bandwidth === undefined ? undefined : base.medianMs + (bytes / bandwidth) * 1e3
  }
  const over = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : t.medianMs / ms)
  const mixed = task === 'infer' ? t.work?.mixedBytes : undefined
  return {
    // The mixed kernel of one sample takes the place of the static one, so all bases are read beside it.
    toStaticAndBases: over(t.work && further !== undefined ? withMoving(further + t.work.mixedBytes / batch, t.work.bytes) : undefined),
    toStaticAndKernels: over(t.work && further !== undefined && mixed !== undefined ? withMoving(further + 2 * mixed, t.work.bytes + mixed) : undefined),
    memoryToStatic: t.memory && base.memory ? t.memory.runBytes / base.memory.runBytes : undefined,
    memoryToStaticAndBases: t.memory && base.memory && held !== undefined ? t.memory.runBytes / (base.memory.runBytes + held) : undefined,
  }
}

/** Reads what `--json` wrote. @throws FormatError for anything else; FileError when there is no such file */
export async function readReport(file: string): Promise<Report> {
  const text = new TextDecoder().decode(await readFileBytes(file))
  let found: unknown
  try {
    found = JSON.parse(text)
  } catch (cause) {
    throw new FormatError(`this is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { file, offset: 0 })
  }
  if (!isReport(found)) throw new FormatError(`this is no report of this benchmark (version ${reportVersion}); make one with --json`, { file, offset: 0 })
  return found
}

/** Reports of one machine, measured in parts, as one. The first one's ceilings stand for all. @throws Error for reports of different machines */
export function mergeReports(reports: readonly Report[]): Report {
  const [first] = reports
  if (!first) throw new Error('there is no report to merge')
  const machineOf = ({ machine }: Report): string => [machine.cpu, machine.cores, machine.node].join(', ')
  const other = reports.find((r) => machineOf(r) !== machineOf(first))
  if (other) throw new Error(`reports of different machines cannot be merged: ${machineOf(first)}; ${machineOf(other)}`)
  const union = (of: (r: Report) => readonly string[]): readonly string[] => [...new Set(reports.flatMap(of))]
  const [latest] = reports.toSorted((a, b) => b.machine.date.localeCompare(a.machine.date))
  return {
    ...first,
    machine: { ...first.machine, engines: union((r) => r.machine.engines), peers: union((r) => r.machine.peers), date: (latest ?? first).machine.date },
    method: union((r) => r.method),
    ceilings: reports.find((r) => r.ceilings)?.ceilings,
    workloads: reports.flatMap((r) => r.workloads),
    rows: reports.flatMap((r) => r.rows),
    notRun: union((r) => r.notRun),
  }
}

// A boundary: as much as makes sure that it is a whole report of this version, which no cut-off file is.
function isReport(value: unknown): value is Report {
  const is = (v: unknown): v is { readonly [key: string]: unknown } => typeof v === 'object' && v !== null
  if (!is(value) || value['version'] !== reportVersion) return false
  const { rows, workloads, notRun, machine } = value
  return Array.isArray(rows) && Array.isArray(workloads) && Array.isArray(notRun) && is(machine) && rows.every((r) => is(r) && typeof r['workload'] === 'string' && typeof r['name'] === 'string' && typeof r['medianMs'] === 'number' && is(r['toPeers']))
}
