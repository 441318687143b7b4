import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { BackendUnavailableError, GraphError, tensor, trace } from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { type EngineName, engineNames, loadTf } from './load.ts'
import { explanation, nativeEnvironment, shimUtil, type UtilModule } from './native/load.node.ts'
import { nativeEngine } from './testing/engines.ts'

describe('why a native package does not load', () => {
  let folder: string
  const require = { resolve: (id: string): string => path.join(folder, id) }
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'tfjs-load-'))
    mkdirSync(path.join(folder, '@tensorflow/tfjs-node/lib/napi-v8'), { recursive: true })
    writeFileSync(path.join(folder, '@tensorflow/tfjs-node/lib/napi-v8/tfjs_binding.node'), '')
  })
  afterAll(() => {
    rmSync(folder, { recursive: true })
  })

  test.each([
    ["Cannot find module '@tensorflow/tfjs-node'\nRequire stack", 'is not installed; run: npm install @tensorflow/tfjs-node@4'],
    ['libcudart.so.11.0: cannot open shared object file', 'misses libcudart.so.11.0: install the CUDA and cuDNN'],
    ['libcudnn.so.8: cannot open shared object file', 'misses libcudnn.so.8'],
    ['libtensorflow.so.2: cannot open shared object file', 'misses TensorFlow itself (libtensorflow.so.2): run: npm rebuild @tensorflow/tfjs-node'],
    ['something else\nand more', 'does not load: something else'],
  ])('%s', (message, expected) => {
    expect(explanation('tfjs-node', new Error(message), require)).toContain(expected)
  })

  test('its download was skipped', () => {
    expect(explanation('tfjs-node-gpu', new Error('The Node.js native addon module can not be found'), require)).toContain('has no native library: its download at installation was skipped or failed')
  })
})

test('Node 23 and later get back what tfjs-node calls, others keep their own', () => {
  const bare: UtilModule = {}
  shimUtil(bare)
  expect([undefined, null, 0, ''].map((v) => bare.isNullOrUndefined?.(v))).toEqual([true, true, false, false])
  const own = (): boolean => true
  const full: UtilModule = { isNullOrUndefined: own }
  shimUtil(full)
  expect(full.isNullOrUndefined).toBe(own)
})

// The npm package `node` brings the binary of another version.
test.each(nativeEngine === undefined ? [] : [nativeEngine])('%s trains on Node 24, which has lost what it calls', (engine) => {
  const script = fileURLToPath(new URL('testing/onNode.ts', import.meta.url))
  const { stdout, stderr } = spawnSync('npx', ['-y', 'node@24', script, engine], { encoding: 'utf8' })
  expect(`${stdout}${stderr}`).toMatch(/^\{"node":"v24\.[\d.]+","loss":11,"w":\[-2,-2\]\}$/m)
}, 180_000)

test('engines are tried from the fastest on, and an unknown one is refused', async () => {
  expect(engineNames).toEqual(['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'])
  await expect(loadTf('webgl' as EngineName, { verbose: false })).rejects.toThrow('engine must be tfjs-node-gpu, tfjs-node, wasm, cpu, got webgl')
})

test('float32 is float32 on cards too unless told otherwise, and TensorFlow is quiet unless told otherwise', () => {
  const usual = { TF_ENABLE_ONEDNN_OPTS: '1', TF_FORCE_GPU_ALLOW_GROWTH: 'true', NVIDIA_TF32_OVERRIDE: '0', TF_CPP_MIN_LOG_LEVEL: '3' }
  expect(nativeEnvironment({ verbose: false })).toEqual(usual)
  expect(nativeEnvironment({ verbose: true, tf32: true })).toEqual({ TF_ENABLE_ONEDNN_OPTS: '1', TF_FORCE_GPU_ALLOW_GROWTH: 'true', NVIDIA_TF32_OVERRIDE: '1' })
})

test('without a choice one of them starts, and says which and why not those before it', async () => {
  const { refusals } = await loadTf(undefined, { verbose: false })
  const backend = await tfjs()
  const program = await backend.compile(trace((x) => x.add(1), { inputs: [{ shape: [1] }] }).graph)
  const [device, ...reasons] = program.explain().split('\n')
  expect(device).toBe(backend.capabilities.device)
  expect(reasons.slice(0, refusals.length)).toEqual(refusals)
  expect(refusals.every((r, i) => r.startsWith(`not ${engineNames[i]}: `))).toBe(true)
  await backend.dispose()
})

test('what does not go together is refused', async () => {
  const { tf } = await loadTf('cpu', { verbose: false })
  await expect(tfjs({ tf, engine: 'cpu' })).rejects.toThrow(GraphError)
  const error: unknown = await tfjs({ tf, executor: 'program' }).catch((e: unknown) => e)
  expect(error).toBeInstanceOf(BackendUnavailableError)
  expect(String(error)).toContain("executor 'program' needs TensorFlow's native library")
})

test('engines that start at once in one process start one after another, and take turns', async () => {
  const names: readonly EngineName[] = ['wasm', 'cpu', ...(nativeEngine === undefined ? [] : [nativeEngine])]
  const backends = await Promise.all(names.map((engine) => tfjs({ engine, executor: 'composed' })))
  expect(backends.map((b) => /\((\w+), op by op\)/.exec(b.capabilities.device ?? '')?.[1])).toEqual(['wasm', 'cpu', 'tensorflow'].slice(0, names.length))
  const { graph } = trace((x) => x.mul(x).sum(), { inputs: [{ shape: [3] }] })
  const programs = await Promise.all(backends.map((b) => b.compile(graph)))
  for (let n = 1; n <= 2; n++) {
    const outputs = await Promise.all(programs.map((program) => program.run([tensor([n, 2 * n, 3 * n])])))
    expect(outputs.map(([sum]) => sum?.data[0])).toEqual(names.map(() => 14 * n * n))
  }
  for (const b of backends) await b.dispose()
})
