// A run as text for people and as data for programs.

import type { Lane, Report, Result } from './suite.ts'
import { supportDocument } from './support.ts'

/** One result that is no pass, as text: `FAILED onnx gradient conv2d[...]` and what is wrong, indented. */
export function formatResult(r: Result): string {
  const lines = r.problems.flatMap((p) => p.split('\n')).map((line) => `\n    ${line}`)
  return `${r.status === 'failed' ? 'FAILED' : r.status} ${r.backend} ${r.mode} ${r.id}${lines.join('')}`
}

/** The counts of every lane, the figures that were measured, and how long it took. */
export function formatSummary(report: Report): string {
  const sections = [formatLanes(report.lanes), formatTimes(report), formatWeights(report)].filter(Boolean)
  const failed = report.results.filter((r) => r.status === 'failed').length
  const lanes = report.lanes.filter((l) => l.problem !== undefined).length
  const end = report.passed ? 'everything agrees' : `${failed} cases failed${lanes ? `, ${lanes} lanes did not do what was promised` : ''}`
  const count = (status: Result['status']): number => report.results.filter((r) => r.status === status).length
  return [...sections, `${count('passed')} passed, ${failed} failed, ${count('unsupported')} unsupported, in ${report.seconds.toFixed(1)} s: ${end}`].join('\n\n')
}

function formatLanes(lanes: readonly Lane[]): string {
  const rows = lanes.map((l) => [l.backend, l.mode, String(l.passed), String(l.failed), String(l.unsupported), l.problem === undefined ? '' : `FAILED: ${l.problem}`])
  return table([['backend', 'mode', 'passed', 'failed', 'unsupported', ''], ...rows])
}

function formatTimes({ results }: Report): string {
  const timed = results.filter((r) => r.mode === 'perf' && r.figures)
  if (timed.length === 0) return ''
  const backends = [...new Set(timed.map((r) => r.backend))]
  const rows = [...new Set(timed.map((r) => r.id))].map((id) => [
    id,
    ...backends.map((b) => {
      const ms = timed.find((r) => r.id === id && r.backend === b)?.figures?.medianMilliseconds
      return ms === undefined ? '-' : `${ms.toPrecision(3)} ms`
    }),
  ])
  return table([['median time of a run', ...backends], ...rows])
}

function formatWeights({ results }: Report): string {
  const weighed = results.filter((r) => r.mode === 'memory' && r.figures)
  if (weighed.length === 0) return ''
  const backends = [...new Set(weighed.map((r) => r.backend))]
  const rows = [...new Set(weighed.map((r) => r.id))].map((id) => [
    id,
    ...backends.map((b) => {
      const f = weighed.find((r) => r.id === id && r.backend === b)?.figures
      return f ? `${kilobytes(f.liveBytes)} / ${kilobytes(f.peakBytes)}` : '-'
    }),
  ])
  return table([['kB alive between runs / at most, as the engine counts', ...backends], ...rows])
}

function kilobytes(count: number | undefined): string {
  return count === undefined ? '-' : (count / 1000).toFixed(count < 1e5 ? 1 : 0)
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => (r[i] ?? '').length)))
  return rows.map((r) => r.map((cell, i) => (i === 0 || i === r.length - 1 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ').trimEnd()).join('\n')
}

/** The report as plain data: lanes, what is not a pass, figures, and what each backend supports. */
export function reportData(report: Report): object {
  const { lanes, support, seconds, passed } = report
  const { length } = report.results
  const notPassed = report.results.filter((r) => r.status !== 'passed').map(({ backend, mode, id, status, problems }) => ({ backend, mode, id, status, problems }))
  const figures = report.results.flatMap(({ backend, mode, id, figures: f }) => (f ? [{ backend, mode, id, ...f }] : []))
  return { passed, seconds, count: length, lanes, notPassed, figures, support }
}

/** SUPPORT.md of a run. */
export function supportOf(report: Report): string {
  const failing = new Map<string, ReadonlySet<string>>()
  for (const { backend } of report.support) {
    failing.set(backend, new Set(report.results.filter((r) => r.backend === backend && r.status === 'failed').map((r) => r.family)))
  }
  return supportDocument(report.support, failing)
}
