import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DynamicConv2d } from '../dynamic/dynamicConv2d.ts'
import { temperatureState } from '../dynamic/temperature.ts'
import { normal, withSeed } from '../nn/init.ts'
import { mse } from '../nn/losses.ts'
import { sgd } from '../optim/sgd.ts'
import { referenceBackend } from '../reference/backend.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type Training, trainer } from '../train/trainer.ts'
import { loadCheckpoint, readCheckpoint, saveCheckpoint } from './checkpoint.ts'
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts'

const layer = (seed: number, outChannels = 3) => withSeed(seed, () => new DynamicConv2d({ inChannels: 2, outChannels, kernelSize: 3, numBases: 2 }))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-checkpoint-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

test('a module comes back with its buffers, the temperature among them', async () => {
  const saved = layer(1)
  saved.loadState(temperatureState(saved, 17.5), { strict: false })
  const file = await saveCheckpoint(join(folder, 'net'), saved, undefined, { epoch: 2, seed: -7, extras: { note: 'mine' } })
  expect(file).toBe(join(folder, 'net.safetensors'))
  const loaded = layer(2)
  expect(loaded.state()).not.toEqual(saved.state())
  expect(await loadCheckpoint(file, loaded)).toEqual({ steps: undefined, epoch: 2, seed: -7, extras: { note: 'mine' } })
  expect(loaded.state()).toEqual(saved.state())
  expect(loaded.state().get('routing.temperature')).toEqual(tensor(17.5))
})

test("a checkpoint of another model is refused with its differences, and nothing changes", async () => {
  await saveCheckpoint(join(folder, 'net'), layer(1, 5))
  const other = layer(2)
  const before = other.state()
  await expect(loadCheckpoint(join(folder, 'net'), other)).rejects.toThrow(
    `loadCheckpoint ${join(folder, 'net.safetensors')}: the state does not fit this model: 'bases' must be float32[2, 3, 2, 3, 3], got float32[2, 5, 2, 3, 3]; 'bias' must be float32[2, 3], got float32[2, 5]`,
  )
  expect(other.state()).toEqual(before)
})

test('weights of other origin load by name; the state of a training is not the module’s', async () => {
  const from = layer(1)
  const entries = [...from.state(), ['optimizer.momentum.bases', from.bases.data] as const]
  await writeFile(join(folder, 'torch.safetensors'), encodeSafetensors(entries))
  const to = layer(2)
  expect(await loadCheckpoint(join(folder, 'torch'), to)).toEqual({})
  expect(to.state()).toEqual(from.state())
  await writeFile(join(folder, 'torch.safetensors'), encodeSafetensors([...from.state(), ['extra', tensor(1)]]))
  await expect(loadCheckpoint(join(folder, 'torch'), to)).rejects.toThrow("'extra' is not in this model")
})

test.each([
  ['[', 'is not JSON'],
  ['null', 'version must be 1, got undefined'],
  ['{"version":2}', 'version must be 1, got 2'],
  ['{"version":1,"steps":-1}', 'steps must be an integer of 0 or more, got -1'],
  ['{"version":1,"epoch":"x"}', 'epoch must be an integer of 0 or more, got "x"'],
  ['{"version":1,"seed":1.5}', 'seed must be an integer, got 1.5'],
  ['{"version":1,"extras":[]}', 'extras must be an object'],
])('the metadata %s is refused', async (text, message) => {
  const file = join(folder, 'x.safetensors')
  await writeFile(file, encodeSafetensors([], new Map([['dynconv.checkpoint', text]])))
  await expect(readCheckpoint(file)).rejects.toThrow(message)
})

test('a damaged file is refused with its name and the byte', async () => {
  const file = await saveCheckpoint(join(folder, 'net'), layer(1))
  const bytes = await readFile(file)
  await writeFile(file, bytes.subarray(0, bytes.length - 1))
  await expect(loadCheckpoint(file, layer(1))).rejects.toThrow(/net\.safetensors: tensor '.*': its data ends at .* the file is cut off \(at byte \d+\)/)
  await expect(loadCheckpoint(join(folder, 'none'), layer(1))).rejects.toThrow('there is no such file')
})

test('what could not be read again is not written', async () => {
  const refusals = [
    [{ epoch: Number.NaN }, 'saveCheckpoint: epoch must be an integer of 0 or more, got NaN'],
    [{ epoch: 1.5 }, 'epoch must be an integer of 0 or more, got 1.5'],
    [{ seed: 0.5 }, 'seed must be an integer, got 0.5'],
    [{ extras: [1] as unknown as Record<string, unknown> }, 'extras must be an object'],
  ] as const
  for (const [info, message] of refusals) await expect(saveCheckpoint(join(folder, 'net'), layer(1), undefined, info)).rejects.toThrow(message)
  expect(await readdir(folder)).toEqual([])
})

test('a checkpoint replaces the one before it and leaves nothing else', async () => {
  await saveCheckpoint(join(folder, 'net'), layer(1))
  await saveCheckpoint(join(folder, 'net'), layer(2))
  expect(await readdir(folder)).toEqual(['net.safetensors'])
  expect(decodeSafetensors(await readFile(join(folder, 'net.safetensors'))).tensors.get('bases')).toEqual(layer(2).bases.data)
})

const backend = referenceBackend()
const training = (module: DynamicConv2d): Promise<Training> => trainer(module, { backend, loss: mse(), optimizer: sgd({ lr: (step) => 0.1 / (step + 1), momentum: 0.9 }) })
const [x, y] = withSeed(3, () => [normal([2, 2, 4, 4], 1), normal([2, 3, 2, 2], 1)])

test('a training goes on to the same bits as one that never stopped', async () => {
  const whole = await training(layer(1))
  for (let i = 0; i < 4; i++) await whole.step(x, y)

  const first = await training(layer(1))
  for (let i = 0; i < 2; i++) await first.step(x, y)
  await saveCheckpoint(join(folder, 'run'), first.module, first)
  first.dispose()

  const second = await training(layer(2))
  expect(await loadCheckpoint(join(folder, 'run'), second.module, second)).toMatchObject({ steps: 2 })
  for (let i = 0; i < 2; i++) await second.step(x, y)
  expect(second.steps).toBe(4)
  expect(await second.state()).toEqual(await whole.state())
  expect((await second.state()).has('optimizer.momentum.bases')).toBe(true)
  // The module alone takes the same file, without the optimizer's part.
  const alone = layer(3)
  await loadCheckpoint(join(folder, 'run'), alone)
  expect(alone.state().get('bases')).not.toEqual(layer(1).bases.data)
  whole.dispose()
  second.dispose()
})

test('the counts are those of the training, whatever the checkpoint loaded before said', async () => {
  const path = join(folder, 'run')
  const own = await training(layer(1))
  await own.step(x, y)
  await saveCheckpoint(path, own.module, own, { epoch: 1, extras: { note: 'mine' } })
  const before = await loadCheckpoint(path, own.module, own)
  await own.step(x, y)
  await saveCheckpoint(path, own.module, own, { ...before, epoch: 2 })
  expect((await readCheckpoint(path)).info).toEqual({ steps: 2, pending: 0, epoch: 2, seed: undefined, extras: { note: 'mine' } })
  await saveCheckpoint(path, own.module, undefined, before)
  expect((await readCheckpoint(path)).info.steps).toBeUndefined()
  own.dispose()
})

test('a training does not go on from what is not its own, and nothing changes', async () => {
  const own = await training(layer(1))
  const before = await own.state()
  await saveCheckpoint(join(folder, 'weights'), layer(2))
  await expect(loadCheckpoint(join(folder, 'weights'), own.module, own)).rejects.toThrow('it was saved without a training, so there is no optimizer state to go on from')
  const other = await trainer(layer(1), { backend, loss: mse(), optimizer: sgd({ lr: 0.1 }) })
  await saveCheckpoint(join(folder, 'plain'), other.module, other)
  await expect(loadCheckpoint(join(folder, 'plain'), own.module, own)).rejects.toThrow("'optimizer.momentum.bases' is missing")
  await expect(saveCheckpoint(join(folder, 'mixed'), layer(1), own)).rejects.toThrow('saveCheckpoint: the training is of another module')
  expect(await own.state()).toEqual(before)
  own.dispose()
  other.dispose()
})
