// The Winograd form against the float64 oracle, forward and backward: even and odd sizes, one chunk and several.

import { conv2d, gradients, type Tensor, toRef } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { OnnxBackend, plainLayouts } from '../backend.ts'
import { type Engine, loadEngine } from '../session.ts'
import { compare, difference, graphOf, randn } from '../testing/compare.ts'
import { layoutsOf } from './layouts.ts'
import { probeNchwc } from './probe.ts'
import { type ConvCase, convCase } from './support.ts'
import { suitsWinogradConv } from './winogradConv.ts'

let engine: Engine
let backend: OnnxBackend
beforeAll(async () => {
  engine = await loadEngine(1)
  const nchwc = await probeNchwc(engine)
  if (!nchwc) throw new Error('this engine has no blocked layout; these tests need one')
  backend = new OnnxBackend(engine, layoutsOf(nchwc), {})
})
afterAll(() => backend.dispose())

const attrs = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 } as const
const caseOf = (batch: number, channels: number, height: number, width: number, other: Partial<typeof attrs> = {}): ConvCase =>
  convCase({ ...attrs, ...other }, [batch, channels, height, width], [channels, channels, 3, 3], [batch, channels, height, width])

test('which convolutions take the form', () => {
  expect(suitsWinogradConv(caseOf(24, 256, 4, 4))).toBe(true)
  expect(suitsWinogradConv(caseOf(16, 512, 7, 7))).toBe(true)
  expect(suitsWinogradConv(caseOf(8, 512, 7, 7))).toBe(false)
  expect(suitsWinogradConv(caseOf(16, 512, 4, 4))).toBe(false)
  expect(suitsWinogradConv(caseOf(24, 128, 32, 32))).toBe(false)
  expect(suitsWinogradConv({ ...caseOf(24, 256, 4, 4), groups: 2 })).toBe(false)
  expect(suitsWinogradConv(convCase(attrs, [24, 256, 8, 8], [256, 256, 1, 1], [24, 256, 8, 8]))).toBe(false)
})

const fn = (x: Tensor, w: Tensor, bias: Tensor): readonly Tensor[] => {
  const y = conv2d(x, w, { padding: 1, bias }).add(x).relu()
  return [y, ...gradients(y.mul(y).sum(), [x, w])]
}
const channels = 256
const inputsOf = (batch: number, size: readonly [number, number]) => [randn([batch, channels, ...size], 1), randn([channels, channels, 3, 3], 2), randn([channels], 3)]

// The oracle would take a minute here.
test('several chunks agree with the plain layout', async () => {
  const plain = new OnnxBackend(engine, plainLayouts, {})
  const inputs = inputsOf(17, [16, 16])
  const graph = graphOf(fn, inputs)
  const [blocked, direct] = [await backend.compile(graph), await plain.compile(graph)]
  try {
    const [got, want] = [await blocked.run(inputs), await direct.run(inputs)]
    got.forEach((t, i) => {
      const reference = want[i]
      expect(reference && compare(t, toRef(reference), 16 * (9 * channels + 17 * 16 * 16))).toBeUndefined()
    })
  } finally {
    blocked.dispose()
    await plain.dispose()
  }
})

test.each([
  { name: 'even', batch: 24, size: [4, 4] },
  { name: 'odd', batch: 16, size: [5, 3] },
] as const)('agrees with the oracle: $name', async ({ batch, size }) => {
  const inputs = inputsOf(batch, size)
  // Twice the roundings of the direct sums: the transforms add and subtract once more on each side.
  expect(await difference(backend, { name: 'winograd', fn, inputs, roundings: 16 * (9 * channels + batch * size[0] * size[1]) })).toBeUndefined()
})
