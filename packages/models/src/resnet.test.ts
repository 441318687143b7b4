import { cost, type Module, traceModule } from '@dynconv/core'
import { expect, test } from 'vitest'
import { dynamic, resnet, resnet8, resnet18, resnet20 } from './index.ts'

function count(net: Module): number {
  return [...net.namedParameters().values()].reduce((n, p) => n + p.data.data.length, 0)
}

// Published counts, with the projection shortcuts' 1x1 convolutions and norms.
test('parameters of the named networks', () => {
  expect(count(resnet18({ classes: 10 }))).toBe(11_173_962)
  expect(count(resnet18({ classes: 1000, stem: 'imagenet' }))).toBe(11_689_512)
  expect(count(resnet20({ classes: 10 }))).toBe(272_474)
})

test('names are those of torchvision, in the order of the network', () => {
  const names = [...resnet18({ classes: 10 }).namedParameters().keys()]
  expect(names[0]).toBe('conv1.weight')
  expect(names).toContain('layer2.0.downsample.0.weight')
  expect(names).toContain('layer4.1.bn2.bias')
  expect(names.at(-1)).toBe('fc.bias')
})

test('a dynamic factory makes the 3x3 convolutions of blocks dynamic, and only those', () => {
  const names = [...resnet8({ classes: 10, conv: dynamic({ numBases: 4 }) }).namedParameters().keys()]
  expect(names.filter((n) => n.endsWith('.bases'))).toEqual([1, 2, 3].flatMap((s) => [1, 2].map((c) => `layer${s}.0.conv${c}.bases`)))
  expect(names).toContain('conv1.weight')
  expect(names).toContain('layer2.0.downsample.0.weight')
})

test('multiply-adds of ResNet-20 on one 32x32 image', () => {
  // 40.55 M of the 3x3 convolutions, 0.26 M of the projections, 640 of the classifier.
  const { graph } = traceModule(resnet20({ classes: 10 }), { inputs: [{ shape: [1, 3, 32, 32] }] })
  const stem = 32 * 32 * 16 * 27
  const stage1 = 6 * 32 * 32 * 16 * 16 * 9
  const stage2 = 16 * 16 * 32 * (16 * 9 + 5 * 32 * 9 + 16)
  const stage3 = 8 * 8 * 64 * (32 * 9 + 5 * 64 * 9 + 32)
  expect(cost(graph).macs).toBe(stem + stage1 + stage2 + stage3 + 640)
})

test('one seed, one network; another seed, another', () => {
  const build = (seed: number): Float32Array => resnet8({ classes: 10, seed }).fc.weight.data.data as Float32Array
  expect(build(1)).toEqual(build(1))
  expect(build(1)).not.toEqual(build(2))
})

test('widths and blocks must be of one length', () => {
  expect(() => resnet({ classes: 10, widths: [16, 32], blocks: [1] })).toThrow('widths [16, 32] and blocks [1] must be of one length')
})
