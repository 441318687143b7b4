// Cases of reductions, softmaxes and matrix products.

import type { OpAttrs, StaticShape } from '@dynconv/core'
import { type Data, exactly, filledWith, integers, special, spread, withElements } from './data.ts'
import { asFloat16, type Case, opCase } from './define.ts'

interface Reduction {
  readonly shape: StaticShape
  readonly axes: readonly number[]
}

// One axis, several, all, none; long rows that end inside a vector register; size 1; rank 6; a scalar.
const reductions: readonly Reduction[] = [
  { shape: [2, 3, 4, 5], axes: [0] },
  { shape: [2, 3, 4, 5], axes: [1] },
  { shape: [2, 3, 4, 5], axes: [3] },
  { shape: [2, 3, 4, 5], axes: [0, 2, 3] },
  { shape: [2, 3, 4, 5], axes: [1, 2] },
  { shape: [2, 3, 4], axes: [0, 1, 2] },
  { shape: [2, 3, 4], axes: [] },
  { shape: [3, 37], axes: [1] },
  { shape: [4097], axes: [0] },
  { shape: [1, 5, 1], axes: [0, 2] },
  { shape: [2, 1, 2, 3, 1, 2], axes: [1, 3, 5] },
  { shape: [], axes: [] },
]

function reductionCases(op: 'reduceSum' | 'reduceMax'): readonly Case[] {
  const reduce = (x: Data, attrs: OpAttrs['reduceSum'], options = {}): Case => opCase(op, attrs, { x }, options)
  return [
    ...reductions.flatMap(({ shape, axes }) =>
      [false, true].map((keepDims) => reduce(spread(shape), { axes, keepDims }, shape.length === 1 ? { orders: 1, differences: false } : {})),
    ),
    reduce(spread([0, 3]), { axes: [1], keepDims: false }),
    reduce(special(), { axes: [0], keepDims: false }, { orders: 0 }),
    reduce(integers([5, 6], { dtype: 'int32' }), { axes: [1], keepDims: false }),
    ...asFloat16([reduce(spread([3, 20], { dtype: 'float16' }), { axes: [1], keepDims: false })]),
  ]
}

function sumCases(): readonly Case[] {
  return [
    ...reductionCases('reduceSum'),
    // Nothing adds up to 0; whole numbers are exact, however many; large terms cancel; int32 wraps.
    opCase('reduceSum', { axes: [0], keepDims: false }, { x: spread([0, 3]) }),
    opCase('reduceSum', { axes: [0, 1], keepDims: true }, { x: spread([2, 0]) }),
    opCase('reduceSum', { axes: [0], keepDims: false }, { x: integers([4097]) }, { orders: 0 }),
    opCase('reduceSum', { axes: [1], keepDims: false }, { x: integers([3, 1023]) }, { orders: 0 }),
    opCase('reduceSum', { axes: [0], keepDims: false }, { x: integers([1023, 3]) }, { orders: 0 }),
    opCase('reduceSum', { axes: [0], keepDims: false }, { x: exactly([1e6, 1, -1e6, 1e-3, 3e5, -3e5], [6], 'cancels') }, { orders: 0 }),
    opCase('reduceSum', { axes: [0], keepDims: false }, { x: exactly([2147483647, 2147483647, 5], [3], 'wraps', 'int32') }),
    // A sum that stayed in float16 would stop growing at 2048.
    ...asFloat16([opCase('reduceSum', { axes: [0], keepDims: false }, { x: filledWith(1, [6000], 'float16') }, { orders: 0 })]),
  ]
}

function maxCases(): readonly Case[] {
  return [
    ...reductionCases('reduceMax'),
    // Those that tie share the gradient.
    opCase('reduceMax', { axes: [1], keepDims: false }, { x: integers([5, 9]) }, { orders: 1, differences: false }),
    opCase('reduceMax', { axes: [0, 1], keepDims: true }, { x: integers([3, 3]) }, { orders: 1, differences: false }),
    opCase('reduceMax', { axes: [0], keepDims: false }, { x: filledWith(Number.NEGATIVE_INFINITY, [3]) }, { orders: 0 }),
  ]
}

function argMaxCases(): readonly Case[] {
  const { NaN: nan } = Number
  return [
    opCase('argMax', { axis: 0 }, { x: spread([7]) }),
    opCase('argMax', { axis: 1 }, { x: spread([3, 37]) }),
    opCase('argMax', { axis: 0 }, { x: spread([4, 3, 2]) }),
    opCase('argMax', { axis: 1 }, { x: spread([2, 1, 3]) }),
    opCase('argMax', { axis: 1 }, { x: spread([0, 3]) }),
    // The first of those that tie; the first NaN wins.
    opCase('argMax', { axis: 1 }, { x: integers([6, 9]) }),
    opCase('argMax', { axis: 1 }, { x: exactly([1, nan, 5, 7, 2, nan, nan, 3, 0], [3, 3], 'NaN') }),
    opCase('argMax', { axis: 0 }, { x: filledWith(Number.NEGATIVE_INFINITY, [3]) }),
    opCase('argMax', { axis: 1 }, { x: integers([4, 5], { dtype: 'int32' }) }),
    ...asFloat16([opCase('argMax', { axis: 1 }, { x: spread([3, 9], { dtype: 'float16' }) })]),
  ]
}

const lines: readonly (readonly [StaticShape, number])[] = [
  [[5], 0],
  [[3, 7], 1],
  [[3, 7], 0],
  [[2, 3, 4], 1],
  [[2, 1, 4], 1],
  [[1, 1], 1],
  [[4, 37], 1],
  [[0, 3], 1],
  [[2, 2, 1, 3, 2, 2], 3],
]

function softmaxCases(op: 'softmax' | 'logSoftmax'): readonly Case[] {
  const { NEGATIVE_INFINITY: low, NaN: nan } = Number
  return [
    ...lines.map(([shape, axis]) => opCase(op, { axis }, { x: spread(shape) })),
    // Without the shift by the largest, exp overflows (or all of it underflows).
    opCase(op, { axis: 1 }, { x: exactly([1000, 1001, 999, -1000, -1001, -1003], [2, 3], 'large') }),
    opCase(op, { axis: 1 }, { x: exactly([3e38, -3e38, 0, 80, -80, 0], [2, 3], 'largest') }, { orders: 0 }),
    opCase(op, { axis: 1 }, { x: exactly([0, low, 1, low, 2, low, nan, 1, 2], [3, 3], 'masked and NaN') }, { orders: 0 }),
    opCase(op, { axis: 1 }, { x: filledWith(0.5, [2, 4]) }),
    ...asFloat16([opCase(op, { axis: 1 }, { x: spread([3, 10], { dtype: 'float16' }) })]),
  ]
}

interface Product {
  readonly a: StaticShape
  readonly b: StaticShape
}

// [.., M, K] x [.., K, N]: leading axes equal, broadcast on either side, missing; nothing to add up; sizes that end inside
// every tile.
const products: readonly Product[] = [
  { a: [3, 4], b: [4, 5] },
  { a: [1, 1], b: [1, 1] },
  { a: [1, 9], b: [9, 1] },
  { a: [17, 33], b: [33, 9] },
  { a: [2, 3, 4], b: [2, 4, 5] },
  { a: [2, 3, 4], b: [4, 5] },
  { a: [3, 4], b: [2, 4, 5] },
  { a: [2, 1, 3, 4], b: [5, 4, 2] },
  { a: [2, 1, 1, 2, 3], b: [1, 3, 1, 3, 2] },
  { a: [3, 257], b: [257, 2] },
  { a: [3, 0], b: [0, 2] },
  { a: [0, 3], b: [3, 2] },
  { a: [2, 3, 4], b: [2, 4, 0] },
]

const swapped = (shape: StaticShape, transposed: boolean): StaticShape =>
  transposed ? [...shape.slice(0, -2), ...shape.slice(-2).reverse()] : shape

function matmulCases(): readonly Case[] {
  const small = { orders: 1, differences: false } as const
  const nan = withElements(spread([3, 4]), { 5: Number.NaN, 2: Number.POSITIVE_INFINITY }, 'NaN')
  return [
    ...products.flatMap(({ a, b }) =>
      ([[false, false], [true, false], [false, true], [true, true]] as const).map(([transposeA, transposeB]) =>
        opCase('matmul', { transposeA, transposeB }, { a: spread(swapped(a, transposeA)), b: spread(swapped(b, transposeB)) }, a.some((d) => d > 16) ? small : {}),
      ),
    ),
    opCase('matmul', { transposeA: false, transposeB: false }, { a: nan, b: spread([4, 5]) }, { orders: 0 }),
    // Whole numbers are exact: not one product may be missing.
    ...([[17, 33, 9], [3, 257, 5], [65, 64, 66]] as const).map(([m, k, n]) =>
      opCase('matmul', { transposeA: false, transposeB: false }, { a: integers([m, k]), b: integers([k, n]) }, { orders: 0 }),
    ),
    ...asFloat16([
      opCase('matmul', { transposeA: false, transposeB: true }, { a: spread([3, 40], { dtype: 'float16' }), b: spread([5, 40], { dtype: 'float16' }) }),
      // As with sums: 4096 ones, added up in float16, stop at 2048.
      opCase('matmul', { transposeA: false, transposeB: false }, { a: filledWith(1, [1, 4096], 'float16'), b: filledWith(1, [4096, 1], 'float16') }, { orders: 0 }),
    ]),
  ]
}

/** All of them. */
export function reduceCases(): readonly Case[] {
  return [...sumCases(), ...maxCases(), ...argMaxCases(), ...softmaxCases('softmax'), ...softmaxCases('logSoftmax'), ...matmulCases()]
}
