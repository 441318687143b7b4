import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { GraphBuilder } from '../graph/builder.ts'
import type { Graph } from '../graph/graph.ts'
import type { DynamicConvForm } from '../ops/attrs.ts'
import { dynamicConv2d } from '../ops/dynamicConv.ts'
import { ops } from '../ops/table.ts'
import type { Dim } from '../tensor/shape.ts'
import { type DynamicConvLayer, type FormChoice, formatChoices, planDynamicConv, type PlanOptions } from './planDynamicConv.ts'

interface LayerOptions {
  readonly batch?: Dim
  readonly channels?: number
  readonly pixels?: number
  readonly numBases?: number
  readonly form?: DynamicConvForm
  readonly dtype?: 'float32' | 'float16'
}

// A layer of `channels` to `channels`, 3x3, and its gradients.
function layer({ batch = 8, channels = 16, pixels = 8, numBases = 4, form = 'auto', dtype = 'float32' }: LayerOptions): Graph {
  const b = new GraphBuilder(ops)
  const x = b.input('x', dtype, [batch, channels, pixels, pixels])
  const pi = b.input('pi', dtype, [batch, numBases])
  const bases = b.readState('conv.bases', 'parameter', 'float32', [numBases, channels, channels, 3, 3])
  const used = bases.cast(dtype)
  const y = dynamicConv2d(x, used, pi, { padding: 1, form })
  gradients(y.sum(), [x, used, pi]).forEach((g, i) => b.output(`g${i}`, g))
  b.output('y', y)
  return b.build()
}

const plan = (options: LayerOptions, how?: PlanOptions): readonly FormChoice[] => planDynamicConv(layer(options), how).choices

test('every dynamic node gets a form, and says which state its bases come from', () => {
  const { graph, choices } = planDynamicConv(layer({}))
  expect(choices.map((c) => [c.op, c.bases, graph.nodes[c.node]?.op])).toEqual([
    ['dynamicConv2d', 'conv.bases', 'dynamicConv2d'],
    ['dynamicConv2dInputGrad', 'conv.bases', 'dynamicConv2dInputGrad'],
    ['dynamicConv2dKernelGrad', 'conv.bases', 'dynamicConv2dKernelGrad'],
  ])
  expect(choices.map((c) => graph.nodes[c.node]?.attrs)).toMatchObject(choices.map(({ form }) => ({ form })))
  expect(planDynamicConv(layer({ dtype: 'float16' })).choices[0]?.bases).toBe('conv.bases')
})

test('the default weighs multiply-adds by the formulas of the design, and bytes', () => {
  const [forward] = plan({})
  // B=8, K=4, n=16*16*9=2304, P=64, O=16.
  const [kernels, outputs] = [8 * 4 * 2304 + 8 * 2304 * 64, 8 * 4 * 2304 * 64 + 8 * 4 * 16 * 64]
  expect(forward?.layer).toMatchObject({ batch: 8, numBases: 4, inChannels: 16, outChannels: 16, kernelSize: [3, 3], inputSize: [8, 8], outputSize: [8, 8], groups: 1 })
  expect(forward?.layer?.macs).toEqual({ kernels, outputs })
  expect(forward?.layer?.extraBytes).toEqual({ kernels: 2 * 8 * 2304 * 4, outputs: 2 * 8 * 4 * 16 * 64 * 4 })
  expect(forward?.costs).toEqual({ kernels: kernels + 4 * (2 * 8 * 2304 * 4), outputs: outputs + 4 * (2 * 8 * 4 * 16 * 64 * 4) })
  expect(forward?.form).toBe('kernels')
})

test('one pixel and many channels are cheaper by outputs', () => {
  expect(plan({ channels: 64, pixels: 1, numBases: 2 }).map((c) => c.form)).toEqual(['outputs', 'outputs', 'outputs'])
  expect(plan({ channels: 64, pixels: 16, numBases: 2 }).map((c) => c.form)).toEqual(['kernels', 'kernels', 'kernels'])
})

test('a backend may bring its own costs', () => {
  const seen: DynamicConvLayer[] = []
  const estimate = (l: DynamicConvLayer, form: 'kernels' | 'outputs'): number => {
    seen.push(l)
    return form === 'kernels' ? Number.POSITIVE_INFINITY : 3.2e-5
  }
  const choices = plan({ dtype: 'float16' }, { cost: { unit: 'seconds', estimate } })
  expect(choices.map((c) => c.form)).toEqual(['outputs', 'outputs', 'outputs'])
  expect(choices[0]?.reason).toBe('kernels Infinity, outputs 3.2e-5 seconds')
  expect(seen.map((l) => l.dtype)).toEqual(Array.from({ length: 6 }, () => 'float16'))
  expect(seen[0]?.extraBytes.kernels).toBe(2 * 8 * 2304 * 2)
})

test('a form that was asked for stays', () => {
  const choices = plan({ form: 'outputs', pixels: 16 })
  expect(choices.map((c) => [c.form, c.reason, c.costs])).toEqual(choices.map(() => ['outputs', 'asked for', undefined]))
})

test('an unknown or an empty batch takes outputs', () => {
  expect(plan({ batch: 'N' }).map((c) => [c.form, c.reason, c.layer])).toEqual(
    Array.from({ length: 3 }, () => ['outputs', 'the batch is not known, which form kernels needs', undefined]),
  )
  expect(plan({ batch: 'N', form: 'kernels' }).map((c) => c.form)).toEqual(['outputs', 'outputs', 'outputs'])
  expect(plan({ batch: 0 }).map((c) => [c.form, c.reason])).toEqual(Array.from({ length: 3 }, () => ['outputs', 'the batch is empty']))
})

test('kernel gradients stream in chunks that fit the budget', () => {
  const perSample = 2304 * 4
  const chunk = (memoryBudgetBytes: number | undefined, options: LayerOptions = { form: 'kernels' }): number | undefined => plan(options, { memoryBudgetBytes }).at(-1)?.chunk
  expect(chunk(undefined)).toBe(0)
  expect(chunk(8 * perSample)).toBe(0)
  expect(chunk(8 * perSample - 1)).toBe(7)
  expect(chunk(3.5 * perSample)).toBe(3)
  expect(chunk(1)).toBe(1)
  expect(chunk(3.5 * perSample, { form: 'kernels', dtype: 'float16' })).toBe(7)
  expect(chunk(1, { form: 'outputs' })).toBe(0)
  // 128 samples of 512x512x3x3 in float32 are 1.2 GB.
  expect(chunk(undefined, { batch: 128, channels: 512, pixels: 7 })).toBe(Math.floor(256 * 2 ** 20 / (512 * 512 * 9 * 4)))
  const { graph } = planDynamicConv(layer({ form: 'kernels' }), { memoryBudgetBytes: 2 * perSample })
  expect(graph.nodes.find((n) => n.op === 'dynamicConv2dKernelGrad')?.attrs).toMatchObject({ form: 'kernels', chunk: 2 })
})

test('a budget that is no positive number is refused', () => {
  expect(() => plan({}, { memoryBudgetBytes: 0 })).toThrow('planDynamicConv: memoryBudgetBytes=0 must be positive')
  expect(() => plan({}, { memoryBudgetBytes: Number.NaN })).toThrow('must be positive')
})

test('choices print for people', () => {
  expect(formatChoices(plan({}, { memoryBudgetBytes: 20000 }))).toMatchInlineSnapshot(`
    "dynamicConv2d conv.bases [8, 16, 8, 8] -> 16 channels, 3x3, K=4: form kernels (kernels 1.84e+6, outputs 5.8e+6 multiply-adds (a byte counts 4))
    dynamicConv2dInputGrad conv.bases [8, 16, 8, 8] -> 16 channels, 3x3, K=4: form kernels (kernels 1.84e+6, outputs 5.8e+6 multiply-adds (a byte counts 4))
    dynamicConv2dKernelGrad conv.bases [8, 16, 8, 8] -> 16 channels, 3x3, K=4: form kernels in chunks of 2 samples (kernels 2.21e+6, outputs 1.16e+7 multiply-adds (a byte counts 4))"
  `)
  expect(formatChoices(plan({ batch: 'N' }).slice(0, 1))).toMatchInlineSnapshot(`"dynamicConv2d conv.bases: form outputs (the batch is not known, which form kernels needs)"`)
  expect(formatChoices([])).toBe('')
})
