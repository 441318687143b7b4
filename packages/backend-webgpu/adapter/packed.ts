// Checks the published packages as a page's author meets them: packs core and this package, installs the tarballs in a folder
// outside of the workspace, builds a page there with vite, and opens it in headless Chromium, where it trains and infers.
// Needs `pnpm build` first.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { build } from 'vite'
import { runPage } from './chromiumPage.ts'

interface Outside {
  readonly device: string
  readonly losses: readonly number[]
  readonly guesses: readonly number[]
  readonly labels: readonly number[]
  readonly liveTensors: number
}

const say = (line: string): boolean => process.stdout.write(`${line}\n`)
const packages = path.join(import.meta.dirname, '../..')
const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-outside-'))

function run(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
}

try {
  const packed = ['core', 'backend-webgpu']
  const unbuilt = packed.find((name) => !existsSync(path.join(packages, name, 'dist/index.js')))
  if (unbuilt) throw new Error(`packed: packages/${unbuilt}/dist/index.js is missing; run pnpm build first`)
  for (const name of packed) run('npx', ['-y', 'pnpm@12', 'pack', '--pack-destination', folder], path.join(packages, name))
  const tarballs = readdirSync(folder).filter((file) => file.endsWith('.tgz'))
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n')
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs.map((file) => `./${file}`)], folder)
  cpSync(path.join(import.meta.dirname, 'outside'), folder, { recursive: true })
  const built = path.join(folder, 'built')
  await build({ root: folder, base: './', logLevel: 'warn', build: { outDir: built, target: 'es2022' } })
  const bytes = readdirSync(path.join(built, 'assets')).reduce((sum, file) => sum + statSync(path.join(built, 'assets', file)).size, 0)

  const { result, browser } = await runPage<Outside>(built, null, 300_000)
  const [first = 0, last = Number.POSITIVE_INFINITY] = [result.losses[0], result.losses.at(-1)]
  say(`Chromium ${browser}, ${result.device}; the page's scripts have ${(bytes / 1024).toFixed(0)} KiB`)
  say(`trained from loss ${first.toFixed(3)} to ${last.toFixed(3)}; sees ${result.guesses.join(', ')} where there is ${result.labels.join(', ')}; ${result.liveTensors} tensors left alive`)
  const problems = [
    ...(last < first * 0.5 ? [] : ['it did not learn']),
    ...(result.guesses.join() === result.labels.join() ? [] : ['it tells the classes apart wrongly']),
    ...(result.liveTensors === 0 ? [] : ['something is left alive']),
  ]
  say(problems.length > 0 ? `FAILED: ${problems.join('; ')}` : 'ok: a page built from the published packages trains and infers')
  process.exitCode = problems.length > 0 ? 1 : 0
} finally {
  rmSync(folder, { recursive: true, force: true })
}
