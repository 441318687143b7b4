// The run in a real browser: the page is built with vite and opened in headless Chromium. `--all` runs the whole conformance
// suite there in place of a share of it.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { build } from 'vite'
import { runPage } from './chromiumPage.ts'
import type { PageInput, PageResult } from './page/main.ts'
import { formatOutcome } from './suite.ts'
import { hasLearned, lossesDiffer } from './training.ts'
import { referenceLosses, trainingData } from './trainingData.ts'

const say = (line: string): boolean => process.stdout.write(`${line}\n`)
const all = process.argv.includes('--all')

// A software adapter on two busy cores.
const timeoutMs = all ? 3_600_000 : 600_000

const folder = await mkdtemp(path.join(tmpdir(), 'dynconv-page-'))
try {
  await build({ root: path.join(import.meta.dirname, 'page'), base: './', logLevel: 'warn', build: { outDir: folder, emptyOutDir: true, target: 'es2022' } })
  const data = await trainingData()
  const input: PageInput = { data, all }
  const { result, browser } = await runPage<PageResult>(folder, input, timeoutMs)
  say(`Chromium ${browser}, ${result.device}`)
  const problems: string[] = []
  const check = (holds: boolean, what: string): void => {
    say(`${holds ? 'ok' : 'FAILED'}: ${what}`)
    if (!holds) problems.push(what)
  }
  const difference = lossesDiffer(result.losses, await referenceLosses(data))
  check(difference === undefined, difference ?? `the quickstart's network: losses ${result.losses.map((l) => l.toFixed(4)).join(', ')}, as ONNX Runtime's (${result.trainingSeconds.toFixed(0)} s)`)
  check(hasLearned(result.losses), 'it has learned')
  check(result.readBack.join() === '3,5,7,9', `read back ${result.readBack.join(', ')}`)
  check(result.liveTensors === 0, `${result.liveTensors} tensors left alive`)
  for (const outcome of result.outcomes) {
    say(formatOutcome(outcome))
    check(outcome.passed > 0 && outcome.failed === 0 && outcome.problems.length === 0, outcome.title)
  }
  const passed = result.outcomes.reduce((sum, o) => sum + o.passed, 0)
  say(`webgpu in Chromium: ${passed} cases passed, ${problems.length} checks failed`)
  process.exitCode = problems.length > 0 ? 1 : 0
} finally {
  await rm(folder, { recursive: true, force: true })
}
