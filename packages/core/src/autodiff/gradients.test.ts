import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { evaluate } from '../reference/evaluate.ts'
import { dynamicConv2d } from '../ops/dynamicConv.ts'
import { batchNormInference, groupNorm } from '../ops/norm.ts'
import { checkGradient, checkSecondOrder, randomRef, ref } from '../testing/gradcheck.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { customGradient } from './customGradient.ts'
import { gradients } from './gradients.ts'

const first = (list: readonly Tensor[]): Tensor => list[0]!

function run(fn: (...xs: Tensor[]) => Tensor | readonly Tensor[], ...values: number[][]): number[][] {
  const { graph } = trace(fn, { inputs: values.map((v) => ({ shape: [v.length] })) })
  return evaluate(graph, values.map((v) => ref([v.length], v))).outputs.map((o) => [...o.data])
}

test('a value used twice gets the sum of both gradients', () => {
  expect(run((x) => gradients(x.mul(x).add(x).sum(), [x]), [3, 4])).toEqual([[7, 9]])
})

test('gradients of any order: four times x^4', () => {
  const nth = (n: number) => (x: Tensor): Tensor => {
    let y = x.mul(x).mul(x.mul(x))
    for (let i = 0; i < n; i++) y = first(gradients(y.sum(), [x]))
    return y
  }
  expect([1, 2, 3, 4].map((n) => run(nth(n), [2])[0]?.[0])).toEqual([4 * 8, 12 * 4, 24 * 2, 24])
})

test('zeros where the loss does not depend on a value', () => {
  expect(run((x, y) => gradients(x.sum(), [x, y]), [1, 2], [3])).toEqual([[1, 1], [0]])
})

test('a value in the middle can be differentiated by', () => {
  expect(
    run((x) => {
      const h = x.mul(3)
      return gradients(h.square().sum(), [h])
    }, [2]),
  ).toEqual([[12]])
})

test('a tensor that is several inputs of an op without a rule of its own gets its gradient once', () => {
  checkGradient((x, v) => groupNorm(x, v, v, { groups: 1 }), [randomRef([2, 3, 2, 2], 1), randomRef([3], 2)])
  checkGradient((x, v) => batchNormInference(x, v, v, v, v.square()), [randomRef([2, 3, 2, 2], 1), randomRef([3], 2)])
  // d bases with x itself as the gradient that flows in, differentiated by x.
  checkGradient((x, w, pi) => gradients(dynamicConv2d(x, w, pi), [w, pi], x), [randomRef([2, 4, 3, 3], 1), randomRef([3, 4, 4, 1, 1], 2), randomRef([2, 3], 3)])
})

test('a seed makes it a vector-Jacobian product', () => {
  expect(run((x, v) => gradients(x.square(), [x], v), [1, 2, 3], [1, 0, 10])).toEqual([[2, 0, 60]])
})

test('nothing flows through stopGradient, comparisons and integers', () => {
  expect(run((x) => gradients(x.mul(x.stopGradient()).sum(), [x]), [5])).toEqual([[5]])
  expect(run((x) => gradients(x.greater(0).cast('float32').mul(x).sum(), [x]), [5])).toEqual([[1]])
  expect(run((x) => gradients(x.cast('int32').cast('float32').sum(), [x]), [5])).toEqual([[0]])
})

test('what cannot be differentiated is refused', () => {
  expect(() => run((x) => gradients(x, [x]), [1, 2])).toThrow('the loss must be a scalar, got [2]')
  expect(() => run((x) => gradients(x.square(), [x], x.sum()), [1, 2])).toThrow("seed [] must have the loss's shape [2]")
  expect(() => run((x) => gradients(x.cast('int32').sum(), [x]), [1])).toThrow('must be floating point, got int32')
  let stray: Tensor | undefined
  trace((x) => (stray = x), { inputs: [{ shape: [] }] })
  expect(() => run((x) => gradients(x.sum(), [stray ?? x]), [1])).toThrow('belongs to another graph')
})

test('a custom gradient replaces the one of the function', () => {
  // Straight-through: the sign forward, the identity backward.
  const sign = (x: Tensor): Tensor => first(customGradient([x], ([t = x]) => [t.greater(0).select(t.full(1), -1)], ([g]) => [g]))
  expect(run((x) => [sign(x), ...gradients(sign(x).mul(x).sum(), [x])], [2, -3])).toEqual([
    [1, -1],
    [3, -4],
  ])
})

test('a custom gradient is itself differentiated', () => {
  // Claims that (x^2)' is x^3 g: the second derivative is then 3 x^2.
  const square = (x: Tensor): Tensor => first(customGradient([x], () => [x.square()], ([g]) => [g?.mul(x).mul(x).mul(x)]))
  expect(run((x) => gradients(first(gradients(square(x).sum(), [x])).sum(), [x]), [2])).toEqual([[12]])
})

test('a custom gradient with the wrong count of results is refused', () => {
  expect(() => run((x) => gradients(first(customGradient([x], (t) => t, () => [])).sum(), [x]), [1])).toThrow('backward returned 0 gradients for 1 inputs')
})

test('the checker finds a wrong gradient, of first and of second order', () => {
  const wrong = (x: Tensor): Tensor => first(customGradient([x], () => [x.square()], ([g]) => [g?.mul(x)]))
  expect(() => checkGradient(wrong, [randomRef([3], 1)])).toThrow('gradient of input 0 at element 0')
  const wrongSecond = (x: Tensor): Tensor => first(customGradient([x], () => [x.square().mul(x)], ([g]) => [g?.mul(x.square().stopGradient().mul(3))]))
  expect(checkGradient(wrongSecond, [randomRef([3], 1)]).count).toBe(3)
  expect(() => checkSecondOrder(wrongSecond, [randomRef([3], 1)])).toThrow('gradient of input 0')
})
