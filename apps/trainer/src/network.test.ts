import { cost, type Module, referenceBackend, traceModule } from '@dynconv/core'
import { expect, test } from 'vitest'
import { checkConfig } from './config.ts'
import { buildNetwork, hasRouting, networkCost } from './network.ts'

const facts = { classes: ['a', 'b'], channels: 3, height: 8, width: 8 }
const backend = referenceBackend()
const network = (values: { readonly [name: string]: unknown }): Module => buildNetwork(checkConfig({ width: 4, ...values }), facts)

test('the layers of an ordinary network add up to the whole', () => {
  const net = network({ bases: 1 })
  const { layers, parameters, macs } = networkCost(net, facts, backend)
  expect(parameters).toBe([...net.namedParameters().values()].reduce((n, p) => n + p.data.data.length, 0))
  expect(macs).toBe(cost(traceModule(net, { inputs: [{ shape: [1, 3, 8, 8] }] }).graph).macs)
  // 3x3 from 3 to 4 channels at 8x8; 4x4 from 8 to 16 with stride 2; 16 to 2 classes.
  const by = new Map(layers.map((layer) => [layer.name, layer]))
  expect(by.get('conv1')).toMatchObject({ kind: 'Conv2d', parameters: 108, macs: 8 * 8 * 4 * 27 })
  expect(by.get('layer3.0.conv1')).toMatchObject({ macs: 2 * 2 * 16 * 8 * 9, form: undefined })
  expect(by.get('fc')).toMatchObject({ kind: 'Linear', parameters: 34, macs: 32 })
  expect(layers.every((layer) => layer.name !== '')).toBe(true)
  expect(hasRouting(net)).toBe(false)
})

test('dynamic layers have their form; multiply-adds are per image', () => {
  const net = network({ bases: 4 })
  const one = networkCost(net, facts, backend)
  const eight = networkCost(net, facts, backend, 8)
  const formed = one.layers.filter((layer) => layer.form)
  expect(formed.map((layer) => layer.name)).toEqual([1, 2, 3].flatMap((s) => [1, 2].map((c) => `layer${s}.0.conv${c}`)))
  for (const { kind, reason } of formed) expect([kind, reason?.includes('multiply-adds')]).toEqual(['DynamicConv2d', true])
  // In form "kernels": the convolution, and 4 bases of N weights mixed for each image.
  expect(formed[0]).toMatchObject({ form: 'kernels', macs: 8 * 8 * 4 * 36 + 4 * 4 * 36 })
  expect(eight.batch).toBe(8)
  expect(eight.macs).toBe(one.macs)
  expect(hasRouting(net)).toBe(true)
})

test('the seed and the first temperature are in the network', () => {
  const state = network({ bases: 2, temperature: '30:1:10' }).state()
  expect(state.get('layer2.0.conv1.routing.temperature')?.data[0]).toBe(30)
  expect(network({ seed: 2 }).state()).not.toEqual(network({ seed: 1 }).state())
  expect(network({ seed: 2 }).state()).toEqual(network({ seed: 2 }).state())
})

test('large images are shrunk by the first layers, small ones are not', () => {
  const names = (side: number, model: string): number => {
    const input = { ...facts, height: side, width: side }
    const net = buildNetwork(checkConfig({ width: 8, model, bases: 1 }), input)
    return traceModule(net, { inputs: [{ shape: [1, 3, side, side] }] }).graph.nodes.filter((node) => node.op === 'maxPool2d').length
  }
  expect([names(64, 'resnet18'), names(65, 'resnet18')]).toEqual([0, 1])
  const mobile = (side: number): number => {
    const input = { ...facts, height: side, width: side }
    const { graph } = traceModule(buildNetwork(checkConfig({ width: 8, model: 'mobilenetv2', bases: 1 }), input), { inputs: [{ shape: [1, 3, side, side] }] })
    return Math.min(...graph.nodes.flatMap((node) => (node.op === 'conv2d' ? [Number(graph.values[node.outputs[0] ?? 0]?.shape[2])] : [])))
  }
  expect([mobile(64), mobile(96)]).toEqual([8, 3])
})
