// A kernel for every sample, mixed in pieces of output channels: against the plain layout, forward and backward.

import { conv2d, dynamicConv2d, gradients, type Tensor, toRef } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { OnnxBackend, plainLayouts } from '../backend.ts'
import type { Engine } from '../session.ts'
import { startBlocked } from '../testing/blocked.ts'
import { compare, graphOf, randn } from '../testing/compare.ts'
import { channelsTogether, partsFor, samplesTogether } from './convPerSample.ts'
import { layoutsOf } from './layouts.ts'
import type { Nchwc } from './nchwc.ts'
import { type ConvCase, convCase } from './support.ts'

let engine: Engine
let backend: OnnxBackend
let nchwc: Nchwc
beforeAll(async () => {
  ;({ engine, backend, nchwc } = await startBlocked())
})
afterAll(() => backend.dispose())

const attrs = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 } as const
const caseOf = (batch: number, channels: number, size: number, groups = 1): ConvCase =>
  convCase({ ...attrs, groups }, [batch, channels, size, size], [channels, channels / groups, 3, 3], [batch, channels, size, size])

test('large kernels over small images are mixed in pieces of as many channels as the engine takes together', () => {
  const read = (c: ConvCase) => channelsTogether(c, { count: 4, onlyRead: true }, 16)
  expect(read(caseOf(8, 512, 7))).toBe(64)
  expect(channelsTogether(caseOf(8, 512, 7), { count: 4, onlyRead: true }, 8)).toBe(32)
  // One piece, too small, too few samples, groups, larger results than kernels.
  expect(read(caseOf(64, 64, 8))).toBe(64)
  expect(read(caseOf(8, 128, 7))).toBe(128)
  expect(read(caseOf(1, 512, 7))).toBe(512)
  expect(read(caseOf(64, 512, 7, 2))).toBe(512)
  expect(read(caseOf(64, 128, 56))).toBe(128)
  // Bases that change must be cut in every run.
  const changing = (batch: number) => channelsTogether(caseOf(batch, 512, 7), { count: 4, onlyRead: false }, 16)
  expect(changing(8)).toBe(512)
  expect(changing(16)).toBe(64)
})

test('a piece of a large batch has the kernels of some samples only', () => {
  expect(samplesTogether(caseOf(8, 512, 7), 64)).toBe(8)
  expect(samplesTogether(caseOf(64, 512, 4), 64)).toBe(8)
  expect(samplesTogether(caseOf(64, 256, 4), 64)).toBe(16)
  expect(samplesTogether(caseOf(24, 512, 4), 64)).toBe(12)
  // Not cut into halves of four samples; nor where all channels are mixed together.
  expect(samplesTogether(caseOf(17, 512, 4), 64)).toBe(17)
  expect(samplesTogether(caseOf(64, 512, 4), 512)).toBe(64)
})

test('each thread has parts of its own, where there is enough for each', () => {
  expect([1, 2, 4, 8, 3, 6].map((threads) => partsFor(threads, 4))).toEqual([1, 2, 4, 4, 1, 2])
  expect([1, 2, 4, 8, 16].map((threads) => partsFor(threads, 16, 4))).toEqual([1, 2, 4, 4, 4])
  expect([1, 2, 3, 7, 9, 12].map((batch) => partsFor(2, batch, 4))).toEqual([1, 1, 1, 1, 1, 2])
})

const [channels, numBases] = [256, 2]
const inputsOf = (batch: number) => [
  randn([batch, channels, 3, 3], 1),
  randn([numBases, channels, channels, 3, 3], 2),
  randn([batch, numBases], 3),
  randn([numBases, channels], 4),
  randn([channels, channels, 1, 1], 5),
]

const forward = (x: Tensor, bases: Tensor, pi: Tensor, bias: Tensor): Tensor => dynamicConv2d(x, bases, pi, { padding: 1, bias, form: 'kernels' })
type Rest = readonly [bases: Tensor, pi: Tensor, bias: Tensor, weight: Tensor]

type Case = (x: Tensor, ...rest: Rest) => readonly Tensor[]

test.each<{ readonly name: string; readonly fn: Case; readonly batch?: number; readonly threads?: number }>([
  { name: 'alone', fn: (x: Tensor, ...[bases, pi, bias]: Rest) => [forward(x, bases, pi, bias)] },
  { name: 'with an activation', fn: (x: Tensor, ...[bases, pi, bias]: Rest) => [forward(x, bases, pi, bias).relu()] },
  { name: 'with a sum and an activation', fn: (x: Tensor, ...[bases, pi, bias, weight]: Rest) => [forward(x, bases, pi, bias).add(conv2d(x, weight)).relu()] },
  { name: 'some samples at a time', batch: 32, fn: (x: Tensor, ...[bases, pi, bias, weight]: Rest) => [forward(x, bases, pi, bias).relu(), forward(x, bases, pi, bias).add(conv2d(x, weight)).relu()] },
  { name: 'for one thread', threads: 1, fn: (x: Tensor, ...[bases, pi, bias]: Rest) => [forward(x, bases, pi, bias).relu()] },
  { name: 'for four threads', threads: 4, batch: 32, fn: (x: Tensor, ...[bases, pi, bias]: Rest) => [forward(x, bases, pi, bias).relu()] },
  { name: 'backward', fn: (x: Tensor, ...[bases, pi, bias]: Rest) => gradients(forward(x, bases, pi, bias).square().sum(), [x, bases, pi]) },
])('mixed in pieces, agrees with the plain layout: $name', async ({ fn, batch = 8, threads }) => {
  const inputs = inputsOf(batch)
  const plain = new OnnxBackend(engine, plainLayouts, {})
  const graph = graphOf(fn, inputs)
  const other = threads === undefined ? undefined : new OnnxBackend(engine, layoutsOf(nchwc, threads), {})
  const [blocked, direct] = [await (other ?? backend).compile(graph), await plain.compile(graph)]
  try {
    expect(blocked.explain()).toContain(`mixed ${4 * nchwc.block} channels of ${samplesTogether(caseOf(batch, channels, 3), 4 * nchwc.block)} samples at a time`)
    const [got, want] = [await blocked.run(inputs), await direct.run(inputs)]
    expect(got).not.toHaveLength(0)
    got.forEach((t, i) => {
      const reference = want[i]
      expect(reference && compare(t, toRef(reference), 8 * (9 * channels + batch * 9))).toBeUndefined()
    })
  } finally {
    blocked.dispose()
    direct.dispose()
    await plain.dispose()
    await other?.dispose()
  }
})
