import { expect, test } from 'vitest'
import type { Backend } from '../backend/contract.ts'
import { DynamicConv2d } from '../dynamic/dynamicConv2d.ts'
import { temperatureState } from '../dynamic/temperature.ts'
import { withSeed } from '../nn/init.ts'
import { BatchNorm2d, Conv2d, Linear } from '../nn/layers.ts'
import { crossEntropy } from '../nn/losses.ts'
import { Module } from '../nn/module.ts'
import { adamW } from '../optim/adamW.ts'
import { sgd } from '../optim/sgd.ts'
import { Random } from '../random.ts'
import { referenceBackend } from '../reference/backend.ts'
import { type HostTensor, tensor } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { changedBackend } from '../testing/changedBackend.ts'
import { type Snapshot, trainer, type TrainerOptions, type Training } from './trainer.ts'

class Net extends Module {
  readonly conv: Conv2d = new Conv2d({ inChannels: 1, outChannels: 4, kernelSize: 3, padding: 1 })
  readonly bn: BatchNorm2d | undefined
  readonly mix: DynamicConv2d = new DynamicConv2d({ inChannels: 4, outChannels: 4, kernelSize: 3, numBases: 2, bias: false })
  readonly unused: Linear = new Linear({ inFeatures: 1, outFeatures: 1 })
  readonly fc: Linear = new Linear({ inFeatures: 4, outFeatures: 3 })

  constructor(withNorm: boolean) {
    super()
    this.bn = withNorm ? new BatchNorm2d(4) : undefined
  }

  override forward(x: Tensor): Tensor {
    const h = this.conv.forward(x)
    const y = this.mix.forward((this.bn ? this.bn.forward(h) : h).relu())
    return this.fc.forward(y.relu().mean([2, 3]))
  }
}

function build(withNorm: boolean = true): Net {
  return withSeed(3, () => new Net(withNorm))
}

function batch(size: number, seed: number): readonly [HostTensor, HostTensor] {
  const random = new Random(seed)
  const images = tensor(Array.from({ length: size * 16 }, () => random.normal()), [size, 1, 4, 4])
  return [images, tensor(Array.from({ length: size }, (_, i) => i % 3), [size], 'int32')]
}

async function start(net: Net, options: Partial<TrainerOptions> = {}): Promise<Training> {
  return trainer(net, { backend: referenceBackend(), loss: crossEntropy(), optimizer: sgd({ lr: 0.5, momentum: 0.9 }), ...options })
}

test('the loss falls, running statistics move, unused and frozen parameters stay', async () => {
  const net = build()
  net.conv.weight.trainable = false
  const before = net.state()
  const training = await start(net)
  const data = batch(6, 1)
  const losses: number[] = []
  for (let i = 0; i < 15; i++) losses.push((await training.step(...data)).loss)
  expect(losses.at(-1)).toBeLessThan(0.5 * (losses[0] ?? 0))
  expect(training.steps).toBe(15)
  await training.sync()
  const after = net.state()
  const changed = [...after].filter(([name, t]) => t.data.some((x, i) => x !== before.get(name)?.data[i])).map(([name]) => name)
  expect(changed).toEqual(expect.arrayContaining(['mix.bases', 'mix.routing.fc2.weight', 'fc.bias', 'bn.running_mean']))
  for (const name of ['conv.weight', 'unused.weight', 'unused.bias', 'mix.routing.temperature']) expect(changed).not.toContain(name)
  expect((await training.evaluate(...data)).metrics.correct).toBeGreaterThan(3)
  training.dispose()
})

test('two accumulated halves are one whole batch', async () => {
  const [images, labels] = batch(8, 2)
  const half = (t: HostTensor, i: number): HostTensor => {
    const n = t.data.length / 2
    return { ...t, shape: [4, ...t.shape.slice(1)], data: t.data.slice(i * n, (i + 1) * n) }
  }
  const whole = await start(build(false), { clipNorm: 0.01 })
  const parts = await start(build(false), { clipNorm: 0.01, accumulate: 2 })
  for (let step = 0; step < 2; step++) {
    const { metrics } = await whole.step(images, labels)
    expect((await parts.step(half(images, 0), half(labels, 0))).metrics.gradientNorm).toBeUndefined()
    const second = await parts.step(half(images, 1), half(labels, 1))
    expect(second.metrics.gradientNorm).toBeCloseTo(metrics.gradientNorm ?? Number.NaN, 6)
  }
  expect(parts.steps).toBe(2)
  // The sums of gradients are zero again; everything else is as in the whole batch.
  const expected = await whole.state()
  for (const [name, t] of await parts.state()) {
    const want = expected.get(name)?.data ?? new Float32Array(t.data.length)
    t.data.forEach((x, i) => expect(x).toBeCloseTo(want[i] ?? Number.NaN, 5))
  }
  expect([...(await parts.state()).keys()].filter((name) => name.startsWith('gradient.')).length).toBe(parts.module.namedParameters().size)
})

test('a training that goes on from its state is the one that was never stopped', async () => {
  const options = { optimizer: adamW({ lr: (step: number) => 0.01 / (step + 1) }) }
  const through = await start(build(), options)
  for (let i = 0; i < 4; i++) await through.step(...batch(6, i))
  const stopped = await start(build(), options)
  for (let i = 0; i < 2; i++) await stopped.step(...batch(6, i))
  for (const [name, value] of temperatureState(stopped.module, 7)) await stopped.write(name, value)
  const saved = await stopped.state()
  expect(saved.get('mix.routing.temperature')?.data[0]).toBe(7)
  await stopped.write('mix.routing.temperature', tensor(1))
  const resumed = await start(build(), options)
  await resumed.loadState(await stopped.state(), stopped.steps)
  for (let i = 2; i < 4; i++) await resumed.step(...batch(6, i))
  expect(await resumed.state()).toEqual(await through.state())
  expect(resumed.steps).toBe(4)
})

test('a state of another model is refused and changes nothing', async () => {
  const training = await start(build())
  const before = await training.state()
  const other = await (await start(build(false))).state()
  await expect(training.loadState(other, 1)).rejects.toThrow("loadState: the state does not fit this model: 'bn.weight' is missing")
  expect(await training.state()).toEqual(before)
  expect(training.steps).toBe(0)
})

test('a loss that is not finite stops the training, with the step and the parameter', async () => {
  const training = await start(build(), { optimizer: sgd({ lr: 1e30 }) })
  const run = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) await training.step(...batch(6, i))
  }
  await expect(run()).rejects.toThrow(/^training: the loss is (NaN|-?Infinity) at step \d+, all parameters are finite \(the largest value, \d.*, is in '[a-z0-9.]+'\); look at/)
})

test('the parameter that went first is named, and the batch has changed nothing', async () => {
  for (const accumulate of [1, 2]) {
    const training = await start(build(), { accumulate })
    await training.step(...batch(6, 0))
    const weight = await training.read('fc.weight')
    await training.write('fc.weight', { ...weight, data: Float32Array.from(weight.data, (v, i) => (i === 2 ? Number.POSITIVE_INFINITY : v)) })
    const before = await training.state()
    await expect(training.step(...batch(6, 1))).rejects.toMatchObject({
      message: `training: the loss is NaN at step ${2 - accumulate}; the first parameter that is not finite is 'fc.weight'; lower the rate or clip gradients`,
      step: 2 - accumulate,
      parameter: 'fc.weight',
    })
    expect(await training.state()).toEqual(before)
    expect(training.pending).toBe(accumulate - 1)
    await training.write('fc.weight', weight)
    expect((await training.step(...batch(6, 1))).loss).toBeLessThan(10)
  }
})

test('a training stopped between two accumulated batches goes on as if it had not', async () => {
  const options = { accumulate: 3 }
  const through = await start(build(), options)
  for (let i = 0; i < 6; i++) await through.step(...batch(6, i))
  const stopped = await start(build(), options)
  for (let i = 0; i < 4; i++) await stopped.step(...batch(6, i))
  const resumed = await start(build(), options)
  await resumed.loadState(await stopped.state(), stopped.steps, stopped.pending)
  for (let i = 4; i < 6; i++) await resumed.step(...batch(6, i))
  expect(await resumed.state()).toEqual(await through.state())

  await resumed.loadState(await stopped.state(), stopped.steps)
  const sums = [...(await resumed.state())].filter(([name]) => name.startsWith('gradient.'))
  expect(sums).not.toHaveLength(0)
  for (const [, value] of sums) expect(value.data.every((v) => v === 0)).toBe(true)
  await expect(resumed.loadState(await stopped.state(), 1, 4)).rejects.toThrow('loadState: pending must be an integer from 0 to 3, accumulate, got 4')
  await expect((await start(build())).loadState(await (await start(build())).state(), 1, 1)).rejects.toThrow('from 0 to 0 without accumulation, got 1')
})

test.each([1, 2])('parameters that the loss does not depend on are left alone, momentum and decay included (%i batches an update)', async (accumulate) => {
  class Aside extends Module {
    readonly fc: Linear = new Linear({ inFeatures: 16, outFeatures: 3 })
    readonly unread: Linear = new Linear({ inFeatures: 16, outFeatures: 3 })
    readonly dropped: Linear = new Linear({ inFeatures: 16, outFeatures: 3 })
    readonly held: Linear = new Linear({ inFeatures: 16, outFeatures: 3, bias: false })

    override forward(x: Tensor): Tensor {
      const h = x.flatten(1)
      this.dropped.forward(h)
      return this.fc.forward(h).add(this.held.forward(h).stopGradient())
    }
  }
  for (const optimizer of [adamW({ lr: 0.1, weightDecay: 0.5 }), sgd({ lr: 0.1, momentum: 0.9, weightDecay: 0.5 })]) {
    const module = withSeed(1, () => new Aside())
    const before = module.state()
    const training = await trainer(module, { backend: referenceBackend(), loss: crossEntropy(), optimizer, accumulate })
    for (let i = 0; i < 4; i++) await training.step(...batch(6, i))
    await training.sync()
    const changed = [...module.state()].filter(([name, t]) => t.data.some((x, i) => x !== before.get(name)?.data[i])).map(([name]) => name)
    expect(changed).toEqual(['fc.weight', 'fc.bias'])
  }
})

test('what is no tensor is refused', async () => {
  const training = await start(build())
  const [images] = batch(3, 1)
  await expect(training.step(images, [0, 1, 2] as unknown as HostTensor)).rejects.toThrow('step: targets must be a host tensor, got Array; make one with tensor(values, shape)')
  await expect(training.evaluate(undefined as unknown as HostTensor, images)).rejects.toThrow('evaluate: inputs must be a host tensor, got undefined')
  await expect(training.predict(images.data as unknown as HostTensor)).rejects.toThrow('predict: inputs must be a host tensor, got Float32Array')
})

test('a backend that was not awaited, and a parameter that is trained too late, are told', async () => {
  const backend = Promise.resolve(referenceBackend()) as unknown as Backend
  await expect(start(build(), { backend })).rejects.toThrow('trainer: the backend is a promise; await it')
  const net = build()
  net.fc.weight.trainable = false
  const training = await start(net)
  net.fc.weight.trainable = true
  await expect(training.step(...batch(3, 1))).rejects.toThrow("there is no state 'optimizer.momentum.fc.weight'; a parameter that is to be trained must be so before trainer() is called")
})

test('a last, smaller batch shares the state', async () => {
  const training = await start(build())
  await training.step(...batch(6, 1))
  const before = await training.read('fc.weight')
  await training.step(...batch(3, 2))
  expect(await training.read('fc.weight')).not.toEqual(before)
  expect((await training.predict(batch(2, 1)[0])).shape).toEqual([2, 3])
})

test('an update that fails is made up for before the next batch, from a checkpoint too', async () => {
  let fail = true
  const options = { accumulate: 2, optimizer: sgd({ lr: 0.1, momentum: 0.5 }) }
  const through = await start(build(), options)
  for (let i = 0; i < 4; i++) await through.step(...batch(6, i))

  const stumbling = await start(build(), {
    ...options,
    backend: changedBackend(referenceBackend(), (f) => {
      const isUpdate = !f.graph.inputs.some((port) => port.name === 'inputs')
      return { run: (inputs) => (isUpdate && fail ? Promise.reject(new Error('out of memory')) : f.run(inputs)) }
    }),
  })
  await stumbling.step(...batch(6, 0))
  await expect(stumbling.step(...batch(6, 1))).rejects.toThrow('out of memory')
  const { state, steps, pending } = await stumbling.snapshot()
  expect([steps, pending]).toEqual([0, 2])
  await expect(stumbling.step(...batch(6, 2))).rejects.toThrow('out of memory')
  fail = false
  const resumed = await start(build(), options)
  await resumed.loadState(state, steps, pending)
  for (const training of [stumbling, resumed]) {
    for (let i = 2; i < 4; i++) await training.step(...batch(6, i))
    expect(await training.snapshot()).toEqual(await through.snapshot())
  }
})

test('a schedule that fails does so before the batch counts', async () => {
  const lr = (step: number): number => (step === 0 ? 0.1 : Number.NaN)
  for (const accumulate of [1, 2]) {
    const training = await start(build(), { accumulate, optimizer: sgd({ lr }) })
    for (let i = 0; i < 2 * accumulate - 1; i++) await training.step(...batch(6, i))
    const before = await training.snapshot()
    await expect(training.step(...batch(6, 9))).rejects.toThrow('the rate at step 1 must be 0 or more, got NaN')
    expect(await training.snapshot()).toEqual(before)
    expect(before.pending).toBe(accumulate - 1)
  }
})

test.each([1, 2])('steps that are started together follow one another, and nothing sees half of one (%i batches an update)', async (accumulate) => {
  const options = { accumulate, optimizer: adamW({ lr: 0.1 }) }
  const through = await start(build(), options)
  const expected: Snapshot[] = []
  for (let i = 0; i < 4; i++) {
    await through.step(...batch(6, i))
    expected.push(await through.snapshot())
  }
  const together = await start(build(), options)
  const snapshots = [0, 1, 2, 3].map((i) => {
    void together.step(...batch(6, i))
    return together.snapshot()
  })
  expect(await Promise.all(snapshots)).toEqual(expected)
})

test('a step that goes on when the training is disposed ends well', async () => {
  const backend = referenceBackend()
  const training = await start(build(), { backend, accumulate: 2 })
  await training.step(...batch(6, 0))
  const running = training.step(...batch(6, 1))
  training.dispose()
  expect((await running).loss).toBeLessThan(10)
  await expect(training.step(...batch(6, 2))).rejects.toThrow('training: it was disposed')
  expect(backend.memory().liveTensors).toBe(0)
})

test('parts of a module may have the names of what a training keeps', async () => {
  class Edges extends Module {
    readonly gradient: Linear = new Linear({ inFeatures: 16, outFeatures: 4 })
    readonly optimizer: Linear = new Linear({ inFeatures: 4, outFeatures: 3 })

    override forward(x: Tensor): Tensor {
      return this.optimizer.forward(this.gradient.forward(x.flatten(1)))
    }
  }
  const options = { backend: referenceBackend(), loss: crossEntropy(), optimizer: sgd({ lr: 0.1, momentum: 0.9 }) }
  for (const accumulate of [1, 2]) {
    const [training, resumed] = [await trainer(new Edges(), { ...options, accumulate }), await trainer(new Edges(), { ...options, accumulate })]
    for (let i = 0; i < 2; i++) await training.step(...batch(6, i))
    const { state, steps, pending } = await training.snapshot()
    await resumed.loadState(state, steps, pending)
    expect(await resumed.state()).toEqual(state)
  }
})
