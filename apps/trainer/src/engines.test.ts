// The quickstart's network trains on every engine with the same losses. Here on those that come from npm; where
// DYNCONV_TFJS_NATIVE names a native package of TensorFlow.js, on that one as well.
//
// All compute in float32, each in its own order. A loss goes through about 20 layers of up to 576 products: some hundred
// roundings of 2^-24 that mostly cancel, 1e-6 at the first step. Each update stretches the differences, at most fourfold here.

import { crossEntropy, sgd, toFloat64, trainer } from '@dynconv/core'
import { loader, subset } from '@dynconv/datasets'
import { expect, test } from 'vitest'
import { withBackend } from './backend.ts'
import { checkConfig } from './config.ts'
import { factsOf, loadData } from './data.ts'
import { buildNetwork } from './network.ts'

const native = process.env['DYNCONV_TFJS_NATIVE']

async function losses(backend: string, bases: number, steps: number, batchSize: number): Promise<readonly number[]> {
  const config = checkConfig({ dataset: 'fashion-small', model: 'resnet8', bases, seed: 1 })
  const { train } = await loadData(config)
  return withBackend({ backend }, async (engine) => {
    const training = await trainer(buildNetwork(config, factsOf(train)), { backend: engine, loss: crossEntropy(), optimizer: sgd({ lr: 0.01, momentum: 0.9 }) })
    const found: number[] = []
    for (const { images, labels } of loader(subset(train, steps * batchSize), { batchSize })) found.push((await training.step(images, labels)).loss)
    training.dispose()
    expect(engine.memory()).toMatchObject({ liveTensors: 0, liveBytes: 0 })
    return found
  })
}

let reference: Promise<ReadonlyMap<string, Float64Array>> | undefined
const referenceGradients = (batchSize: number): Promise<ReadonlyMap<string, Float64Array>> => (reference ??= firstGradients('reference', batchSize))

const engines: readonly { readonly backend: string; readonly steps: number; readonly batchSize: number }[] = [
  { backend: 'tfjs:wasm', steps: 5, batchSize: 8 },
  // Plain JavaScript takes seconds for a step.
  { backend: 'tfjs:cpu', steps: 2, batchSize: 2 },
  ...(native === undefined ? [] : [{ backend: `tfjs:${native}`, steps: 5, batchSize: 8 }]),
]

test.each(engines.flatMap((engine) => [1, 4].map((bases) => ({ ...engine, bases }))))('$backend gives the losses of ONNX Runtime with K = $bases', async ({ backend, bases, steps, batchSize }) => {
  const expected = await losses('onnx', bases, steps, batchSize)
  const found = await losses(backend, bases, steps, batchSize)
  expect([expected.length, found.length]).toEqual([steps, steps])
  const errors = found.map((loss, i) => Math.abs(loss - (expected[i] ?? Number.NaN)) / loss)
  // What is above its bound, with its step.
  expect(errors.flatMap((error, i) => (error < 1e-5 * 4 ** i ? [] : [[i, error]]))).toEqual([])
})

// After the first step the momentum of each parameter is its gradient. An input of a ReLU that lies nearer to 0 than float32
// computes it may fall on the other side, which alone changes the gradient by some thousandths: for these two images and this
// seed the nearest of 260,000 is 3.6e-6 away, beyond the errors of the engines.
async function firstGradients(backend: string, batchSize: number): Promise<ReadonlyMap<string, Float64Array>> {
  const config = checkConfig({ dataset: 'fashion-small', model: 'resnet20', bases: 4, seed: 1 })
  const { train } = await loadData(config)
  return withBackend({ backend }, async (engine) => {
    const training = await trainer(buildNetwork(config, factsOf(train)), { backend: engine, loss: crossEntropy(), optimizer: sgd({ lr: 0.01, momentum: 0.9 }) })
    for (const { images, labels } of loader(subset(train, batchSize), { batchSize })) await training.step(images, labels)
    const state = await training.state()
    training.dispose()
    return new Map([...state].flatMap(([name, value]) => (name.startsWith('optimizer.momentum.') ? [[name, toFloat64(value)]] : [])))
  })
}

test.each(['onnx', ...(native === undefined ? [] : [`tfjs:${native}`])])('%s gives the gradients of ResNet-20 with K = 4 within 1e-5 of the float64 reference', async (backend) => {
  const batchSize = 2
  const found = await firstGradients(backend, batchSize)
  const expected = await referenceGradients(batchSize)
  expect([...found.keys()]).toEqual([...expected.keys()])
  let difference = 0
  let norm = 0
  for (const [name, values] of expected) {
    const others = found.get(name)
    values.forEach((v, i) => {
      difference += (v - (others?.[i] ?? Number.NaN)) ** 2
      norm += v * v
    })
  }
  expect(Math.sqrt(difference / norm)).toBeLessThan(1e-5)
})

test('an unknown engine, and threads that cannot be chosen, are refused', async () => {
  const use = (): Promise<void> => Promise.resolve()
  await expect(withBackend({ backend: 'abacus' }, use)).rejects.toThrow("--backend must be one of onnx, onnx:plain, tfjs, tfjs:tfjs-node-gpu, tfjs:tfjs-node, tfjs:wasm, tfjs:cpu, webgpu, reference; got 'abacus'")
  await expect(withBackend({ backend: 'tfjs:abacus' }, use)).rejects.toThrow("got 'tfjs:abacus'")
  await expect(withBackend({ backend: 'tfjs:wasm', threads: 2 }, use)).rejects.toThrow("--threads: the engine 'tfjs:wasm' does not let its threads be chosen")
})
