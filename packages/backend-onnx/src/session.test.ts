import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { BackendUnavailableError } from '@dynconv/core'
import { expect, test } from 'vitest'
import { ModelBuilder } from './model.ts'
import { loadEngine, unavailable } from './session.ts'

test('the engine says its version and takes the threads it was given', async () => {
  const engine = await loadEngine(1)
  expect(engine.version).toMatch(/^1\.\d+\.\d+/)
  expect(engine.threads).toBe(1)
  expect((await loadEngine()).threads).toBeGreaterThanOrEqual(1)
  await expect(loadEngine(1.5)).rejects.toThrow(RangeError)
})

test('a missing package is named with the command that installs it', async () => {
  // What Node really says, from a folder where the package is not.
  const folder = await mkdtemp(join(tmpdir(), 'no-onnxruntime-'))
  try {
    await writeFile(join(folder, 'main.mjs'), "await import('onnxruntime-node').catch((e) => console.log(e.message))")
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'main.mjs')])
    const error = unavailable(new Error(stdout))
    expect(error).toBeInstanceOf(BackendUnavailableError)
    expect(error.message).toBe('onnx: onnxruntime-node is not installed; run: npm install onnxruntime-node@latest')
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('a package that does not load says why', () => {
  const error = unavailable(new Error('libonnxruntime.so.1: cannot open shared object file'))
  expect(error.message).toMatch(/does not load \(libonnxruntime.so.1: cannot open shared object file\); run: npm install/)
})

test('a large constant that the engine could compute ahead is not kept by the session', async () => {
  const engine = await loadEngine(1)
  const model = new ModelBuilder()
  const x = model.input('x', 'float32', [1])
  const zeros = model.op('Expand', [model.float(0), model.ints([40_000_000])])
  model.output('y', model.sum(model.op('Add', [zeros, x]), [0], false), 'float32', [])
  const before = process.memoryUsage().rss
  const session = await engine.createSession(model.encode())
  expect(process.memoryUsage().rss - before).toBeLessThan(100e6)
  await session.release()
})
