import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { trace } from '../graph/trace.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { checkGradient, checkSecondOrder, randomRef } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type StaticShape, sizeOf } from '../tensor/shape.ts'
import type { ValueType } from './define.ts'
import { matmulOps } from './matmul.ts'

const { matmul } = matmulOps
const plain = { transposeA: false, transposeB: false }
const f32 = (...shape: (number | string)[]): ValueType => ({ dtype: 'float32', shape })
const counting = (...shape: number[]) => tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => i + 1), shape)

test('a matrix product, with either side transposed', () => {
  const a = tensor([1, 2, 3, 4, 5, 6], [2, 3])
  const aT = tensor([1, 4, 2, 5, 3, 6], [3, 2])
  const b = tensor([7, 8, 9, 10, 11, 12], [3, 2])
  const bT = tensor([7, 9, 11, 8, 10, 12], [2, 3])
  const product = { dtype: 'float32', shape: [2, 2], values: [58, 64, 139, 154] }
  expect(apply((x, y) => x.matmul(y), a, b)).toEqual(product)
  expect(apply((x, y) => x.matmul(y, { transposeA: true }), aT, b)).toEqual(product)
  expect(apply((x, y) => x.matmul(y, { transposeB: true }), a, bT)).toEqual(product)
  expect(apply((x, y) => x.matmul(y, { transposeA: true, transposeB: true }), aT, bT)).toEqual(product)
})

test('leading axes broadcast, each batch with its own matrices', () => {
  // [2, 1, 1, 2] x [3, 2, 1]: batch (i, j) is a_i . b_j
  const a = tensor([1, 10, 2, 20], [2, 1, 1, 2])
  const b = tensor([1, 2, 3, 4, 5, 6], [3, 2, 1])
  expect(apply((x, y) => x.matmul(y), a, b)).toEqual({ dtype: 'float32', shape: [2, 3, 1, 1], values: [21, 43, 65, 42, 86, 130] })
})

test('an empty inner axis gives zeros, an empty outer one nothing', () => {
  expect(apply((x, y) => x.matmul(y), counting(2, 0), counting(0, 2)).values).toEqual([0, 0, 0, 0])
  expect(apply((x, y) => x.matmul(y), counting(0, 3), counting(3, 2))).toEqual({ dtype: 'float32', shape: [0, 2], values: [] })
  expect(apply((x, y) => x.matmul(y), counting(0, 2, 3), counting(3, 2)).shape).toEqual([0, 2, 2])
  expect(gradientsOfSum((x, y) => x.matmul(y), counting(0, 2, 3), counting(3, 2))).toEqual([[], [0, 0, 0, 0, 0, 0]])
})

test('the gradient of a product of matrices, by hand', () => {
  // With dY = 1: dA[i, l] = sum_j B[l, j], dB[l, j] = sum_i A[i, l].
  expect(gradientsOfSum((x, y) => x.matmul(y), tensor([1, 2, 3, 4], [2, 2]), tensor([5, 6, 7, 8], [2, 2]))).toEqual([
    [11, 15, 11, 15],
    [4, 4, 6, 6],
  ])
})

const cases: readonly (readonly [a: StaticShape, b: StaticShape])[] = [
  [[2, 3], [3, 4]],
  [[1, 1], [1, 1]],
  [[2, 2, 3], [3, 4]],
  [[2, 3], [2, 3, 2]],
  [[2, 1, 2, 3], [3, 3, 2]],
  [[1, 2, 3], [2, 3, 2]],
  [[2, 2, 1, 2, 3], [1, 3, 1]],
]

const swap = (shape: StaticShape, yes: boolean): StaticShape => (yes ? [...shape.slice(0, -2), shape.at(-1) ?? 1, shape.at(-2) ?? 1] : shape)

test.each(cases)('gradients of %j x %j agree with differences, however transposed', (a, b) => {
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      const inputs = [randomRef(swap(a, transposeA), 1), randomRef(swap(b, transposeB), 2)]
      expect(checkGradient((x, y) => x.matmul(y, { transposeA, transposeB }), inputs).worst).toBeLessThan(1e-6)
    }
  }
})

test('second derivatives agree with differences', () => {
  const inputs = [randomRef([2, 2, 3], 3), randomRef([3, 2], 4)]
  expect(checkSecondOrder((x, y) => x.matmul(y).exp(), inputs).worst).toBeLessThan(1e-6)
  expect(checkSecondOrder((x, y) => x.matmul(y, { transposeA: true, transposeB: true }).tanh(), [randomRef([2, 3, 2], 5), randomRef([2, 3], 6)]).worst).toBeLessThan(1e-6)
})

test('the gradient of a matrix shared by a batch is one product, not one per sample', () => {
  const { graph } = trace((x, w) => gradients(x.matmul(w).sum(), [w]), { inputs: [{ shape: [8, 2, 3] }, { shape: [3, 4] }] })
  const products = graph.nodes.filter((node) => node.op === 'matmul').map((node) => node.outputs.map((id) => graph.values[id]?.shape))
  expect(products).toEqual([[[8, 2, 4]], [[3, 4]]])
})

test('unknown sizes match by name', () => {
  expect(typeOfResult((x, y) => x.matmul(y), { shape: ['N', 3] }, { shape: [3, 5] }).shape).toEqual(['N', 5])
  expect(matmul.infer(plain, [f32('N', 'T', 4), f32('N', 4, 'T')])).toEqual({ dtype: 'float32', shape: ['N', 'T', 'T'] })
  expect(matmul.infer({ ...plain, transposeA: true }, [f32('N', 2), f32('N', 5)])).toEqual({ dtype: 'float32', shape: [2, 5] })
  expect(() => matmul.infer(plain, [f32(2, 'N'), f32('M', 2)])).toThrow('matmul: inner sizes differ: a is [2, N], b is [M, 2] (N against M)')
})

test('what does not fit is refused with both shapes', () => {
  expect(() => matmul.infer(plain, [f32(4, 3), f32(5, 2)])).toThrow('matmul: inner sizes differ: a is [4, 3], b is [5, 2] (3 against 5)')
  expect(() => matmul.infer({ ...plain, transposeB: true }, [f32(4, 3), f32(3, 2)])).toThrow(
    'matmul: inner sizes differ: a is [4, 3], b is [3, 2] transposed (3 against 2)',
  )
  expect(() => matmul.infer(plain, [f32(3), f32(3, 2)])).toThrow('matmul: both sides need rank 2 or more: a is [3], b is [3, 2]')
  expect(() => matmul.infer(plain, [f32(2, 4, 3), f32(3, 3, 2)])).toThrow('matmul: leading axes: shapes [2] and [3] do not broadcast')
  expect(() => matmul.infer(plain, [f32(4, 3), { dtype: 'float16', shape: [3, 2] }])).toThrow('matmul: dtypes differ: a is float32, b is float16; cast one of them')
  expect(() => matmul.infer(plain, [{ dtype: 'int32', shape: [1, 1] }, { dtype: 'int32', shape: [1, 1] }])).toThrow('matmul: inputs must be float32 or float16')
  expect(() => matmul.infer(plain, [f32(4, 3)])).toThrow('matmul: takes 2 inputs (a, b), got 1')
})

test('multiply-adds are batch * M * K * N', () => {
  expect(matmul.macs?.(plain, [[7, 2, 3], [3, 5]], [[7, 2, 5]])).toBe(7 * 2 * 3 * 5)
  expect(matmul.macs?.({ transposeA: true, transposeB: false }, [[3, 2], [3, 5]], [[2, 5]])).toBe(2 * 3 * 5)
})

test('half precision stays half precision in the gradient', () => {
  const { graph } = trace((x) => gradients(x.matmul(x, { transposeB: true }).sum(), [x]), { inputs: [{ shape: [2, 3], dtype: 'float16' }] })
  expect(graph.values.filter((v) => v.dtype === 'float32')).toEqual([])
  expect(graph.outputs.map((o) => graph.values[o.value])).toEqual([{ dtype: 'float16', shape: [2, 3] }])
})
