// What the article that this project started from claims in its section 4, beside what a report found. Claims of its
// authors, on a GTX 1080 Ti; not results of ours.

import { formatNumber } from './format.ts'
import type { Report, Row } from './report.ts'

/** A claim and what was found. */
export interface ArticleRow {
  readonly what: string
  readonly claimed: string
  /** Undefined where the report has nothing on it. */
  readonly found: string | undefined
}

interface Claim {
  readonly what: string
  readonly claimed: string
  readonly found: (rows: readonly Row[]) => string | undefined
}

const percent = (ratio: number): string => `${ratio >= 1 ? '+' : ''}${((ratio - 1) * 100).toFixed(0)} %`

// ResNet-18 with K = 4, one image of 224x224.
const large = (rows: readonly Row[]): Row | undefined => rows.find((r) => r.workload.startsWith('ResNet-18') && r.workload.includes('224x224 batch 1') && r.vendor === 'dynconv' && r.numBases === 4)

const claims: readonly Claim[] = [
  {
    what: 'latency, dynamic over static, ResNet-18',
    claimed: '+28 % (3.2 to 4.1 ms on a GTX 1080 Ti)',
    found: (rows) => {
      const row = large(rows)
      return row?.toStatic && `${percent(row.toStatic.value)} (${formatNumber(row.medianMs / row.toStatic.value)} to ${formatNumber(row.medianMs)} ms)`
    },
  },
  {
    what: 'memory, dynamic over static, one image of 224x224',
    claimed: '+25 % (1.2 to 1.5 GB)',
    found: (rows) => {
      const row = large(rows)
      return row?.memory && row.memoryToStatic !== undefined
        ? `${percent(row.memoryToStatic)} (${formatNumber(row.memory.runBytes / row.memoryToStatic / 1e9)} to ${formatNumber(row.memory.runBytes / 1e9)} GB above the engine's own)`
        : undefined
    },
  },
]

/** The claims, beside what a report found. Empty when it found nothing on any of them. */
export function articleRows({ rows }: Pick<Report, 'rows'>): readonly ArticleRow[] {
  const all = claims.map(({ what, claimed, found }) => ({ what, claimed, found: found(rows) }))
  return all.some((r) => r.found !== undefined) ? all : []
}
