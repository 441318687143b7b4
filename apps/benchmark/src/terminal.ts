// A report as a table for the terminal.

import type { Ceilings } from './ceilings.ts'
import { formatMegabytes, formatMs, formatNumber, formatRatio, formatShare, formatTable } from './format.ts'
import type { Machine } from './machine.ts'
import type { Report, Row } from './report.ts'
import { summaryLines } from './summary.ts'

/** The lines that say what a report was measured on. */
export function machineLines(machine: Machine): readonly string[] {
  return [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.platform}, Node ${machine.node}`,
    `ours: ${machine.engines.join('; ')}`,
    `peers: ${machine.peers.join('; ') || 'none'}`,
  ]
}

/** The lines that say what the machine can do. */
export function ceilingLines(ceilings: Ceilings | undefined): readonly string[] {
  if (!ceilings) return []
  const gemm = ceilings.gemm.map((g) => `${g.library} ${(g.macsPerSecond / 1e9).toFixed(1)}`)
  const memory = ceilings.memory.map((m) => `${(m.bytesPerSecond / 1e9).toFixed(1)} (${(m.bytes / 2 ** 20).toFixed(0)} MiB)`)
  return [`large products, G multiply-adds/s: ${gemm.join(', ')}`, `memory, GB/s: ${memory.join(', ')}`]
}

/** A column of the table of rows. */
export interface Column {
  readonly head: string
  readonly text: (row: Row) => string
}

/** What each column says. A column that is empty throughout is left out. */
const columns: readonly Column[] = [
  { head: 'workload', text: (r) => r.workload },
  { head: 'variant', text: (r) => r.name },
  { head: 'median ms', text: (r) => formatMs(r.medianMs) },
  { head: 'p95 ms', text: (r) => formatMs(r.p95Ms) },
  { head: 'spread', text: (r) => formatShare(r.spread) },
  { head: 'images/s', text: (r) => formatNumber(r.imagesPerSecond) },
  { head: 'first run s', text: (r) => r.firstRunSeconds?.toFixed(2) ?? '' },
  { head: 'peak MB', text: (r) => formatMegabytes(r.memory?.runBytes) },
  { head: 'of the bound', text: (r) => formatShare(r.bound?.share) },
  { head: 'to static', text: (r) => formatRatio(r.toStatic) },
  { head: 'to static + kernels', text: (r) => r.toStaticAndKernels?.toFixed(2) ?? '' },
  { head: 'to static + bases', text: (r) => r.toStaticAndBases?.toFixed(2) ?? '' },
  { head: 'memory to static', text: (r) => r.memoryToStatic?.toFixed(2) ?? '' },
  { head: 'memory to static + bases', text: (r) => r.memoryToStaticAndBases?.toFixed(2) ?? '' },
]

/** The columns of a report: those with something in them, and one for each peer. */
export function columnsOf({ rows }: Pick<Report, 'rows'>): readonly Column[] {
  const vendors = [...new Set(rows.flatMap((r) => Object.keys(r.toPeers)))]
  const all = [...columns, ...vendors.map((v) => ({ head: `to ${v}`, text: (r: Row) => formatRatio(r.toPeers[v]) }))]
  return all.filter(({ text }) => rows.some((row) => text(row)))
}

const meanings: readonly { readonly of: RegExp; readonly text: string }[] = [
  { of: /^median ms$/, text: 'median: of the rounds; p95: of all runs; spread: distance between the quartiles of the rounds over the median' },
  { of: /^first run s$/, text: 'first run: from a built network to its first result, with tracing, planning and compiling; measured once' },
  { of: /^peak MB$/, text: 'peak MB: resident memory above that of the loaded engine, during the runs, each variant in a process of its own' },
  { of: /^of the bound$/, text: 'of the bound: what this machine would need at its measured peaks of multiply-adds and of memory, over the time that it took; above 100 % an algorithm saves multiply-adds' },
  { of: /^to /, text: 'to ...: this time over the other, pair by pair within a round; "noisy" where the quartiles of the pairs lie more than 30 % apart' },
  { of: /^to static \+ bases$/, text: 'to static + bases: over the static time and the reading of all bases at the peak of memory' },
  { of: /^to static \+ kernels$/, text: 'to static + kernels: over the static time and the moving of the further bases and of the mixed kernels, written once and read once, at the peak of memory' },
  { of: /^memory to static \+ bases$/, text: "memory to static + bases: over the static one's peak and the bytes of the further bases: once; of a training step with moment and gradient, as they are and as they will be, and the planner's budget" },
]

/** What the columns of a report mean. */
export function legendOf(report: Pick<Report, 'rows'>): readonly string[] {
  const heads = columnsOf(report).map((c) => c.head)
  return meanings.filter(({ of }) => heads.some((head) => of.test(head))).map(({ text }) => text)
}

/** The whole report for people. */
export function formatReport(report: Report): string {
  const shown = columnsOf(report)
  const table = formatTable(shown.map((c) => c.head), report.rows.map((row) => shown.map((c) => c.text(row))))
  return [...machineLines(report.machine), ...ceilingLines(report.ceilings), ...report.method, table, ...summaryLines(report), ...legendOf(report), ...report.notRun.map((line) => `not run: ${line}`)].join('\n')
}
