import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'

const cli = fileURLToPath(new URL('cli.node.ts', import.meta.url))
const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-conformance-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

function run(...args: readonly string[]): { readonly status: number | null; readonly out: string; readonly err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', cli, ...args], { encoding: 'utf8' })
  return { status, out: stdout, err: stderr }
}

test('a run that passes ends with 0, its counts and its files', () => {
  const [json, support] = [path.join(folder, 'report.json'), path.join(folder, 'SUPPORT.md')]
  const { status, out } = run('--backend', 'reference', '--filter', 'sigmoid[x=37', '--json', json, '--support', support)
  expect(status).toBe(0)
  expect(out).toMatch(/reference +forward +1 +0 +0/)
  expect(out).toMatch(/2 passed, 0 failed, 0 unsupported, in [\d.]+ s: everything agrees/)
  expect(JSON.parse(readFileSync(json, 'utf8'))).toMatchObject({ passed: true, count: 2, notPassed: [] })
  expect(readFileSync(support, 'utf8')).toContain('| sigmoid | float32 |')
})

test('a file is a backend; what it refuses is counted', () => {
  const toy = fileURLToPath(new URL('../examples/toyBackend.js', import.meta.url))
  const { status, out } = run('--backend', toy, '--filter', 'add[', 'tanh[x=37', '--mode', 'forward')
  expect(status).toBe(0)
  expect(out).toMatch(/toyBackend +forward +15 +0 +4/)
})

test('a backend that does not load fails its lanes, and others still run', () => {
  const { status, out } = run('--backend', 'reference', './no-such-backend.js', '--filter', 'exp[x=37', '--mode', 'forward')
  expect(status).toBe(1)
  expect(out).toMatch(/reference +forward +1 +0 +0/)
  expect(out).toContain('FAILED: it was promised, but the backend did not start: conformance: the backend ./no-such-backend.js does not load')
})

test('an engine that a known backend does not have fails its lanes with those that it has', () => {
  const { status, out } = run('--backend', 'tfjs:abacus', '--filter', 'exp[x=37', '--mode', 'forward')
  expect(status).toBe(1)
  expect(out).toContain("tfjs has no engine 'abacus'; there are: tfjs-node-gpu, tfjs-node, tfjs-node-gpu-composed, wasm, cpu")
})

test('a filter without a case is told, and one without a case in a mode fails that lane', () => {
  expect(run('--backend', 'reference', '--filter', 'no such case', 'nor this')).toEqual({ status: 2, out: '', err: "error: no case has an id that contains no such case or nor this; --list prints all ids\n" })
  const { status, out } = run('--backend', 'reference', '--filter', 'perf exp', '--mode', 'forward')
  expect(status).toBe(1)
  expect(out).toContain('it was promised, but no case ran')
})

test('wrong usage ends with 2 and says what is wrong', () => {
  expect(run('--mode', 'sideways')).toMatchObject({ status: 2, err: expect.stringContaining('sideways') })
  expect(run('--bail', 'soon')).toMatchObject({ status: 2, err: expect.stringContaining('--bail must be a positive integer, got NaN') })
  expect(run('--filter')).toMatchObject({ status: 2, err: expect.stringContaining('Not enough arguments following: filter') })
  expect(run('--colour')).toMatchObject({ status: 2, err: expect.stringContaining('colour') })
})

test('a file that cannot be written ends with 1 and its name', () => {
  const { status, err } = run('--backend', 'reference', '--filter', 'exp[x=37', '--mode', 'forward', '--json', '/dev/null/report.json')
  expect(status).toBe(1)
  expect(err).toContain('/dev/null/report.json')
})

test('the list is the ids', () => {
  const { status, out } = run('--list', '--filter', 'oftmax[x=3x7 axis=1]')
  expect(status).toBe(0)
  expect(out).toBe('softmax[x=3x7 axis=1]\nlogSoftmax[x=3x7 axis=1]\n')
})

test('the list holds the ids of every mode, and a reader may stop reading it', () => {
  const { out } = run('--list')
  expect(out).toContain('\nperf exp[x=64x4096]\n')
  const { stdout, stderr } = spawnSync('bash', ['-c', `"${process.execPath}" --import tsx "${cli}" --list | head -1`], { encoding: 'utf8' })
  expect([stdout.trim(), stderr]).toEqual([out.slice(0, out.indexOf('\n')), ''])
})

test('the version is the package\'s', () => {
  const { version }: { version: string } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  expect(run('--version')).toEqual({ status: 0, out: `${version}\n`, err: '' })
})
