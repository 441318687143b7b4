// Commands on reports that were written before: tables, pages and comparisons. None of them measures.

import { writeFileAtomic } from '@dynconv/core/node'
import type { Argv } from 'yargs'
import { type Change, compareReports, regressions } from '../compare.ts'
import { formatMs, formatTable } from '../format.ts'
import { reportHtml } from '../html.ts'
import { markdownTable } from '../markdown.ts'
import { mergeReports, readReport, type Report } from '../report.ts'
import { formatReport } from '../terminal.ts'

const report = { type: 'string', demandOption: true, describe: 'what --json wrote' } as const
const reports = { type: 'string', array: true, demandOption: true, describe: 'what --json wrote; several are put together' } as const

async function readAll(files: readonly string[]): Promise<Report> {
  return mergeReports(await Promise.all(files.map(readReport)))
}

/** `table`: Markdown for the README. */
export function addTable(cli: Argv): Argv {
  return cli.command(
    'table <files..>',
    'Print reports as a Markdown table',
    (y) => y.positional('files', reports),
    async ({ files }) => console.log(markdownTable(await readAll(files))),
  )
}

/** `show`: the terminal table, or the page, of a report. */
export function addShow(cli: Argv): Argv {
  return cli.command(
    'show <files..>',
    'Print reports again, or draw their page',
    (y) => y.positional('files', reports).option('html', { type: 'string', describe: 'write the page with plots to this file', requiresArg: true }),
    async ({ files, html }) => {
      const found = await readAll(files)
      if (html === undefined) {
        console.log(formatReport(found))
        return
      }
      await writeFileAtomic(html, reportHtml(found))
      console.log(`wrote ${html}`)
    },
  )
}

/** `compare`: fails when something became worse. */
export function addCompare(cli: Argv): Argv {
  return cli.command(
    'compare <before> <after>',
    'Compare two reports; exit code 1 when a variant became slower or needs more memory',
    (y) =>
      y
        .positional('before', report)
        .positional('after', report)
        .option('margin', { type: 'number', default: 0.1, describe: 'the change that does not matter: 0.1 is ten percent', requiresArg: true })
        .check(({ margin }) => {
          if (!(margin >= 0)) throw new Error(`--margin must be a number from 0, got ${margin}`)
          return true
        }),
    async ({ before, after, margin }) => {
      const comparison = compareReports(await readReport(before), await readReport(after), margin)
      for (const warning of comparison.warnings) console.log(`warning: ${warning}`)
      console.log(formatTable(['workload', 'variant', 'before ms', 'after ms', 'time', 'noise', 'memory', ''], comparison.changes.map(changeCells)))
      for (const key of comparison.onlyBefore) console.log(`only before: ${key}`)
      for (const key of comparison.onlyAfter) console.log(`only after: ${key}`)
      if (!comparison.changes.length) throw new Error('the reports have no variant in common')
      const worse = regressions(comparison)
      if (worse.length) throw new Error(`worse than before:\n${worse.map((c) => `  ${c.workload}: ${c.name}: ${c.verdict} (${(c.verdict === 'slower' ? c.time : (c.memory ?? Number.NaN)).toFixed(2)} times)`).join('\n')}`)
    },
  )
}

function changeCells(c: Change): readonly string[] {
  return [c.workload, c.name, formatMs(c.beforeMs), formatMs(c.afterMs), c.time.toFixed(2), `±${c.noise.toFixed(2)}`, c.memory?.toFixed(2) ?? '', c.verdict === 'same' ? '' : c.verdict]
}
