import { mkdtempSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { addonFile, cacheFolder, compilerArguments, napiVersion, runTool } from './tfjsNativeBuild.ts'

const plan = { packageFolder: '/p', tensorflowFolder: '/tf', napiInclude: '/napi', napi: 8 }

test('TensorFlow is kept in the cache of the user, one folder for each build', () => {
  expect(cacheFolder('cpu', { XDG_CACHE_HOME: '/cache' })).toBe('/cache/dynconv/tensorflow-2.15.1-cpu')
  expect(cacheFolder('cuda', {})).toBe(path.join(homedir(), '.cache/dynconv/tensorflow-2.15.1-cuda'))
})

test('the addon goes where the package looks for it, for the newest N-API that both have', () => {
  expect(addonFile(plan)).toBe('/p/lib/napi-v8/tfjs_binding.node')
  expect(napiVersion({ binary: { napi_versions: [3, 8, 9] } }, 8)).toBe(8)
  expect(() => napiVersion({ binary: { napi_versions: [9] } }, 8)).toThrow('no N-API version up to 8')
  expect(() => napiVersion({}, 8)).toThrow('no N-API version')
})

test('the compiler gets the sources of the package, and the place of the libraries is written into the addon', () => {
  const args = compilerArguments(plan, '/out.node')
  expect(args).toContain('/p/binding/tfjs_backend.cc')
  expect(args).toContain('-Wl,-rpath,/tf/lib')
  expect(args.join(' ')).toContain('-o /out.node')
})

test('a tool that fails or is missing says so, with what to do', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'tfjs-native-'))
  expect(() => runTool(path.join(folder, 'nothing'), [], 'install it')).toThrow(/cannot run .*nothing.*install it/)
  expect(() => runTool(process.execPath, ['-e', 'console.error("no room"); process.exit(3)'], 'free some')).toThrow(/failed \(3\); free some\nno room/)
  rmSync(folder, { recursive: true })
})
