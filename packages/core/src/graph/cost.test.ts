import { expect, test } from 'vitest'
import { GraphBuilder } from './builder.ts'
import { cost } from './cost.ts'
import { trace } from './trace.ts'
import { conv2d } from '../ops/conv.ts'
import { dynamicConv2d } from '../ops/dynamicConv.ts'
import { ops } from '../ops/table.ts'
import { tensor } from '../tensor/hostTensor.ts'

test('parameters are the states of that kind; buffers and moments are none', () => {
  const b = new GraphBuilder(ops)
  b.readState('w', 'parameter', 'float32', [4, 3])
  b.readState('b', 'parameter', 'float32', [])
  b.readState('mean', 'buffer', 'float32', [100])
  b.readState('moment', 'optimizer', 'float32', [4, 3])
  expect(cost(b.build())).toEqual({ parameters: 13, macs: 0, bytes: 0, peakActivationBytes: 0, perNode: [] })
})

test('multiply-adds and bytes, node by node', () => {
  const { graph } = trace((x, w, m) => conv2d(x, w, { padding: 1 }).reshape([2, 64]).matmul(m), {
    inputs: [{ shape: [2, 3, 4, 4] }, { shape: [4, 3, 3, 3] }, { shape: [64, 5] }],
  })
  const [x, w, y, m, z] = [96, 108, 128, 320, 10].map((n) => n * 4)
  const total = cost(graph)
  expect(total.perNode).toEqual([
    { op: 'conv2d', macs: 128 * 27, bytes: (x ?? 0) + (w ?? 0) + (y ?? 0) },
    { op: 'reshape', macs: 0, bytes: 2 * (y ?? 0) },
    { op: 'matmul', macs: 2 * 64 * 5, bytes: (y ?? 0) + (m ?? 0) + (z ?? 0) },
  ])
  expect([total.macs, total.bytes]).toEqual([128 * 27 + 640, total.perNode.reduce((sum, n) => sum + n.bytes, 0)])
})

test('dynamic convolutions are counted by their form', () => {
  const macs = (form: 'kernels' | 'outputs'): number =>
    cost(trace((x, bases, pi) => dynamicConv2d(x, bases, pi, { form }), { inputs: [{ shape: [2, 3, 5, 5] }, { shape: [4, 6, 3, 3, 3] }, { shape: [2, 4] }] }).graph).macs
  const [n, p] = [6 * 27, 9]
  expect(macs('kernels')).toBe(2 * 4 * n + 2 * n * p)
  expect(macs('outputs')).toBe(2 * 4 * n * p + 2 * 4 * 6 * p)
})

test('the peak counts what is alive at once, each dtype by its size', () => {
  const bytes = (fn: Parameters<typeof trace>[0]): number => cost(trace(fn, { inputs: [{ shape: [100] }] }).graph).peakActivationBytes
  // In and out side by side; the input is the caller's.
  expect(bytes((x) => x.exp())).toBe(400)
  expect(bytes((x) => x.exp().exp().exp().exp())).toBe(800)
  // The first value waits for the last node.
  expect(bytes((x) => { const a = x.exp(); return a.exp().exp().add(a) })).toBe(1200)
  // An output stays to the end.
  expect(bytes((x) => { const a = x.exp(); return [a, a.exp().exp()] })).toBe(1200)
  // What nothing reads dies at once; constants belong to the program.
  expect(bytes((x) => { x.exp(); x.tanh(); return x.neg() })).toBe(400)
  expect(bytes((x) => x.mul(x.constant(tensor(new Float32Array(100)))))).toBe(400)
  expect(bytes((x) => x.greater(0).cast('float16'))).toBe(300)
  expect(bytes((x) => x)).toBe(0)
})

test('unknown sizes are refused', () => {
  expect(() => cost(trace((x) => x.exp(), { inputs: [{ shape: ['N'] }] }).graph)).toThrow('cost: exp: shape [N] has unknown sizes; specialise the graph first')
})
