import { expect, test } from 'vitest'
import { NonFiniteError } from '../backend/errors.ts'
import { withSeed } from '../nn/init.ts'
import { Linear } from '../nn/layers.ts'
import { crossEntropy, type Loss } from '../nn/losses.ts'
import { adamW } from '../optim/adamW.ts'
import { sgd } from '../optim/sgd.ts'
import { Random } from '../random.ts'
import { type HostTensor, tensor, toFloat64 } from '../tensor/hostTensor.ts'
import { roundingBackend } from '../testing/roundingBackend.ts'
import { trainer, type TrainerOptions, type Training } from './trainer.ts'

const build = (): Linear => withSeed(3, () => new Linear({ inFeatures: 8, outFeatures: 3 }))

function start(options: Partial<TrainerOptions> = {}): Promise<Training> {
  return trainer(build(), { backend: roundingBackend(), loss: crossEntropy(), optimizer: sgd({ lr: 0.1, momentum: 0.9 }), compute: 'float16', ...options })
}

function batch(seed: number): readonly [HostTensor, HostTensor] {
  const random = new Random(seed)
  const images = Array.from({ length: 6 * 8 }, () => random.normal())
  return [tensor(images, [6, 8]), tensor([0, 1, 2, 0, 1, 2], [6], 'int32')]
}

// A loss whose gradient with respect to the logits is `slope` throughout.
const sloped = (slope: number): Loss => (output) => output.mul(slope).sum().mul(1 / 6)

test('mixed precision learns as float32 does, to the precision of float16', async () => {
  const [mixed, whole] = [await start(), await start({ compute: 'float32' })]
  for (let i = 0; i < 5; i++) {
    const [a, b] = [await mixed.step(...batch(i)), await whole.step(...batch(i))]
    expect(a.metrics).toMatchObject({ lossScale: 65536, overflow: 0 })
    expect(b.metrics).not.toHaveProperty('lossScale')
    expect(Math.abs(a.loss - b.loss)).toBeLessThan(4e-3)
    expect(a.loss).not.toBe(b.loss)
  }
  expect((await mixed.evaluate(...batch(1))).loss).not.toBe((await whole.evaluate(...batch(1))).loss)
  // Between programs everything is float32.
  for (const [, { dtype }] of await mixed.state()) expect(dtype).toBe('float32')
})

test('gradients below the reach of float16 count by the scale', async () => {
  const changed = async (initial: number): Promise<boolean> => {
    const training = await start({ loss: sloped(1e-8), lossScale: { initial } })
    const before = await training.read('weight')
    await training.write('weight', tensor(new Array(24).fill(0), before.shape))
    await training.step(...batch(1))
    return toFloat64(await training.read('weight')).some((w) => w !== 0)
  }
  expect(await changed(1)).toBe(false)
  expect(await changed(2 ** 16)).toBe(true)
})

test('an update whose gradients overflow is left out, and the scale falls until they do not', async () => {
  for (const accumulate of [1, 2]) {
    const training = await start({ loss: sloped(6), lossScale: { initial: 2 ** 18 }, optimizer: adamW({ lr: 0.1 }), accumulate })
    const seen: number[] = []
    for (let update = 0; update < 4; update++) {
      const before = await training.state()
      let metrics: { readonly [name: string]: number } = {}
      for (let i = 0; i < accumulate; i++) metrics = (await training.step(...batch(i))).metrics
      const { overflow = Number.NaN, lossScale = Number.NaN } = metrics
      seen.push(lossScale)
      const after = await training.state()
      const changed = ['weight', 'bias', 'optimizer.m.weight', 'optimizer.v.bias'].filter((name) => after.get(name)?.data.some((x, i) => x !== before.get(name)?.data[i]))
      expect(changed).toHaveLength(overflow ? 0 : 4)
      for (const [, { data }] of after) expect(data.every((x) => Number.isFinite(x))).toBe(true)
    }
    // 2^18 and 2^17 sixths of 6 are above 65504.
    expect(seen).toEqual([2 ** 18, 2 ** 17, 2 ** 16, 2 ** 15])
    expect(training.steps).toBe(4)
  }
})

test('the scale grows after an interval without overflow, and a checkpoint keeps both it and the count', async () => {
  const options = { lossScale: { initial: 8, interval: 3, growth: 4 } }
  const scales = async (training: Training, from: number, count: number): Promise<readonly (number | undefined)[]> => {
    const seen: (number | undefined)[] = []
    for (let i = from; i < from + count; i++) seen.push((await training.step(...batch(i))).metrics['lossScale'])
    return seen
  }
  const through = await start(options)
  expect(await scales(through, 0, 8)).toEqual([8, 8, 8, 32, 32, 32, 128, 128])
  const stopped = await start(options)
  await scales(stopped, 0, 5)
  const { state, steps } = await stopped.snapshot()
  const resumed = await start(options)
  await resumed.loadState(state, steps)
  expect(await scales(resumed, 5, 3)).toEqual([32, 128, 128])
  expect(await resumed.state()).toEqual(await through.state())
})

test('gradients that overflow however small the scale are an error', async () => {
  const training = await start({ loss: sloped(1e6), lossScale: { initial: 1 } })
  const before = await training.read('weight')
  await expect(training.step(...batch(1))).rejects.toThrow(NonFiniteError)
  await expect(training.step(...batch(1))).rejects.toThrow("gradients at step 0 overflow float16 though the loss is finite and scaled by 1; use compute 'float32'")
  expect(await training.read('weight')).toEqual(before)
})

test('options that make no sense are refused', async () => {
  await expect(start({ compute: 'float64' as 'float32' })).rejects.toThrow(`trainer: compute must be 'float32' or 'float16', got "float64"`)
  await expect(start({ compute: 'float32', lossScale: {} })).rejects.toThrow("trainer: lossScale needs compute 'float16'")
  await expect(start({ lossScale: { initial: 0.5 } })).rejects.toThrow('trainer: lossScale.initial must be 1 or more, got 0.5')
  await expect(start({ lossScale: { growth: Number.NaN } })).rejects.toThrow('lossScale.growth must be 1 or more, got NaN')
  await expect(start({ lossScale: { backoff: 1 } })).rejects.toThrow('lossScale.backoff must be between 0 and 1, got 1')
  await expect(start({ lossScale: { interval: 0 } })).rejects.toThrow('lossScale.interval must be a positive integer, got 0')
})
