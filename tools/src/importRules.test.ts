import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { findViolations } from './importRules.ts'

const roots: string[] = []
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true })
})

const peer = { peerDependencies: { '@dynconv/core': 'workspace:^' } }
const house = {
  'package.json': { name: 'dynconv', devDependencies: { vitest: '4' } },
  'packages/core/package.json': { name: '@dynconv/core' },
  'packages/models/package.json': { name: '@dynconv/models', ...peer },
  'packages/backend-onnx/package.json': { name: '@dynconv/backend-onnx', dependencies: { protobufjs: '8' }, devDependencies: { '@dynconv/conformance': 'workspace:^', 'onnxruntime-node': '1' }, ...peer },
  'packages/conformance/package.json': { name: '@dynconv/conformance', ...peer },
  'packages/app-kit/package.json': { name: '@dynconv/app-kit', private: true, dependencies: { '@dynconv/backend-onnx': 'workspace:^' } },
  'apps/trainer/package.json': {
    name: '@dynconv/trainer',
    dependencies: { '@dynconv/core': 'workspace:^', '@dynconv/models': 'workspace:^', '@dynconv/backend-onnx': 'workspace:^' },
  },
  'tools/package.json': { name: '@dynconv/tools' },
}

/** A small repository with the given sources; returns `file:line specifier` of each violation found in it. */
function violations(sources: Readonly<Record<string, string>>): string[] {
  const root = mkdtempSync(path.join(tmpdir(), 'dynconv-imports-'))
  roots.push(root)
  const manifests = Object.entries(house).map(([file, value]): [string, string] => [file, JSON.stringify(value)])
  for (const [file, text] of [...manifests, ...Object.entries(sources)]) {
    mkdirSync(path.join(root, path.dirname(file)), { recursive: true })
    writeFileSync(path.join(root, file), text)
  }
  return findViolations(root).map(({ file, line, specifier }) => `${file}:${line} ${specifier}`)
}

test('accepts what the rule allows', () => {
  expect(
    violations({
      'packages/core/src/index.ts': "export * from './ops/conv.ts'\n",
      'packages/core/src/ops/conv.ts': "import type { Shape } from '../shape.ts'\nexport type S = Shape\n",
      'packages/core/src/node.ts': "import { readFile } from 'node:fs/promises'\nexport { readFile }\n",
      'packages/core/src/io/file.node.ts': "import 'node:fs'\n",
      'packages/core/src/ops/conv.test.ts': "import { test } from 'vitest'\nimport 'node:fs'\ntest\n",
      'packages/models/src/index.ts': "import { conv } from '@dynconv/core'\nimport '@dynconv/core/node'\nexport { conv }\n",
      'packages/backend-onnx/src/index.ts': "import 'protobufjs/minimal.js'\nimport 'node:fs'\n",
      'packages/backend-onnx/src/run.test.ts': "import 'onnxruntime-node'\nimport '@dynconv/conformance/vitest'\n",
      'packages/backend-onnx/src/testing/cases.ts': "import '@dynconv/conformance'\n",
      'packages/app-kit/src/engines.ts': "await import('@dynconv/backend-onnx')\n",
      'apps/trainer/src/main.ts': "import '@dynconv/models'\nimport '@dynconv/backend-onnx'\nawait import('node:fs')\n",
    }),
  ).toEqual([])
})

test.each([
  ['core imports another package', 'packages/core/src/a.ts', "import '@dynconv/models'"],
  ['core imports a library', 'packages/core/src/a.ts', "import 'protobufjs'"],
  ['core imports a Node module outside its Node entry', 'packages/core/src/a.ts', "import 'node:fs'"],
  ['core reaches out by path', 'packages/core/src/a.ts', "import '../../models/src/index.ts'"],
  ['core imports a package in a test', 'packages/core/src/a.test.ts', "import '@dynconv/models'"],
  ['a package imports a sibling', 'packages/models/src/a.ts', "import '@dynconv/backend-onnx'"],
  ['a package imports a sibling in a test', 'packages/backend-onnx/src/a.test.ts', "import '@dynconv/models'"],
  ['a source imports the suite', 'packages/backend-onnx/src/a.ts', "import '@dynconv/conformance'"],
  ['a test imports the suite undeclared', 'packages/models/src/a.test.ts', "import '@dynconv/conformance'"],
  ['a file for tests of core imports the suite', 'packages/core/src/testing/a.ts', "import '@dynconv/conformance'"],
  ['a package imports a sibling for its types only', 'packages/models/src/a.ts', "import type { A } from '@dynconv/backend-onnx'"],
  ['a package imports a sibling dynamically', 'packages/models/src/a.ts', "await import('@dynconv/backend-onnx')"],
  ['a package re-exports a sibling', 'packages/models/src/a.ts', "export * from '@dynconv/backend-onnx'"],
  ['a package re-exports a name of a sibling', 'packages/models/src/a.ts', "export { onnx } from '@dynconv/backend-onnx'"],
  ['a package reaches into core by path', 'packages/models/src/deep/a.ts', "import '../../../core/src/index.ts'"],
  ['a package imports an app', 'packages/models/src/a.ts', "import '@dynconv/trainer'"],
  ['a published package imports a private one', 'packages/models/src/a.ts', "import '@dynconv/app-kit'"],
  ['a private package imports an app', 'packages/app-kit/src/a.ts', "import '@dynconv/trainer'"],
  ['an app imports an app by path', 'apps/benchmark/src/a.ts', "import '../../trainer/src/main.ts'"],
  ['the tools import an app', 'tools/src/a.ts', "import '@dynconv/trainer'"],
  ['a source imports a development dependency', 'packages/backend-onnx/src/a.ts', "import 'onnxruntime-node'"],
  ['a source imports what is not declared', 'packages/models/src/a.ts', "import 'protobufjs'"],
  ['a built-in without its prefix', 'packages/models/src/a.ts', "import 'fs'"],
  ['a package imports itself by name', 'packages/models/src/a.ts', "import '@dynconv/models'"],
])('catches: %s', (_name, file, line) => {
  const manifest = { 'apps/benchmark/package.json': JSON.stringify({ name: '@dynconv/benchmark' }) }
  const specifier = line.split("'")[1]
  expect(violations({ ...manifest, [file]: `// first line\n${line}\n` })).toEqual([`${file}:2 ${specifier}`])
})

test('refuses a folder without packages', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'dynconv-imports-'))
  roots.push(root)
  expect(() => findViolations(root)).toThrow('holds no packages')
})
