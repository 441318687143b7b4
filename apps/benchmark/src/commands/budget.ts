// `budget`: measures the work that a budget names (or takes a report) and fails when a ratio is over its bound, cannot be
// judged for noise, or is not there.

import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { writeFileAtomic } from '@dynconv/core/node'
import type { Argv } from 'yargs'
import { betterOf, type Budget, type BudgetVerdict, checkBudget, needsCeilings, readBudget } from '../budget.ts'
import { formatShare, formatTable } from '../format.ts'
import { inMeasuringEnvironment, interruptible } from '../process.ts'
import { readReport, type Report } from '../report.ts'
import { measureReport, npmPeersCalled } from '../session.ts'
import { allWorkloads } from '../workloads.ts'

/** The budget of this repository. */
const ownBudget = fileURLToPath(new URL('../../budget.json', import.meta.url))
/** How often what does not hold is measured: a machine may be busy for a while. */
const TURNS = 3

/** Adds the command. */
export function addBudget(cli: Argv): Argv {
  return cli.command(
    'budget [report]',
    'Check ratios against a budget, measuring what it names; exit code 1 when one is over its bound, noisy or missing',
    (y) =>
      y
        .positional('report', { type: 'string', describe: 'what --json wrote; unless given, the work is measured now' })
        .options({
          budget: { type: 'string', default: ownBudget, defaultDescription: 'the one of this repository', describe: 'the bounds', requiresArg: true },
          rounds: { type: 'number', default: 7, describe: 'how many turns each variant has', requiresArg: true },
          threads: { type: 'number', default: availableParallelism(), describe: 'threads of every side', requiresArg: true },
          json: { type: 'string', describe: 'write the verdicts to this file', requiresArg: true },
        })
        .check(({ rounds, threads }) => {
          for (const [name, n] of Object.entries({ rounds, threads })) if (!Number.isInteger(n) || n < 1) throw new Error(`--${name} must be a positive integer, got ${n}`)
          return true
        }),
    async ({ report, budget: file, rounds, threads, json }) => {
      const budget = await readBudget(file)
      const judge = async (verdicts: readonly BudgetVerdict[]): Promise<void> => {
        const bounded = verdicts.some((v) => v.share !== undefined)
        console.log(formatTable(['workload', 'variant', 'ratio', 'is', 'at most', '', ...(bounded ? ['of the bound'] : [])], verdicts.map((v) => [...cells(v), ...(bounded ? [formatShare(v.share)] : [])])))
        if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify({ margin: budget.margin, verdicts }, null, 2)}\n`)
        const bad = verdicts.filter((v) => v.verdict !== 'within')
        if (bad.length) throw new Error(`${bad.length} of ${verdicts.length} bounds do not hold (margin ${(budget.margin * 100).toFixed(0)} %)`)
      }
      if (report !== undefined) {
        await judge(checkBudget(await readReport(report), budget))
        return
      }
      const code = await inMeasuringEnvironment()
      if (code !== undefined) process.exitCode = code
      else await judge(await interruptible((signal) => measured(budget, (some, turn) => measure(some, rounds * turn, threads, signal))))
    },
  )
}

// Measures all, then again what did not hold, for longer each time.
async function measured(budget: Budget, measure: (budget: Budget, turn: number) => Promise<Report>): Promise<readonly BudgetVerdict[]> {
  let verdicts = checkBudget(await measure(budget, 1), budget)
  for (let turn = 2; turn <= TURNS; turn++) {
    const open = verdicts.filter((v) => v.verdict === 'over' || v.verdict === 'noisy').map((v) => v.entry)
    if (!open.length) break
    const again = await measure({ ...budget, entries: open }, turn)
    verdicts = betterOf(verdicts, checkBudget(again, budget))
  }
  return verdicts
}

async function measure({ entries }: Budget, rounds: number, threads: number, signal: AbortSignal): Promise<Report> {
  const workloads = allWorkloads.filter((w) => entries.some((e) => e.workload === w.name))
  const report = await measureReport(
    {
      workloads,
      engines: [...new Set(entries.map((e) => e.variant.split(' ')[0] ?? ''))],
      rounds,
      warmup: 2,
      threads,
      ceilings: entries.some((e) => needsCeilings(e.metric)),
      memory: entries.some((e) => e.metric === 'memoryToStaticAndBases'),
      // Those that a bound names, and the static ones that they are set against.
      wanted: (name) => name.endsWith(' static') || entries.some((e) => e.variant === name),
      peers: npmPeersCalled(entries.map((e) => e.peer)),
    },
    signal,
  )
  for (const line of report.notRun.filter((text) => workloads.some((w) => text.startsWith(w.name)))) console.log(`not run: ${line}`)
  return report
}

function cells({ entry, value, verdict }: BudgetVerdict): readonly string[] {
  return [entry.workload, entry.variant, entry.peer === undefined ? entry.metric : `${entry.metric} (${entry.peer})`, value?.toFixed(2) ?? '', entry.most.toFixed(2), verdict]
}
