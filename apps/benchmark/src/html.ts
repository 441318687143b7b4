// A report as one page that opens offline: plots, the whole table, the claims of the article beside what was found, what did
// not run, and what everything was measured on.

import { Page } from '@dynconv/app-kit/page'
import { figures } from './plots.ts'
import type { Report } from './report.ts'
import { summaryLines } from './summary.ts'
import { ceilingLines, columnsOf, legendOf, machineLines } from './terminal.ts'

/** The page's text. */
export function reportHtml(report: Report): string {
  const page = new Page('Dynamic convolution, measured')
  for (const line of [...machineLines(report.machine), report.machine.date]) page.add('div', line, 'note')
  const drawn = figures(report, page.document)
  if (drawn.length) page.figures(drawn)
  else page.add('p', 'Nothing was measured that could be drawn.', 'note')
  const summary = summaryLines(report)
  if (summary.length) page.add('h2', 'In short')
  for (const line of summary) page.add('div', line)
  page.add('h2', 'All rows')
  const columns = columnsOf(report)
  page.table(columns.map((c) => c.head), report.rows.map((row) => columns.map((c) => c.text(row))))
  for (const line of legendOf(report)) page.add('div', line, 'note')
  if (report.notRun.length) {
    page.add('h2', 'Not run')
    page.table(['what, and why'], report.notRun.map((line) => [line]))
  }
  page.add('h2', 'How it was measured')
  for (const line of [...report.method, ...ceilingLines(report.ceilings)]) page.add('div', line, 'note')
  return page.toString()
}
