// What a report says in a few lines: the geometric mean of the ratios to each peer, and the article's claims.

import { articleRows } from './article.ts'
import { isNoisy, type Ratio, type Report, type Row } from './report.ts'

/** Whether a row stands for its work: where every form was measured, the one that the planner chose. */
export function isChosen(rows: readonly Row[], row: Row): boolean {
  return row.name.endsWith(' auto') || !rows.some((r) => r.workload === row.workload && r.library === row.library && r.name.endsWith(' auto'))
}

/** The geometric mean. NaN of nothing. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length)
}

/** The lines. */
export function summaryLines(report: Pick<Report, 'rows'>): readonly string[] {
  const { rows } = report
  const chosen = rows.filter((row) => row.vendor === 'dynconv' && (!row.numBases || isChosen(rows, row)))
  const lines = [...new Set(chosen.map((r) => r.library))].flatMap((library) =>
    [...new Set(rows.flatMap((r) => Object.keys(r.toPeers)))].flatMap((vendor) =>
      [0, 1].flatMap((isDynamic) => {
        const ratios = chosen.flatMap((r) => (r.library === library && Number(r.numBases > 0) === isDynamic && r.toPeers[vendor] ? [r.toPeers[vendor]] : []))
        return ratios.length ? [meanLine(`${isDynamic ? 'dynamic' : 'static'}: ${library} / ${vendor}`, ratios)] : []
      }),
    ),
  )
  return [...lines, ...articleRows(report).map(({ what, claimed, found }) => `the article's ${what}: claimed ${claimed}, here ${found ?? 'not measured'}`)]
}

function meanLine(name: string, ratios: readonly Ratio[]): string {
  const clear = ratios.filter((r) => !isNoisy(r))
  const noisy = ratios.length - clear.length
  const worst = Math.max(...clear.map((r) => r.value))
  const result = clear.length ? `geometric mean ${geometricMean(clear.map((r) => r.value)).toFixed(2)}, worst ${worst.toFixed(2)} of ${clear.length} rows` : 'no verdict'
  return `${name}: ${result}${noisy ? `; ${noisy} noisy rows left out` : ''}`
}
