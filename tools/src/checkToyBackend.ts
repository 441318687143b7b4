// Checks that somebody else's backend can be proved with the published packages: packs core and conformance, installs the
// tarballs in a folder of its own, takes the toy backend that comes with them, and runs the suite on it by its command. Then the
// same with a mistake in that file, which the suite must find. Needs `pnpm build` first.
// Usage: tsx tools/src/checkToyBackend.ts
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { field } from './json.ts'

const root = process.cwd()
const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-toy-'))
try {
  for (const name of ['core', 'conformance']) run('pnpm', ['pack', '--pack-destination', folder], path.join(root, 'packages', name))
  const tarballs = readdirSync(folder).filter((file) => file.endsWith('.tgz'))
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n')
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs.map((file) => `./${file}`)], folder)

  const toy = readFileSync(path.join(folder, 'node_modules/@dynconv/conformance/examples/toyBackend.js'), 'utf8')
  writeFileSync(path.join(folder, 'toyBackend.js'), toy)
  const sound = suite(['--json', 'toy.json', '--support', 'SUPPORT.md'])
  if (sound !== 0) throw new Error(`checkToyBackend: the suite ended with ${sound} on a sound toy backend`)
  const report: unknown = JSON.parse(readFileSync(path.join(folder, 'toy.json'), 'utf8'))
  const passed = passedForward(report)
  if (passed < 300) throw new Error(`checkToyBackend: expected hundreds of cases to pass, ${passed} did`)
  if (!readFileSync(path.join(folder, 'SUPPORT.md'), 'utf8').includes('| add | float32, no float16')) throw new Error('checkToyBackend: SUPPORT.md does not say that the toy adds')

  const mistake = toy.replace('sub: binary((a, b) => a - b)', 'sub: binary((a, b) => b - a)')
  if (mistake === toy) throw new Error('checkToyBackend: the toy has no such line; plant another mistake')
  writeFileSync(path.join(folder, 'toyBackend.js'), mistake)
  const broken = suite(['--mode', 'forward', '--filter', 'sub[', '--bail', '1'])
  if (broken !== 1) throw new Error(`checkToyBackend: the suite ended with ${broken} on a toy that subtracts the wrong way round, expected 1`)
  console.log(`\na toy backend in one file passed ${passed} cases outside of the workspace, and was caught with a mistake in it`)
} finally {
  rmSync(folder, { recursive: true })
}

function suite(args: readonly string[]): number | null {
  return spawnSync('npx', ['--no-install', 'dynconv-conformance', '--backend', './toyBackend.js', ...args], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] }).status
}

function passedForward(report: unknown): number {
  const lanes = field(report, 'lanes')
  const lane = Array.isArray(lanes) ? lanes.find((each) => field(each, 'mode') === 'forward') : undefined
  return Number(field(lane, 'passed'))
}

function run(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
}
