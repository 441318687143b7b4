// A report as the Markdown table of a README: for each piece of work our static and chosen dynamic time, their ratio, and
// our times over each peer's best.

import { formatMs, formatRatio } from './format.ts'
import type { Report } from './report.ts'
import { isChosen } from './summary.ts'

/** The table, after two lines that say where it comes from. */
export function markdownTable({ machine, rows, workloads }: Report): string {
  const vendors = [...new Set(rows.flatMap((r) => Object.keys(r.toPeers)))]
  const libraries = [...new Set(rows.filter((r) => r.vendor === 'dynconv').map((r) => r.library))]
  const head = ['work', ...(libraries.length > 1 ? ['engine'] : []), 'K', 'static ms', 'dynamic ms', 'dynamic / static', ...vendors.flatMap((v) => [`static: ours / ${v}`, `dynamic: ours / ${v}`])]
  const lines = workloads.flatMap(({ name }) => {
    const own = rows.filter((r) => r.workload === name)
    return libraries.flatMap((library) => {
      const base = own.find((r) => r.library === library && !r.numBases)
      return own.filter((r) => r.library === library && r.numBases && isChosen(own, r)).map((row) => [
        name,
        ...(libraries.length > 1 ? [library] : []),
        String(row.numBases),
        formatMs(base?.medianMs),
        formatMs(row.medianMs),
        formatRatio(row.toStatic),
        ...vendors.flatMap((v) => [formatRatio(base?.toPeers[v]), formatRatio(row.toPeers[v])]),
      ])
    })
  })
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}. Ours: ${machine.engines.join('; ')}.${machine.peers.length ? ` Peers: ${machine.peers.join('; ')}.` : ''}`,
    '',
    line(head),
    line(head.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...lines.map(line),
  ].join('\n')
}
