import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { Conv2d, GroupNorm } from '../nn/layers.ts'
import type { Module } from '../nn/module.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import { type HostTensor, tensor, zeros } from '../tensor/hostTensor.ts'
import { randomRef } from '../testing/gradcheck.ts'
import { traceModule } from '../train/compile.ts'
import { DynamicConv2d, type DynamicConv2dOptions } from './dynamicConv2d.ts'
import { Routing, type RoutingKind, type RoutingNorm } from './routing.ts'
import { anneal, temperatureState } from './temperature.ts'

const base = { inChannels: 6, outChannels: 4, kernelSize: 3, padding: 1 } as const

function run(layer: Module, shape: readonly number[]): Float64Array {
  const { graph, sources } = trace((x) => layer.forward(x), { inputs: [{ shape }], names: layer.paths() })
  const states = new Map([...sources].map(([name, s]) => [name, toRef(s.data)]))
  return evaluate(graph, [randomRef(shape, 5)], states).outputs[0]?.data ?? new Float64Array()
}

test('names and shapes are those of the reference implementations', () => {
  const shapes = (o: Partial<DynamicConv2dOptions>): Record<string, readonly number[]> =>
    Object.fromEntries([...new DynamicConv2d({ ...base, ...o }).state()].map(([name, t]) => [name, t.shape]))
  expect(shapes({ inChannels: 32, numBases: 3 })).toEqual({
    bases: [3, 4, 32, 3, 3],
    bias: [3, 4],
    'routing.fc1.weight': [8, 32],
    'routing.fc2.weight': [3, 8],
    'routing.fc2.bias': [3],
    'routing.temperature': [],
  })
  expect(Object.keys(shapes({ ratio: 0, bias: false }))).toEqual(['bases', 'routing.fc2.weight', 'routing.fc2.bias', 'routing.temperature'])
  expect(shapes({ groups: 2, kernelSize: [3, 1] }).bases).toEqual([4, 4, 3, 3, 1])
})

test('a stem with 3 channels keeps a routing of 4', () => {
  expect(new DynamicConv2d({ ...base, inChannels: 3 }).state().get('routing.fc1.weight')?.shape).toEqual([4, 3])
})

test.each<RoutingKind>(['softmax', 'renorm'])('%s mixtures sum to 1, and start uniform', (kind) => {
  const pi = run(new Routing({ inChannels: 6, numBases: 4, kind }), [3, 6, 5, 5])
  for (let b = 0; b < 3; b++) {
    const row = pi.subarray(b * 4, b * 4 + 4)
    expect(row.reduce((a, x) => a + x)).toBeCloseTo(1, 12)
    for (const x of row) expect(Math.abs(x - 0.25)).toBeLessThan(0.02)
  }
})

test('renormalised sigmoids of far-negative logits stay finite', () => {
  const routing = new Routing({ inChannels: 2, numBases: 2, kind: 'renorm', ratio: 0, temperature: 1e-6 })
  if (routing.fc2.bias) routing.fc2.bias.data = { dtype: 'float32', shape: [2], data: Float32Array.of(-9, -9) }
  expect([...run(routing, [1, 2, 1, 1])]).toEqual([0, 0])
})

test('a high temperature flattens the mixture', () => {
  const spread = (temperature: number): number => {
    const routing = new Routing({ inChannels: 6, numBases: 4, temperature })
    routing.fc2.weight.data = { dtype: 'float32', shape: [4, 4], data: Float32Array.from({ length: 16 }, (_, i) => i) }
    const pi = run(routing, [1, 6, 4, 4])
    return Math.max(...pi) - Math.min(...pi)
  }
  expect(spread(1)).toBeGreaterThan(2 * spread(30))
})

test.each<RoutingNorm>(['layer', 'group', 'batch'])('the routing takes a %s norm', (norm) => {
  const routing = new Routing({ inChannels: 32, numBases: 4, norm })
  expect(run(routing, [3, 32, 2, 2]).every(Number.isFinite)).toBe(true)
  expect(routing.state().has('norm.weight')).toBe(true)
})

test.each([6, 16, 24, 32, 64])('a group norm over %i channels lets the mixture depend on the sample', (inChannels) => {
  const routing = new Routing({ inChannels, numBases: 4, norm: 'group', temperature: 0.01 })
  const pi = run(routing, [3, inChannels, 2, 2])
  const [first, second] = [pi.subarray(0, 4), pi.subarray(4, 8)]
  expect(Math.max(...first.map((x, k) => Math.abs(x - (second[k] ?? 0))))).toBeGreaterThan(0.05)
})

test('a group norm has 8 groups at most, of 4 channels at least', () => {
  const groups = (hidden: number): number | undefined => {
    const { norm } = new Routing({ inChannels: 4 * hidden, numBases: 2, norm: 'group' })
    return norm instanceof GroupNorm ? norm.groups : undefined
  }
  expect([4, 6, 7, 8, 12, 16, 32, 128].map(groups)).toEqual([1, 1, 1, 2, 3, 4, 8, 8])
})

test('with a uniform mixture the layer is one convolution with the mean of its bases', () => {
  for (const options of [{}, { stride: 2, groups: 2 }, { padding: [0, 1, 2, 0], dilation: 2, bias: false }] as const) {
    const layer = new DynamicConv2d({ ...base, ...options })
    layer.routing.fc2.weight.data = zeros([4, 4])
    const kernels = [...run(layer, [2, 6, 7, 6])]
    const plain = new Conv2d({ ...base, ...options })
    plain.weight.data = mean(layer.bases.data)
    if (plain.bias && layer.bias) plain.bias.data = mean(layer.bias.data)
    const expected = run(plain, [2, 6, 7, 6])
    kernels.forEach((y, i) => expect(y).toBeCloseTo(expected[i] ?? Number.NaN, 5))
  }
})

// Over the first axis.
function mean(t: HostTensor): HostTensor {
  const [k = 1, ...rest] = t.shape
  const n = t.data.length / k
  return tensor(Array.from({ length: n }, (_, i) => Array.from({ length: k }, (_, b) => t.data[b * n + i] ?? 0).reduce((x, y) => x + y) / k), rest)
}

test('options out of range are refused', () => {
  expect(() => new DynamicConv2d({ ...base, groups: 4 })).toThrow('DynamicConv2d: groups=4 must divide inChannels=6')
  expect(() => new DynamicConv2d({ ...base, numBases: 0 })).toThrow('numBases must be a positive integer, got 0')
  expect(() => new DynamicConv2d({ ...base, temperature: 0 })).toThrow('temperature must be positive, got 0')
  expect(() => new DynamicConv2d({ ...base, kernelSize: 0 })).toThrow('DynamicConv2d: kernelSize[0]=0 must be an integer >= 1')
  expect(() => new DynamicConv2d({ ...base, stride: [1, 0] })).toThrow('DynamicConv2d: stride[1]=0 must be an integer >= 1')
  expect(() => new DynamicConv2d({ ...base, padding: -1 })).toThrow('DynamicConv2d: padding[0]=-1 must be an integer >= 0')
  expect(() => new DynamicConv2d({ ...base, padding: 'same', stride: 2 })).toThrow("DynamicConv2d: padding 'same' needs stride 1")
  expect(() => new DynamicConv2d({ ...base, ratio: -1 })).toThrow('ratio must be 0 or more, got -1')
})

test('images with other channels are refused by the layer that they came to', () => {
  const layer = new DynamicConv2d(base)
  expect(() => traceModule(layer, { inputs: [{ shape: ['N', 5, 8, 8] }] })).toThrow('Routing: expected [B, 6, H, W] for inChannels=6, got [N, 5, 8, 8]')
})

test('annealing is linear, then constant, and reaches every routing', () => {
  const tau = anneal(30, 1, 10)
  expect([tau(0), tau(5), tau(10), tau(11)]).toEqual([30, 15.5, 1, 1])
  const state = temperatureState(new DynamicConv2d(base), 15)
  expect([...state.keys()]).toEqual(['routing.temperature'])
  expect(state.get('routing.temperature')?.data[0]).toBe(15)
})
