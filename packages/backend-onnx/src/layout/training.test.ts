// Whole training steps of small nets: the blocked layout against the float64 oracle and against the plain layout, and
// that states which belong together are stored together.

import {
  adamW,
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  DynamicConv2d,
  evaluate,
  type Graph,
  GlobalAvgPool2d,
  Linear,
  MaxPool2d,
  Module,
  type Optimizer,
  prepare,
  type RefTensor,
  sgd,
  type Tensor,
  tensor,
  toRef,
  trainer,
  traceStep,
  withSeed,
} from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { OnnxBackend, plainLayouts } from '../backend.ts'
import { startBlocked } from '../testing/blocked.ts'
import { compare, randint, randn } from '../testing/compare.ts'
import { assign } from './assign.ts'

let blocked: OnnxBackend
let plain: OnnxBackend
beforeAll(async () => {
  const { engine, backend } = await startBlocked()
  blocked = backend
  plain = new OnnxBackend(engine, plainLayouts, {})
})
afterAll(() => Promise.all([blocked.dispose(), plain.dispose()]))

type MakeConv = (inChannels: number, outChannels: number, stride: number) => Module

const makers: Readonly<Record<string, MakeConv>> = {
  static: (inChannels, outChannels, stride) => new Conv2d({ inChannels, outChannels, kernelSize: 3, stride, padding: 1, bias: false }),
  'static with bias': (inChannels, outChannels, stride) => new Conv2d({ inChannels, outChannels, kernelSize: 3, stride, padding: 1 }),
  dynamic: (inChannels, outChannels, stride) => new DynamicConv2d({ inChannels, outChannels, kernelSize: 3, stride, padding: 1, numBases: 3, form: 'kernels' }),
  'dynamic, sigmoid': (inChannels, outChannels, stride) =>
    new DynamicConv2d({ inChannels, outChannels, kernelSize: 3, stride, padding: 1, numBases: 2, ratio: 0, routing: 'sigmoid', bias: false, form: 'kernels' }),
}

class Block extends Module {
  readonly conv1: Module
  readonly bn1: BatchNorm2d
  readonly conv2: Module
  readonly bn2: BatchNorm2d
  readonly down: Conv2d | undefined
  readonly downBn: BatchNorm2d | undefined

  constructor(inChannels: number, outChannels: number, stride: number, conv: MakeConv) {
    super()
    this.conv1 = conv(inChannels, outChannels, stride)
    this.bn1 = new BatchNorm2d(outChannels)
    this.conv2 = conv(outChannels, outChannels, 1)
    this.bn2 = new BatchNorm2d(outChannels)
    const changes = stride !== 1 || inChannels !== outChannels
    this.down = changes ? new Conv2d({ inChannels, outChannels, kernelSize: 1, stride, bias: false }) : undefined
    this.downBn = changes ? new BatchNorm2d(outChannels) : undefined
  }

  override forward(x: Tensor): Tensor {
    const y = this.bn2.forward(this.conv2.forward(this.bn1.forward(this.conv1.forward(x)).relu()))
    return y.add(this.down && this.downBn ? this.downBn.forward(this.down.forward(x)) : x).relu()
  }
}

// Two stages of the widths given; some nets mix widths that fill blocks with widths that do not.
class Net extends Module {
  readonly stem: Module
  readonly bn: BatchNorm2d
  readonly pool: MaxPool2d | undefined
  readonly block1: Block
  readonly block2: Block
  readonly gap: GlobalAvgPool2d = new GlobalAvgPool2d()
  readonly fc: Linear

  constructor([first, second]: readonly [number, number], conv: MakeConv, pool: boolean) {
    super()
    this.stem = new Conv2d({ inChannels: 3, outChannels: first, kernelSize: 3, padding: 1, bias: false })
    this.bn = new BatchNorm2d(first)
    this.pool = pool ? new MaxPool2d({ kernelSize: 2 }) : undefined
    this.block1 = new Block(first, first, 1, conv)
    this.block2 = new Block(first, second, 2, conv)
    this.fc = new Linear({ inFeatures: second, outFeatures: 5 })
  }

  override forward(x: Tensor): Tensor {
    const y = this.bn.forward(this.stem.forward(x)).relu()
    return this.fc.forward(this.gap.forward(this.block2.forward(this.block1.forward(this.pool ? this.pool.forward(y) : y))))
  }
}

const optimizers: Readonly<Record<string, () => Optimizer>> = {
  momentum: () => sgd({ lr: 0.05, momentum: 0.9, weightDecay: 1e-3 }),
  adamW: () => adamW({ lr: 1e-3 }),
}

const samples = (count: number) => ({ images: randn([count, 3, 8, 8], 1), labels: randint([count], 5, 2) })
const { images, labels } = samples(4)
const steps = 3

interface Setting {
  readonly conv: string
  readonly optimizer: string
  readonly widths: readonly [number, number]
  readonly pool?: boolean
  readonly clipNorm?: number
  /** Samples of a batch; 4 unless given. */
  readonly batch?: number
}

const settings: readonly Setting[] = [
  { conv: 'static', optimizer: 'momentum', widths: [16, 32] },
  { conv: 'static', optimizer: 'adamW', widths: [32, 16] },
  { conv: 'static with bias', optimizer: 'momentum', widths: [16, 16] },
  { conv: 'dynamic', optimizer: 'momentum', widths: [16, 32] },
  { conv: 'dynamic', optimizer: 'momentum', widths: [16, 32], batch: 2 },
  { conv: 'dynamic, sigmoid', optimizer: 'adamW', widths: [16, 16] },
  { conv: 'static', optimizer: 'momentum', widths: [24, 16], clipNorm: 0.5 },
  { conv: 'dynamic', optimizer: 'momentum', widths: [16, 24], clipNorm: 0.5 },
  { conv: 'static', optimizer: 'momentum', widths: [16, 32], pool: true, clipNorm: 0.5 },
]

function make(setting: Setting): Net {
  return withSeed(5, () => new Net(setting.widths, makers[setting.conv]!, setting.pool ?? false))
}

function optionsOf(setting: Setting, backend: OnnxBackend) {
  const clip = setting.clipNorm === undefined ? {} : { clipNorm: setting.clipNorm }
  return { backend, loss: crossEntropy({ smoothing: 0.1 }), optimizer: optimizers[setting.optimizer]!(), ...clip }
}

// States after `steps` steps in float64, and the losses.
function oracle(setting: Setting): { readonly losses: readonly number[]; readonly states: ReadonlyMap<string, RefTensor> } {
  const net = make(setting)
  const options = optionsOf(setting, plain)
  const { images, labels } = samples(setting.batch ?? 4)
  const graph = traceStep(net, options, images, labels)
  const start = new Map([...net.namedParameters(), ...net.namedBuffers()].map(([name, part]) => [name, toRef(part.data)]))
  let states: ReadonlyMap<string, RefTensor> = new Map(
    graph.states.map((s) => [s.name, start.get(s.name) ?? { shape: s.shape as number[], data: new Float64Array(s.shape.reduce<number>((a, d) => a * Number(d), 1)) }]),
  )
  const losses: number[] = []
  for (let step = 0; step < steps; step++) {
    const hyper = Object.values(options.optimizer.hyper(step)).map((value) => toRef(tensor(value)))
    const result = evaluate(graph, [toRef(images), toRef(labels), ...hyper], states)
    losses.push(result.outputs[0]?.data[0] ?? Number.NaN)
    states = result.states
  }
  return { losses, states }
}

describe.each(settings)('$conv, $optimizer, widths $widths, clipped at $clipNorm, batch $batch', (setting) => {
  const { images, labels } = samples(setting.batch ?? 4)

  test('three steps agree with the oracle, as the plain layout does', async () => {
    const expected = oracle(setting)
    const results = [blocked, plain].map(async (backend) => {
      const training = await trainer(make(setting), optionsOf(setting, backend))
      const losses: number[] = []
      for (let step = 0; step < steps; step++) losses.push((await training.step(images, labels)).loss)
      const states = await training.state()
      training.dispose()
      return { losses, states }
    })
    for (const { losses, states } of await Promise.all(results)) {
      losses.forEach((loss, i) => {
        expect(Math.abs(loss - (expected.losses[i] ?? Number.NaN))).toBeLessThan(2e-5)
      })
      const found = [...states].map(([name, value]) => [name, compare(value, expected.states.get(name), 10_000)])
      expect(found.filter(([, difference]) => difference !== undefined)).toEqual([])
    }
  })

  test('evaluating and a smaller last batch share the state', async () => {
    const seen = [blocked, plain].map(async (backend) => {
      const training = await trainer(make(setting), optionsOf(setting, backend))
      await training.step(images, labels)
      const after = await training.evaluate(images, labels)
      await training.step(randn([3, 3, 8, 8], 4), randint([3], 5, 5))
      const last = await training.evaluate(images, labels)
      training.dispose()
      return [after.loss, last.loss]
    })
    const [a = [], b = []] = await Promise.all(seen)
    a.forEach((loss, i) => {
      expect(Math.abs(loss - (b[i] ?? Number.NaN))).toBeLessThan(1e-4)
    })
  })
})

describe('states', () => {
  const graphOf = (setting: Setting): Graph => prepare(traceStep(make(setting), optionsOf(setting, plain), images, labels), {}).graph
  const stored = (graph: Graph, block: number): ReadonlyMap<string, string> => {
    const assignment = assign(graph, block)
    return new Map(graph.states.map((s) => [s.name, assignment.stateLayout(s.name)]))
  }

  test.each([8, 16])('a weight and its momentum are stored as kernels, whatever else is not (block %i)', (block) => {
    const layouts = stored(graphOf({ conv: 'static', optimizer: 'momentum', widths: [16, 32] }), block)
    const kernels = [...layouts].filter(([, layout]) => layout === 'kernel').map(([name]) => name)
    const weights = ['stem', 'block1.conv1', 'block1.conv2', 'block2.conv1', 'block2.conv2', 'block2.down'].map((name) => `${name}.weight`)
    expect(kernels.toSorted()).toEqual([...weights, ...weights.map((w) => `optimizer.momentum.${w}`)].toSorted())
  })

  test("both of Adam's moments too, and dynamic bases", () => {
    const layouts = stored(graphOf({ conv: 'dynamic', optimizer: 'adamW', widths: [16, 16] }), 16)
    for (const name of ['block1.conv1.bases', 'block2.conv2.bases', 'block2.down.weight']) {
      expect(layouts.get(name)).toBe('kernel')
      for (const moment of [...layouts.keys()].filter((key) => key.startsWith('optimizer.') && key.endsWith(name))) expect(layouts.get(moment)).toBe('kernel')
    }
    expect(layouts.get('block1.conv1.routing.fc1.weight')).toBe('plain')
    expect(layouts.get('fc.weight')).toBe('plain')
  })

  test('channels that do not fill blocks stay plain', () => {
    const layouts = stored(graphOf({ conv: 'static', optimizer: 'momentum', widths: [24, 16] }), 16)
    expect(layouts.get('stem.weight')).toBe('plain')
    expect(layouts.get('block2.conv1.weight')).toBe('plain')
    expect(layouts.get('block2.conv2.weight')).toBe('kernel')
    expect(layouts.get('optimizer.momentum.block2.conv2.weight')).toBe('kernel')
    // With block 8 they do.
    expect(stored(graphOf({ conv: 'static', optimizer: 'momentum', widths: [24, 16] }), 8).get('stem.weight')).toBe('kernel')
  })

  test('what is stored as kernels is read and written row-major', async () => {
    const setting = settings[0]!
    const training = await trainer(make(setting), optionsOf(setting, blocked))
    const before = await training.read('block1.conv1.weight')
    await training.step(images, labels)
    const after = await training.read('block1.conv1.weight')
    expect(Array.from(after.data)).not.toEqual(Array.from(before.data))
    await training.write('block1.conv1.weight', before)
    expect(await training.read('block1.conv1.weight')).toEqual(before)
    training.dispose()
  })
})
