import { Conv2d, cost, DynamicConv2d, type Module, referenceBackend, compile, tensor, traceModule } from '@dynconv/core'
import { expect, test } from 'vitest'
import { dynamic, mobilenetV2, roundChannels } from './index.ts'

function count(net: Module): number {
  return [...net.namedParameters().values()].reduce((n, p) => n + p.data.data.length, 0)
}

function macs(net: Module, size: number): number {
  return cost(traceModule(net, { inputs: [{ shape: [1, 3, size, size] }] }).graph).macs
}

// torchvision's counts.
test('parameters and multiply-adds of the published network', () => {
  const net = mobilenetV2({ classes: 1000 })
  expect(count(net)).toBe(3_504_872)
  expect(macs(net, 224)).toBe(300_774_272)
  expect(count(mobilenetV2({ classes: 10 }))).toBe(2_236_682)
})

test('names are those of torchvision, in the order of the network', () => {
  const names = [...mobilenetV2({ classes: 10 }).namedParameters().keys()]
  expect(names.slice(0, 4)).toEqual(['features.0.0.weight', 'features.0.1.weight', 'features.0.1.bias', 'features.1.conv.0.0.weight'])
  expect(names).toContain('features.2.conv.3.bias')
  expect(names).toContain('features.17.conv.1.1.weight')
  expect(names.slice(-3)).toEqual(['features.18.1.bias', 'classifier.1.weight', 'classifier.1.bias'])
})

test('the convolutions of the blocks are dynamic, and have as many parameters as in the article', () => {
  const net = mobilenetV2({ classes: 1000, conv: dynamic({ numBases: 4 }) })
  const modules = [...net.namedModules()]
  expect(modules.filter(([, m]) => m instanceof Conv2d).map(([name]) => name)).toEqual(['features.0.0', 'features.18.0'])
  expect(modules.filter(([, m]) => m instanceof DynamicConv2d)).toHaveLength(50)
  // arXiv:1912.03458: 11.1 M.
  expect((count(net) / 1e6).toFixed(1)).toBe('11.1')
})

test('a rule chooses the dynamic ones', () => {
  const net = mobilenetV2({ classes: 10, conv: dynamic({ where: (options, site) => site.role === 'depthwise' && options.groups === options.inChannels }) })
  expect([...net.namedModules()].filter(([, m]) => m instanceof DynamicConv2d).map(([name]) => name).every((name) => name.endsWith('.0'))).toBe(true)
  expect([...net.namedModules().values()].filter((m) => m instanceof DynamicConv2d)).toHaveLength(17)
})

test('the width multiplier rounds to multiples of 8, never down by more than a tenth', () => {
  expect([32, 16 * 0.35, 24 * 0.35, 24 * 0.75, 1280].map(roundChannels)).toEqual([32, 8, 8, 24, 1280])
  expect(roundChannels(11.2)).toBe(16)
  expect(count(mobilenetV2({ classes: 1000, width: 0.5 }))).toBe(1_968_680)
})

test('small images keep their size longer', async () => {
  const net = mobilenetV2({ classes: 10, width: 0.25, stem: 'cifar' })
  const compiled = await compile(net, { backend: referenceBackend(), inputs: [{ shape: [1, 3, 8, 8] }] })
  const [logits] = await compiled.run([tensor(Array.from({ length: 192 }, (_, i) => Math.sin(i)), [1, 3, 8, 8])])
  expect(logits?.shape).toEqual([1, 10])
  expect(logits?.data.every(Number.isFinite)).toBe(true)
})

test('a width that is not positive is refused', () => {
  expect(() => mobilenetV2({ classes: 10, width: 0 })).toThrow('MobileNetV2: width must be a positive number, got 0')
})
