import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { batchNorm } from '../ops/norm.ts'
import { tensor } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { attrsKey, cse } from './cse.ts'

const merged = (fn: (x: Tensor, y: Tensor) => Tensor | readonly Tensor[]): readonly string[] =>
  cse(trace(fn, { inputs: [{ shape: [2, 2] }, { shape: [2, 2] }] }).graph).nodes.map((n) => n.op)

test('equal nodes are one, and so is what they feed', () => {
  expect(merged((x) => x.tanh().exp().add(x.tanh().exp()))).toEqual(['tanh', 'exp', 'add'])
})

test('other inputs, another order or other attributes are another node', () => {
  expect(merged((x, y) => [x.sub(y), y.sub(x), x.sum([0]), x.sum([1]), x.clamp(0, 1), x.clamp(-0, 1)])).toHaveLength(6)
})

test('sums and products are the same either way round', () => {
  expect(merged((x, y) => [x.add(y), y.add(x), x.mul(y), y.mul(x), x.min(y), y.min(x)])).toEqual(['add', 'mul', 'min', 'min'])
})

test('constants are compared by content, type and shape', () => {
  const constants = merged((x) =>
    [tensor([1, 2]), tensor([1, 2]), tensor([1, 3]), tensor([1, 2], [2, 1]), tensor([1, 2], [2], 'int32'), tensor([0]), tensor([-0]), tensor([Number.NaN]), tensor([Number.NaN])].map((t) => x.constant(t)),
  )
  expect(constants).toHaveLength(7)
})

test('a constant may be a view into a larger buffer', () => {
  const buffer = new Float32Array([9, 1, 2, 9])
  expect(merged((x) => [x.constant(tensor([1, 2])), x.constant({ dtype: 'float32', shape: [2], data: buffer.subarray(1, 3) })])).toHaveLength(1)
})

test('all outputs of a node are merged', () => {
  const graph = cse(
    trace((x, g) => batchNorm(x, g, g).slice(0, 2).concat(batchNorm(x, g, g).slice(1)), { inputs: [{ shape: [2, 2] }, { shape: [2] }] }).graph,
  )
  expect(graph.nodes).toHaveLength(1)
  expect(graph.outputs.map((o) => o.value)).toEqual([2, 3, 3, 4])
})

test('attribute texts tell numbers apart and ignore the order of keys', () => {
  expect(attrsKey({ a: 1, b: [0, -0] })).toBe(attrsKey({ b: [0, -0], a: 1 }))
  expect(attrsKey([0])).not.toBe(attrsKey([-0]))
  expect(attrsKey(Number.NaN)).not.toBe(attrsKey(null))
  expect(attrsKey('1')).not.toBe(attrsKey(1))
})
