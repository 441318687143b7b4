// Numbers and tables for people.

import Table from 'cli-table3'

/** `1,234,567` */
export function formatCount(n: number): string {
  return Math.round(n).toLocaleString('en-US')
}

/** `91.25 %` */
export function formatPercent(fraction: number): string {
  return `${(100 * fraction).toFixed(2)} %`
}

/** `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min` */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?'
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A table for the terminal; columns named in `numeric` are aligned at their right. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[], numeric: readonly string[]): string {
  const table = new Table({ head: [...head], colAligns: head.map((h) => (numeric.includes(h) ? 'right' : 'left')), style: { head: [], border: [], compact: true } })
  table.push(...rows.map((row) => [...row]))
  return table.toString()
}
