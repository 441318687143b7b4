// The command line from outside: whole runs in processes of their own, on ONNX Runtime, small enough for a test.

import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CommandLine, type Ended } from '@dynconv/app-kit/testing'
import { decodeSafetensors, encodeSafetensors, readCheckpoint } from '@dynconv/core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type MetricsRecord, readHistory } from './history.ts'

const cli = new CommandLine(new URL('main.ts', import.meta.url))
const { folder } = cli
afterEach(() => cli.killAll())
afterAll(() => cli.dispose())

const run = (...args: string[]): Promise<Ended> => cli.run(...args)

// Two epochs of 50 steps, K=2, annealed; everything that is random is in use.
const small = ['--dataset', 'fashion-small', '--train-samples', '800', '--test-samples', '50', '--batch', '16', '--width', '4', '--bases', '2', '--epochs', '2', '--temperature', '5:1:2', '--threads', '1']

// All but the times, which no two runs share.
async function historyOf(out: string): Promise<readonly Omit<MetricsRecord, 'seconds' | 'testSeconds'>[]> {
  return (await readHistory(join(folder, out, 'metrics.jsonl'))).map((record) => ({ ...record, seconds: 0, testSeconds: 0 }))
}

const checkpointOf = (out: string): Promise<Buffer> => readFile(join(folder, out, 'last.safetensors'))

// Waits until a run has made `steps` updates.
async function steps(out: string, wanted: number): Promise<void> {
  for (;;) {
    const records = await readHistory(join(folder, out, 'metrics.jsonl')).catch(() => [])
    if (records.some((r) => r.step >= wanted)) return
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

// The run that others are compared with.
let whole: Ended
beforeAll(async () => {
  whole = await run('train', ...small, '--out', 'whole', '--json', 'whole.json')
})

test('a run leaves checkpoints, metrics and a report, and says what it did as JSON', async () => {
  expect(whole.stderr).toContain('epoch 2/2')
  expect(whole.stdout).toContain('test accuracy')
  expect(whole.code).toBe(0)
  expect((await readdir(join(folder, 'whole'))).sort()).toEqual(['best.safetensors', 'last.safetensors', 'metrics.jsonl', 'report.html'])
  const outcome = JSON.parse(await readFile(join(folder, 'whole.json'), 'utf8'))
  expect(outcome).toMatchObject({ interrupted: false, step: 100, config: { bases: 2, width: 4 }, files: { last: join('whole', 'last.safetensors') } })
  expect(outcome.epochs).toHaveLength(2)
  expect(Object.keys(outcome.epochs[1].entropy)).toHaveLength(6)
  expect(outcome.epochs.map((e: { temperature: number }) => e.temperature)).toEqual([5, 3])
  const { info, state } = await readCheckpoint(join(folder, 'whole', 'last'))
  expect(info).toMatchObject({ steps: 100, epoch: 2, seed: 1 })
  expect(state.get('layer1.0.conv1.routing.temperature')?.data[0]).toBe(3)
  expect((await historyOf('whole')).map((r) => r.type)).toEqual([...Array(50).fill('step'), 'epoch', ...Array(50).fill('step'), 'epoch'])
})

test('a run that was killed in the middle of an epoch goes on to the same bits', async () => {
  const { child, ended } = cli.start('train', ...small, '--out', 'killed')
  await steps('killed', 55)
  child.kill('SIGKILL')
  expect((await ended).signal).toBe('SIGKILL')
  expect((await readCheckpoint(join(folder, 'killed', 'last'))).info.steps).toBe(50)
  expect((await run('train', '--out', 'killed', '--resume', '--threads', '1')).code).toBe(0)
  expect(await checkpointOf('killed')).toEqual(await checkpointOf('whole'))
  expect(await historyOf('killed')).toEqual(await historyOf('whole'))
})

test('Ctrl-C finishes the step, saves and exits with 130; the run goes on to the same bits', async () => {
  const { child, ended } = cli.start('train', ...small, '--out', 'stopped')
  await steps('stopped', 10)
  child.kill('SIGINT')
  const { code, stderr, stdout } = await ended
  expect(code).toBe(130)
  expect(stderr).toContain('finishing this step')
  const { info } = await readCheckpoint(join(folder, 'stopped', 'last'))
  expect(stdout).toContain(`stopped after step ${info.steps}; go on with: pnpm train --out stopped --resume`)
  expect(info.steps).toBeGreaterThanOrEqual(10)
  expect(info.steps).toBeLessThan(100)
  expect((await run('--out', 'stopped', '--resume', '--threads', '1')).code).toBe(0)
  expect(await checkpointOf('stopped')).toEqual(await checkpointOf('whole'))
  expect(await historyOf('stopped')).toEqual(await historyOf('whole'))
})

test('a loss that is no number stops the run with its step and parameter, and keeps the checkpoint', async () => {
  const { code, stderr } = await run('train', ...small, '--lr', '1e30', '--warmup', '0', '--out', 'nan')
  expect(code).toBe(1)
  expect(stderr).toMatch(/error: training: the loss is (NaN|-?Infinity) at step \d+[,;] (the first parameter that is not finite is|all parameters are finite \(the largest value, \S+, is in) '[\w.]+'/)
  expect(stderr).toContain(`kept: ${join('nan', 'last')}.safetensors`)
  const { info, state } = await readCheckpoint(join(folder, 'nan', 'last'))
  expect(info.steps).toBe(0)
  for (const { data } of state.values()) expect(data.every(Number.isFinite)).toBe(true)
})

test('a folder that cannot be written is told before anything else', async () => {
  await writeFile(join(folder, 'file'), '')
  const out = join('file', 'run')
  const { code, stderr, stdout } = await run('train', ...small, '--out', out)
  expect(code).toBe(1)
  expect(stderr).toMatch(/^error: cannot write file\S+: a part of the path is a file, not a folder/)
  expect(stdout).toBe('')
})

test('a run is not overwritten by accident, and not resumed as another', async () => {
  const before = await checkpointOf('whole')
  const [again, other, none] = await Promise.all([
    run('train', ...small, '--out', 'whole'),
    run('train', '--out', 'whole', '--resume', '--width', '8'),
    run('train', '--out', 'nowhere', '--resume'),
  ])
  expect(again.code).toBe(1)
  expect(again.stderr).toContain('whole already holds a run; add --resume to go on with it, --overwrite to replace it')
  expect(other.code).toBe(1)
  expect(other.stderr).toContain('--resume: --width is 4 in whole and cannot become 8')
  expect(none.code).toBe(1)
  expect(none.stderr).toContain('--resume: nowhere holds no run to go on with')
  expect(await readdir(folder)).not.toContain('nowhere')
  expect(await checkpointOf('whole')).toEqual(before)
})

test('a checkpoint with the tensors of another model is refused with the differences', async () => {
  const { tensors, metadata } = decodeSafetensors(await checkpointOf('whole'))
  tensors.delete('fc.bias')
  tensors.set('fc.weight', { dtype: 'float32', shape: [10, 2], data: new Float32Array(20) })
  await writeFile(join(folder, 'other.safetensors'), encodeSafetensors(tensors, metadata))
  const { code, stderr } = await run('eval', 'other')
  expect(code).toBe(1)
  expect(stderr).toContain("error: loadCheckpoint other.safetensors: the state does not fit this model: 'fc.weight' must be float32[10, 16], got float32[10, 2]; 'fc.bias' is missing")
  await writeFile(join(folder, 'other.safetensors'), (await checkpointOf('whole')).subarray(0, 5000))
  const cut = await run('eval', 'other')
  expect(cut.code).toBe(1)
  expect(cut.stderr).toContain('error: other.safetensors: ')
})

test('eval finds what the run found, and export writes a file that answers the same', async () => {
  const last = (await readHistory(join(folder, 'whole', 'metrics.jsonl'))).at(-1)
  expect((await run('eval', join('whole', 'last'), '--json', 'eval.json')).code).toBe(0)
  const { accuracy, images } = JSON.parse(await readFile(join(folder, 'eval.json'), 'utf8'))
  expect(images).toBe(50)
  expect(last).toMatchObject({ type: 'epoch', testAccuracy: accuracy })
  const { code, stdout } = await run('export', join('whole', 'last'), '-o', 'net.onnx', '--json', 'export.json')
  expect(code).toBe(0)
  expect(stdout).toContain('wrote net.onnx: input [N, 1, 28, 28]')
  const exported = JSON.parse(await readFile(join(folder, 'export.json'), 'utf8'))
  expect(exported).toMatchObject({ output: 'net.onnx', input: [null, 1, 28, 28] })
  expect(exported.maxDifference).toBeLessThan(1e-3)
})

test('summary counts a network from its options or from a checkpoint', async () => {
  const { code, stdout } = await run('summary', '--dataset', 'cifar10', '--model', 'resnet20', '--bases', '1', '--json', 'static.json')
  expect(code).toBe(0)
  expect(stdout).toContain('272,474 parameters')
  const { layers, parameters } = JSON.parse(await readFile(join(folder, 'static.json'), 'utf8'))
  expect(layers.reduce((n: number, l: { parameters: number }) => n + l.parameters, 0)).toBe(parameters)
  expect((await run('summary', join('whole', 'last'), '--json', 'dynamic.json')).code).toBe(0)
  const dynamic = JSON.parse(await readFile(join(folder, 'dynamic.json'), 'utf8'))
  expect(dynamic.layers.filter((l: { form?: string }) => l.form)).toHaveLength(6)
})

test('what cannot be understood is told, with exit code 1', async () => {
  const cases = [
    [['train', '--batch', '0'], 'error: --batch must be an integer of at least 1, got 0'],
    [['train', '--epoch', '3'], 'error: Unknown argument: epoch'],
    [['eval'], 'error: Not enough non-option arguments'],
    [['train', '--out', ''], 'error: --out must name a folder'],
    [['train', '--out'], 'error: Not enough arguments following: out'],
    [['eval', 'missing'], 'error: cannot read missing.safetensors: there is no such file'],
  ] as const
  const ended = await Promise.all(cases.map(([args]) => run(...args)))
  expect(ended.map((e) => e.code)).toEqual(cases.map(() => 1))
  expect(ended.map((e, i) => e.stderr.includes(cases[i]?.[1] ?? '?') || e.stderr)).toEqual(cases.map(() => true))
})

test('every command has a help', async () => {
  const ended = await Promise.all(['train', 'eval', 'export', 'summary'].map((command) => run(command, '--help')))
  expect(ended.map((e) => e.code)).toEqual([0, 0, 0, 0])
  expect(ended.filter((e) => e.stdout.includes('--json'))).toHaveLength(4)
})

test('a reader may stop reading', async () => {
  const { child, ended } = cli.start('summary', '--dataset', 'fashion-small')
  child.stdout?.destroy()
  const { code, stderr } = await ended
  expect([code, stderr]).toEqual([0, ''])
})
