import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { customGradient } from '../autodiff/customGradient.ts'
import { gradients } from '../autodiff/gradients.ts'
import type { RefTensor } from '../ops/define.ts'
import { concat } from '../ops/shape.ts'
import type { InputSpec } from '../graph/trace.ts'
import { worstDifference } from '../testing/compareGraphs.ts'
import type { DType } from '../tensor/dtype.ts'
import { tensor } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { dce } from './dce.ts'
import { simplify } from './simplify.ts'

// What every rule must leave alone.
const nasty = [0, -0, 1, -2.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-310]
const x: RefTensor = { shape: [2, 4], data: Float64Array.from(nasty) }
const y: RefTensor = { shape: [2, 4], data: Float64Array.from(nasty.toReversed()) }
const whole: RefTensor = { shape: [2, 4], data: Float64Array.of(0, 1, -1, 7, 2 ** 31 - 1, -(2 ** 31), 12, -3) }
const bits: RefTensor = { shape: [2, 4], data: Float64Array.of(0, 1, 1, 0, 0, 1, 0, 1) }
const values: { readonly [D in DType]: RefTensor } = { float32: x, float16: x, int32: whole, bool: bits }

// The ops that are left of `fn`; fails when anything changes, be it a zero's sign.
function left(fn: (a: Tensor, b: Tensor) => Tensor | readonly Tensor[], dtype: DType = 'float32'): readonly string[] {
  const spec: InputSpec = { shape: [2, 4], dtype }
  const { graph } = trace(fn, { inputs: [spec, spec] })
  const result = dce(simplify(graph))
  expect(worstDifference(graph, result, [values[dtype], dtype === 'float32' ? y : values[dtype]])).toBe(0)
  return result.nodes.map((n) => n.op)
}

test('sums with zero go where that is exact', () => {
  expect(left((a) => a.sub(0))).toEqual([])
  expect(left((a) => a.add(-0))).toEqual([])
  expect(left((a) => a.constant(tensor(-0)).add(a))).toEqual([])
  expect(left((a) => a.add(a.full(-0)))).toEqual([])
  expect(left((a) => a.add(0), 'int32')).toEqual([])
  expect(left((a) => a.exp().add(0))).toEqual(['exp'])
  expect(left((a) => a.greater(0).cast('float32').add(0))).toEqual(['constant', 'compare', 'cast'])
})

test('sums with zero stay where -0 would become 0, or the other way round', () => {
  expect(left((a) => a.add(0))).toEqual(['constant', 'add'])
  expect(left((a) => a.sub(-0))).toEqual(['constant', 'sub'])
  expect(left((a) => a.cast('int32').cast('float32').add(0)).at(-1)).toBe('add')
})

test('factors of 1 and -1', () => {
  expect(left((a) => a.mul(1))).toEqual([])
  expect(left((a) => a.operand(1).mul(a))).toEqual([])
  expect(left((a) => a.div(1))).toEqual([])
  expect(left((a) => a.pow(1))).toEqual([])
  expect(left((a) => a.mul(-1))).toEqual(['neg'])
  expect(left((a) => a.div(-1).neg())).toEqual([])
  expect(left((a) => a.operand(1).div(a))).toEqual(['constant', 'div'])
  expect(left((a) => a.mul(0))).toEqual(['constant', 'mul'])
})

test('a factor of 1 that makes the result larger stays', () => {
  expect(left((a) => a.mul(a.full(1, [3, 2, 4])))).toEqual(['constant', 'broadcastTo', 'mul'])
})

test('negations', () => {
  expect(left((a) => a.neg().neg())).toEqual([])
  expect(left((a, b) => a.add(b.neg()))).toEqual(['sub'])
  expect(left((a, b) => a.neg().add(b))).toEqual(['sub'])
  expect(left((a, b) => a.sub(b.neg()))).toEqual(['add'])
  expect(left((a, b) => a.sub(b).neg())).toEqual(['sub', 'neg'])
  expect(left((a) => a.neg().abs().abs())).toEqual(['abs'])
  expect(left((a) => a.neg().abs().relu(), 'int32')).toEqual(['abs', 'relu'])
})

test('what is done twice', () => {
  expect(left((a) => a.relu().relu())).toEqual(['relu'])
  expect(left((a) => a.sigmoid().relu())).toEqual(['sigmoid'])
  expect(left((a) => a.max(a).min(a))).toEqual([])
  expect(left((a) => a.clamp(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY))).toEqual([])
  expect(left((a, b) => a.less(b).select(a, a))).toEqual([])
})

test('select with a known condition', () => {
  expect(left((a, b) => a.operand(0).equal(0).select(a, b))).toEqual(['constant', 'constant', 'compare', 'select'])
  expect(left((a, b) => a.constant(tensor([1], [1], 'bool')).select(a, b))).toEqual([])
  expect(left((a, b) => a.constant(tensor([0], [1], 'bool')).select(a, b.neg()))).toEqual(['neg'])
  expect(left((a) => a.constant(tensor([0], [1], 'bool')).select(a, 2)).at(-1)).toBe('select')
})

test('casts go where the dtype between holds every value', () => {
  expect(left((a) => a.cast('float16').cast('float32'))).toEqual(['cast', 'cast'])
  expect(left((a) => a.cast('float32').cast('float16'), 'float16')).toEqual([])
  expect(left((a) => a.cast('float32').cast('int32'), 'float16')).toEqual(['cast'])
  expect(left((a) => a.cast('float32').cast('int32').cast('bool'), 'bool')).toEqual([])
  expect(left((a) => a.cast('int32').cast('float16'), 'bool')).toEqual(['cast'])
  expect(left((a) => a.cast('float32').cast('int32'), 'int32')).toEqual(['cast', 'cast'])
  expect(left((a) => a.cast('int32').cast('float16'), 'float16')).toEqual(['cast', 'cast'])
  expect(left((a) => a.cast('bool').cast('float32'))).toEqual(['cast', 'cast'])
})

test('shapes', () => {
  expect(left((a) => a.reshape([8]).reshape([2, 4]))).toEqual([])
  expect(left((a) => a.reshape([8]).reshape([4, 2]))).toEqual(['reshape'])
  expect(left((a) => a.transpose().transpose())).toEqual([])
  expect(left((a) => a.reshape([2, 2, 2]).transpose([2, 0, 1]).transpose([1, 0, 2]))).toEqual(['reshape', 'transpose'])
  expect(left((a) => a.reshape([2, 2, 2]).transpose([1, 2, 0]).transpose([2, 0, 1]))).toEqual(['reshape'])
  expect(left((a) => a.reshape([2, 1, 4]).transpose([1, 0, 2]))).toEqual(['reshape'])
  expect(left((a) => a.broadcastTo([1, 2, 4]).broadcastTo([3, 2, 4]))).toEqual(['broadcastTo'])
  expect(left((a) => a.slice([0, 0], [2, 4]).pad([0, 0], [0, 0]))).toEqual([])
  expect(left((a) => concat([a], 1))).toEqual([])
  expect(left((a) => a.reshape([2, 1, 4]).maxOver([1]))).toEqual([])
})

test('broadcasts that the op does by itself', () => {
  expect(left((a) => a.mul(a.full(2)))).toEqual(['constant', 'mul'])
  expect(left((a) => a.constant(tensor([1, 2, 3, 4])).broadcastTo([2, 4]).less(a))).toEqual(['constant', 'compare'])
  expect(left((a) => a.full(1).add(a.full(2)))).toEqual(['constant', 'constant', 'broadcastTo', 'add'])
})

test('transposes before a product become its flags', () => {
  const flags = (fn: (a: Tensor, b: Tensor) => Tensor): unknown => {
    const { graph } = trace(fn, { inputs: [{ shape: [2, 4] }, { shape: [2, 4] }] })
    const result = dce(simplify(graph))
    expect(worstDifference(graph, result, [x, y])).toBe(0)
    return result.nodes.map((n) => [n.op, n.attrs])
  }
  expect(flags((a, b) => a.matmul(b.transpose()))).toEqual([['matmul', { transposeA: false, transposeB: true }]])
  expect(flags((a, b) => a.transpose().matmul(b.transpose(), { transposeB: true }))).toEqual([['matmul', { transposeA: true, transposeB: false }]])
})

test('what only gradients need is gone', () => {
  expect(left((a) => a.stopGradient().neg())).toEqual(['neg'])
  expect(left((a) => customGradient([a], ([v]) => (v ? [v.tanh(), v.exp()] : []), () => [undefined]))).toEqual(['tanh', 'exp'])
})

test('the gradient of relu keeps the form that backends look for', () => {
  const { graph } = trace((a, b) => gradients(a.relu(), [a], b), { inputs: [{ shape: [2, 4] }, { shape: [2, 4] }] })
  const result = dce(simplify(graph))
  expect(result.nodes.map((n) => n.op)).toEqual(graph.nodes.map((n) => n.op))
})

test('unknown sizes stay unknown', () => {
  const { graph } = trace((a) => a.reshape([4, 'N']).reshape(['N', 4]).mul(1).transpose().transpose(), { inputs: [{ shape: ['N', 4] }] })
  expect(dce(simplify(graph)).nodes).toEqual([])
})
