// The results as a table for the terminal and as plain data for `--json`.

import Table from 'cli-table3'
import type { Machine } from './machine.ts'
import { pairedRatio, type Timing } from './measure.ts'
import type { Workload } from './workloads.ts'

/** A workload's times. */
export interface Result {
  readonly workload: Workload
  /** The first is the static network of our own. */
  readonly timings: readonly Timing[]
  /** What did not run, and why. */
  readonly notRun: readonly string[]
}

/** A row of the table and of the JSON. */
export interface Row {
  readonly workload: string
  readonly variant: string
  readonly medianMs: number
  readonly spread: number
  /** Over the static one of the same library. */
  readonly toStatic: number | undefined
  /** Our time over the peer's best mode, static against static and dynamic against dynamic. */
  readonly toPeer: number | undefined
}

/** Everything that a run found. */
export interface Report {
  readonly machine: Machine
  readonly rows: readonly Row[]
  readonly notRun: readonly string[]
}

/** Above this spread between the quartiles a row gets no verdict. */
const noisy = 0.3

const isPeer = (t: Timing): boolean => t.name.startsWith('PyTorch')
const isStatic = (t: Timing): boolean => t.name.endsWith('static')

/** Rows with their ratios, from times. */
export function rowsOf({ workload, timings }: Result): readonly Row[] {
  return timings.map((t) => {
    const base = timings.find((s) => isStatic(s) && isPeer(s) === isPeer(t) && (!isPeer(t) || mode(s) === mode(t)))
    const rivals = isPeer(t) ? [] : timings.filter((s) => isPeer(s) && isStatic(s) === isStatic(t))
    const best = rivals.toSorted((a, b) => a.medianMs - b.medianMs)[0]
    return {
      workload: workload.name,
      variant: t.name,
      medianMs: t.medianMs,
      spread: t.spread,
      toStatic: base && base !== t ? pairedRatio(t, base) : undefined,
      toPeer: best ? pairedRatio(t, best) : undefined,
    }
  })
}

function mode(t: Timing): string | undefined {
  return t.name.split(' ')[1]
}

/** The table for the terminal. */
export function formatReport(report: Report): string {
  const { machine } = report
  const table = new Table({
    head: ['workload', 'variant', 'median ms', 'spread', 'dynamic / static', 'ours / PyTorch best'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [] },
  })
  for (const row of report.rows) {
    const ratio = (r: number | undefined): string => (r === undefined ? '' : row.spread > noisy ? `noisy (${r.toFixed(2)})` : r.toFixed(2))
    table.push([row.workload, row.variant, row.medianMs.toFixed(2), `${(row.spread * 100).toFixed(0)} %`, ratio(row.toStatic), ratio(row.toPeer)])
  }
  const head = [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.platform}, Node ${machine.node}`,
    `ours: ${machine.backend}; peer: ${machine.peer}`,
    'medians of interleaved rounds; spread: distance of the quartiles over the median; ratios pair by pair',
  ]
  return [...head, table.toString(), ...report.notRun.map((line) => `not run: ${line}`)].join('\n')
}
