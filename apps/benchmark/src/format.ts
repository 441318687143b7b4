// Numbers and tables for people.

import Table from 'cli-table3'
import { isNoisy, type Uncertain } from './report.ts'

/** A ratio: `1.07`, or `noisy (1.07)` where the spread is too wide for a verdict. */
export function formatRatio(ratio: Uncertain | undefined): string {
  if (!ratio) return ''
  return isNoisy(ratio) ? `noisy (${ratio.value.toFixed(2)})` : ratio.value.toFixed(2)
}

/** Milliseconds with three digits: `0.123`, `12.3`, `1230`. */
export function formatMs(ms: number | undefined): string {
  if (ms === undefined) return ''
  return ms >= 100 ? ms.toFixed(0) : ms.toPrecision(3)
}

/** A share: `83 %`. */
export function formatShare(share: number | undefined): string {
  return share === undefined ? '' : `${(share * 100).toFixed(0)} %`
}

/** Bytes in MB: `1230`, `12.3`. */
export function formatMegabytes(bytes: number | undefined): string {
  if (bytes === undefined) return ''
  const mb = bytes / 1e6
  return mb >= 100 ? mb.toFixed(0) : mb.toFixed(1)
}

/** A plain number with at most three digits, or nothing. */
export function formatNumber(value: number | undefined): string {
  if (value === undefined) return ''
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}

/** A table for the terminal; columns after the second are numbers. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = new Table({ head: [...head], colAligns: head.map((_, i) => (i < 2 ? 'left' : 'right')), style: { head: [], border: [], compact: true } })
  for (const row of rows) table.push([...row])
  return table.toString()
}
