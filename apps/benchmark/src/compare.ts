// Two reports side by side: which variants became slower, or need more memory. Times of two runs differ by the machine's
// mood, so a row only counts as a regression when it is slower by more than the margin and by more than its own spread.

import type { Report, Row } from './report.ts'

/** A variant in both reports. */
export interface Change {
  readonly workload: string
  readonly name: string
  readonly beforeMs: number
  readonly afterMs: number
  /** After over before. */
  readonly time: number
  /** The change that this row's own spreads explain. */
  readonly noise: number
  /** Peak memory after over before, where both know it. */
  readonly memory: number | undefined
  readonly verdict: 'slower' | 'more memory' | 'faster' | 'same'
}

/** What two reports say together. */
export interface Comparison {
  readonly changes: readonly Change[]
  /** Variants that only one of them has. */
  readonly onlyBefore: readonly string[]
  readonly onlyAfter: readonly string[]
  /** What makes their times hard to compare: another machine, another engine. */
  readonly warnings: readonly string[]
}

/** Sets `after` against `before`. @param margin the change that does not matter, 0.1: ten percent */
export function compareReports(before: Report, after: Report, margin: number): Comparison {
  const key = (r: Row): string => `${r.workload}: ${r.name}`
  const old = new Map(before.rows.map((r) => [key(r), r]))
  const now = new Set(after.rows.map(key))
  const changes = after.rows.flatMap((row) => {
    const was = old.get(key(row))
    return was ? [changeOf(was, row, margin)] : []
  })
  return {
    changes,
    onlyBefore: [...old.keys()].filter((k) => !now.has(k)),
    onlyAfter: [...now].filter((k) => !old.has(k)),
    warnings: (['cpu', 'cores', 'node', 'engines', 'peers'] as const).flatMap((field) => {
      const [a, b] = [String(before.machine[field]), String(after.machine[field])]
      return a === b ? [] : [`${field}: ${a || 'none'} before, ${b || 'none'} after`]
    }),
  }
}

function changeOf(before: Row, after: Row, margin: number): Change {
  const time = after.medianMs / before.medianMs
  const noise = Math.hypot(before.spread, after.spread) / 2
  const memory = before.memory && after.memory ? after.memory.runBytes / before.memory.runBytes : undefined
  const beyond = 1 + Math.max(margin, noise)
  const verdict = time > beyond ? 'slower' : memory !== undefined && memory > 1 + margin ? 'more memory' : time < 1 / beyond ? 'faster' : 'same'
  return { workload: after.workload, name: after.name, beforeMs: before.medianMs, afterMs: after.medianMs, time, noise, memory, verdict }
}

/** The changes for the worse. */
export function regressions({ changes }: Comparison): readonly Change[] {
  return changes.filter((c) => c.verdict === 'slower' || c.verdict === 'more memory')
}
