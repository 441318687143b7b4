#!/usr/bin/env node
// The command: `dynconv-conformance [--backend NAME ...] [--mode MODE ...] [--filter TEXT ...]`, and `... foreign` for vectors
// that others computed. It prints what fails as it comes and the counts at the end. Exit code 0: every lane ran and nothing failed; 1: something did; 2: wrong usage.

import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '@dynconv/core/node'
import { SingleBar } from 'cli-progress'
import yargs, { type Argv } from 'yargs'
import { hideBin } from 'yargs/helpers'
import { contractCases } from './cases/contract.ts'
import { allCases } from './cases/index.ts'
import { perfCases } from './cases/perf.ts'
import { foreignCommand } from './foreign/command.node.ts'
import { formatResult, formatSummary, reportData, supportOf } from './run/report.ts'
import type { Target } from './run/outcomes.ts'
import { modes } from './run/plan.ts'
import { type Result, runSuite } from './run/suite.ts'
import { defaultTargets, targetOf } from './targets.node.ts'

const backendOption = {
  array: true,
  string: true,
  default: [...defaultTargets],
  requiresArg: true,
  describe: 'reference, onnx, webgpu, tfjs (tfjs:wasm: that engine of it), a file (./my-backend.js) or a package, with #export',
} as const

function suiteOptions(y: Argv) {
  return y
    .option('backend', backendOption)
    .option('mode', { array: true, choices: modes, requiresArg: true, describe: 'all unless given' })
    .option('filter', { array: true, string: true, requiresArg: true, describe: 'only cases whose id contains one of these texts' })
    .option('bail', { number: true, requiresArg: true, describe: 'stop after so many failures' })
    .option('json', { string: true, requiresArg: true, describe: 'write the result to this file' })
    .option('support', { string: true, requiresArg: true, describe: 'write the table of what runs where (SUPPORT.md) to this file' })
    .option('list', { boolean: true, describe: 'print the ids of the cases instead of running them' })
    .check(({ bail }) => {
      if (bail !== undefined && !(Number.isSafeInteger(bail) && bail > 0)) throw new Error(`--bail must be a positive integer, got ${bail}`)
      return true
    })
    .example('$0 --backend ./my-backend.js', 'tries your own backend')
    .example('$0 --backend onnx --mode gradient --filter conv2d', 'a part of the suite')
}

function foreignOptions(y: Argv) {
  return y
    .option('backend', backendOption)
    .option('cases', { string: true, describe: "the folder of ONNX's node cases; where Debian's libonnx-testdata puts them unless given" })
    .option('verbose', { boolean: true, describe: 'list every reason for which a case is out' })
    .option('json', { string: true, describe: 'write the result to this file' })
}

type SuiteArguments = Awaited<ReturnType<typeof suiteOptions>['argv']>

const parser = yargs(hideBin(process.argv))
  .scriptName('dynconv-conformance')
  .command('$0', 'Run every op, layer, small network and training step, and compare with a float64 oracle', suiteOptions, (args) => run(suite(args)))
  .command('foreign', 'Run what PyTorch and the ONNX project computed, and compare with that', foreignOptions, (args) => run(foreignCommand(args)))
  .version(await ownVersion())
  .strict()
  .wrap(Math.min(120, process.stdout.columns || 120))
  .fail(false)

// A reader that has seen enough (`--list | head`) ends nothing.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}

// yargs throws some of its complaints at once, and rejects with others; the commands report their own.
try {
  await parser.parseAsync()
} catch (error) {
  complain(error, '\nsee --help')
  process.exitCode = 2
}

// package.json stands one folder above this file, in the sources and in the published package.
async function ownVersion(): Promise<string> {
  const { version }: { readonly version: string } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
  return version
}

async function run(command: Promise<number>): Promise<void> {
  process.exitCode = await command.catch((error: unknown) => {
    complain(error)
    return 1
  })
}

function complain(error: unknown, help: string = ''): void {
  process.stderr.write(`error: ${error instanceof Error ? error.message.trim() : String(error)}${help}\n`)
}

async function suite(options: SuiteArguments): Promise<number> {
  const { filter: filters } = options
  const ids = [allCases(), contractCases(), perfCases()].flatMap((cases) => cases.map(({ id }) => id)).filter((id) => !filters || filters.some((f) => id.includes(f)))
  if (ids.length === 0) {
    complain(new Error(`no case has an id that contains ${filters?.join(' or ') ?? ''}; --list prints all ids`))
    return 2
  }
  if (options.list) {
    process.stdout.write(`${ids.join('\n')}\n`)
    return 0
  }
  const targets = await Promise.all([...new Set(options.backend)].map(lazily))
  const show = progress()
  const report = await runSuite({
    targets,
    ...(options.mode ? { modes: options.mode } : {}),
    ...(filters ? { filters } : {}),
    ...(options.bail === undefined ? {} : { bail: options.bail }),
    onResult: show.result,
  })
  show.end()
  process.stdout.write(`${formatSummary(report)}\n`)
  if (options.json !== undefined) await writeFileAtomic(options.json, `${JSON.stringify(reportData(report), undefined, 1)}\n`)
  if (options.support !== undefined) await writeFileAtomic(options.support, supportOf(report))
  return report.passed ? 0 : 1
}

// A backend that does not load is a lane that did not run, not the end of the others.
async function lazily(name: string): Promise<Target> {
  try {
    return await targetOf(name)
  } catch (error) {
    return { name, create: () => Promise.reject(error) }
  }
}

function progress(): { readonly result: (r: Result, done: number, total: number) => void; readonly end: () => void } {
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: '{bar} {percentage} % | {value}/{total} | {failed} failed | {id}', stream: process.stderr, hideCursor: true, clearOnComplete: true, barsize: 24 })
    : undefined
  let failed = 0
  let started = false
  let lastLine = performance.now()
  return {
    result: (r, done, total) => {
      if (bar && !started) bar.start(total, 0, { failed, id: '' })
      started = true
      if (r.status === 'failed') {
        failed++
        process.stderr.write(`${bar ? '\r\u001b[K' : ''}${formatResult(r)}\n`)
      }
      if (bar) {
        bar.update(done, { failed, id: `${r.backend} ${r.mode} ${r.id}`.slice(0, 60) })
      } else if (performance.now() - lastLine > 10_000) {
        lastLine = performance.now()
        process.stderr.write(`${done}/${total} done, ${failed} failed\n`)
      }
    },
    end: () => bar?.stop(),
  }
}
