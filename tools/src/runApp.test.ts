import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'

const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-run-'))
afterAll(() => rmSync(folder, { recursive: true }))

const require = createRequire(import.meta.url)
const tsx = path.join(path.dirname(require.resolve('tsx/package.json')), 'dist/cli.mjs')

test.each([
  ['without a separator', ['--epochs', '3'], ['--epochs', '3']],
  ['with one', ['--', '--epochs', '3'], ['--epochs', '3']],
  ['a later separator stays', ['a', '--', 'b'], ['a', '--', 'b']],
  ['no arguments', [], []],
])('passes arguments on: %s', (_name, given, expected) => {
  const script = path.join(folder, 'print.mts')
  writeFileSync(script, 'const args: string[] = process.argv.slice(1)\nconsole.log(JSON.stringify(args))\n')
  const output = execFileSync(process.execPath, [tsx, path.join(import.meta.dirname, 'runApp.ts'), script, ...given], { encoding: 'utf8' })
  expect(JSON.parse(output)).toEqual([script, ...expected])
})
