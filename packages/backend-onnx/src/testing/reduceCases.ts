// Cases of the reductions, the softmaxes and the matrix product.

import { fromNumbers, type OpName, tensor, type Tensor } from '@dynconv/core'
import type { Case } from './compare.ts'
import { halves, randint, randn } from './compare.ts'

type Cases<K extends OpName> = { readonly [N in K]: readonly Case[] }

const [nan, inf] = [Number.NaN, Number.POSITIVE_INFINITY]
const corners = tensor([1, nan, 3, -inf, -inf, -inf, inf, 2, -inf, 5, 5, nan, inf, inf, 0], [5, 3])
const x = randn([2, 3, 4, 5])
const subsets = [[], [0], [1], [3], [0, 1], [2, 3], [0, 2], [1, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2, 3]] as const

const reductions = (f: (t: Tensor, axes?: readonly number[], keepDims?: boolean) => Tensor): readonly Case[] => [
  ...subsets.flatMap((axes) =>
    [false, true].map((keepDims) => ({ name: `over [${axes.join()}]${keepDims ? ', kept' : ''}`, fn: (t: Tensor) => f(t, axes, keepDims), inputs: [x], roundings: 120 })),
  ),
  { name: 'corners by row', fn: (t) => f(t, [1]), inputs: [corners] },
  { name: 'corners by column', fn: (t) => f(t, [0]), inputs: [corners] },
  { name: 'int32', fn: (t) => f(t, [0]), inputs: [randint([5, 3], 1000)] },
  { name: 'float16', fn: (t) => f(t.cast('float16'), [1]), inputs: [halves([3, 8])], roundings: 8 },
  { name: 'a scalar', fn: (t) => f(t), inputs: [tensor(3)] },
  { name: 'six axes', fn: (t) => f(t, [0, 2, 5]), inputs: [randn([2, 3, 2, 2, 3, 2])], roundings: 8 },
]

const softmaxes = (f: (t: Tensor, axis?: number) => Tensor): readonly Case[] => [
  ...[0, 1, 2].map((axis) => ({ name: `axis ${axis}`, fn: (t: Tensor) => f(t, axis), inputs: [randn([3, 4, 5])], roundings: 18 })),
  { name: 'corners', fn: (t) => f(t), inputs: [corners] },
  { name: 'large', fn: (t) => f(t), inputs: [tensor([1000, 999, -1000, 0], [2, 2])], roundings: 18 },
  { name: 'float16', fn: (t) => f(t.cast('float16')), inputs: [halves([3, 8])], roundings: 4 },
  { name: 'empty', fn: (t) => f(t), inputs: [tensor([], [0, 3])] },
  { name: 'along nothing', fn: (t) => f(t), inputs: [tensor([], [2, 0])] },
]

const product =
  (transposeA: boolean, transposeB: boolean) =>
  (a: Tensor, b: Tensor): Tensor =>
    a.matmul(b, { transposeA, transposeB })

const flip = ([m, k]: readonly [number, number], transposed: boolean): readonly number[] => (transposed ? [k, m] : [m, k])

export const reduceCases: Cases<'reduceSum' | 'reduceMax' | 'argMax' | 'softmax' | 'logSoftmax' | 'matmul'> = {
  reduceSum: [
    ...reductions((t, axes, keepDims) => t.sum(axes, keepDims)),
    { name: 'over nothing', fn: (t) => t.sum([1]), inputs: [tensor([], [2, 0, 3])] },
    { name: 'of an empty result', fn: (t) => t.sum([0]), inputs: [tensor([], [2, 0, 3])] },
    { name: 'int32 that wraps', fn: (t) => t.sum(), inputs: [fromNumbers('int32', [3], [2 ** 31 - 1, 2 ** 31 - 1, 5])] },
    { name: 'int32 over nothing', fn: (t) => t.sum([0]), inputs: [fromNumbers('int32', [0], [])] },
  ],
  reduceMax: reductions((t, axes, keepDims) => t.maxOver(axes, keepDims)),
  argMax: [
    ...[0, 1, 2].map((axis) => ({ name: `axis ${axis}, ties`, fn: (t: Tensor) => t.argMax(axis), inputs: [randint([3, 4, 5], 3)] })),
    { name: 'floats', fn: (t) => t.argMax(1), inputs: [randn([5, 9])] },
    { name: 'corners by row', fn: (t) => t.argMax(1), inputs: [corners] },
    { name: 'corners by column', fn: (t) => t.argMax(0), inputs: [corners] },
    { name: 'float16', fn: (t) => t.cast('float16').argMax(0), inputs: [corners] },
    { name: 'of one', fn: (t) => t.argMax(0), inputs: [tensor([3])] },
    { name: 'empty', fn: (t) => t.argMax(1), inputs: [tensor([], [0, 3])] },
  ],
  softmax: softmaxes((t, axis) => t.softmax(axis)),
  logSoftmax: softmaxes((t, axis) => t.logSoftmax(axis)),
  matmul: [
    ...[false, true].flatMap((ta) =>
      [false, true].flatMap((tb): readonly Case[] => {
        const fn = product(ta, tb)
        const name = `${ta ? 'A^T' : 'A'} ${tb ? 'B^T' : 'B'}`
        const roundings = 2 * 5
        return [
          { name, fn, roundings, inputs: [randn(flip([3, 5], ta), 1), randn(flip([5, 4], tb), 2)] },
          { name: `${name}, batch`, fn, roundings, inputs: [randn([2, 3, ...flip([3, 5], ta)], 1), randn([2, 3, ...flip([5, 4], tb)], 2)] },
          { name: `${name}, batch against 1`, fn, roundings, inputs: [randn([2, 1, ...flip([3, 5], ta)], 1), randn([3, ...flip([5, 4], tb)], 2)] },
          { name: `${name}, batch and matrix`, fn, roundings, inputs: [randn([2, 3, ...flip([3, 5], ta)], 1), randn(flip([5, 4], tb), 2)] },
          { name: `${name}, matrix and batch`, fn, roundings, inputs: [randn(flip([3, 5], ta), 1), randn([2, 3, ...flip([5, 4], tb)], 2)] },
          { name: `${name}, rows of one`, fn, roundings, inputs: [randn([2, ...flip([1, 5], ta)], 1), randn([2, ...flip([5, 1], tb)], 2)] },
          { name: `${name}, nothing inside`, fn, inputs: [tensor([], flip([3, 0], ta)), tensor([], flip([0, 4], tb))] },
          { name: `${name}, no rows`, fn, inputs: [tensor([], flip([0, 5], ta)), randn(flip([5, 4], tb))] },
        ]
      }),
    ),
    { name: 'no batch', fn: product(false, false), inputs: [tensor([], [0, 2, 3]), randn([3, 2])] },
    { name: 'float16', fn: (a, b) => a.cast('float16').matmul(b.cast('float16')), inputs: [halves([3, 5], 1), halves([5, 4], 2)], roundings: 4 },
    { name: 'NaN and infinity', fn: product(false, false), inputs: [tensor([1, nan, inf, 1], [2, 2]), tensor([1, 2, 3, -4], [2, 2])] },
  ],
}
