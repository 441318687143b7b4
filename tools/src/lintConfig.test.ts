// Plants one violation per rule that the repository relies on, and sees that the linter with our configuration finds it.
// Type-aware rules and the cycle check fall silent, not loud, when they cannot read the TypeScript configuration.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { field } from './json.ts'

const root = path.resolve(import.meta.dirname, '../..')
const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-lint-'))
afterAll(() => rmSync(folder, { recursive: true }))

const planted = {
  'any.ts': ['no-explicit-any', 'export function f(x: any): number {\n  return x\n}\n'],
  'nonNull.ts': ['no-non-null-assertion', 'export const f = (x: number | undefined): number => x!\n'],
  'floating.ts': ['no-floating-promises', 'export function f(): void {\n  Promise.resolve(1)\n}\n'],
  'typeImport.ts': ['consistent-type-imports', "import { T } from './types.ts'\nexport const t: T = 1\n"],
  'cycleA.ts': ['no-cycle', "import { b } from './cycleB.ts'\nexport const a = (): number => b() + 1\n"],
  'cycleB.ts': ['no-cycle', "import { a } from './cycleA.ts'\nexport const b = (): number => a() + 1\n"],
  'typeCycleA.ts': ['no-cycle', "import type { B } from './typeCycleB.ts'\nexport type A = readonly B[]\n"],
  'typeCycleB.ts': ['no-cycle', "import type { A } from './typeCycleA.ts'\nexport type B = readonly A[]\n"],
  'skipped.test.ts': ['no-disabled-tests', "import { expect, test } from 'vitest'\ntest.skip('x', () => expect(1).toBe(1))\n"],
  'empty.test.ts': ['expect-expect', "import { test } from 'vitest'\ntest('x', () => {})\n"],
} as const
const accepted = {
  'types.ts': 'export type T = number\n',
  'fine.test.ts': "import { expect, test } from 'vitest'\nconst xs = [1]\ntest('x', () => expect(xs[0]!).toBe(1))\n",
}

test('the linter finds every planted violation, and nothing else', () => {
  copyFileSync(path.join(root, '.oxlintrc.json'), path.join(folder, '.oxlintrc.json'))
  copyFileSync(path.join(root, 'tsconfig.base.json'), path.join(folder, 'tsconfig.base.json'))
  const config = { extends: './tsconfig.base.json', include: ['src'] }
  const sources = Object.entries(planted).map(([file, [, text]]): [string, string] => [`src/${file}`, text])
  const fine = Object.entries(accepted).map(([file, text]): [string, string] => [`src/${file}`, text])
  mkdirSync(path.join(folder, 'src'))
  for (const [file, text] of [['tsconfig.json', JSON.stringify(config)] as const, ...sources, ...fine]) writeFileSync(path.join(folder, file), text)

  const found = lint().map((each) => `${path.basename(String(field(each, 'filename')))} ${/\((.*)\)/.exec(String(field(each, 'code')))?.[1]}`)
  expect(found.sort()).toEqual(Object.entries(planted).map(([file, [rule]]) => `${file} ${rule}`).sort())
})

/** The linter's findings in `folder`. It exits non-zero when there are some, so its output is read from the error too. */
function lint(): readonly unknown[] {
  const oxlint = path.join(root, 'node_modules/oxlint/bin/oxlint')
  // The type-aware half is a program of its own, which oxlint looks for beside the code it lints, then on the PATH.
  const PATH = [path.join(root, 'node_modules/.bin'), process.env['PATH']].join(path.delimiter)
  const options = { cwd: folder, encoding: 'utf8', env: { ...process.env, PATH } } as const
  let output: string
  try {
    output = execFileSync(process.execPath, [oxlint, '--format=json'], options)
  } catch (error) {
    output = String(field(error, 'stdout'))
  }
  const diagnostics = field(JSON.parse(output), 'diagnostics')
  if (!Array.isArray(diagnostics)) throw new Error(`oxlint: expected diagnostics, got ${output}`)
  return diagnostics
}
