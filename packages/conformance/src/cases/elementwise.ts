// Cases of the ops that work element by element: every op over shapes, broadcasting, dtypes, ties and special numbers.

import { concat, customGradient, type DType, dtypes, type StaticShape } from '@dynconv/core'
import { bits, type Data, exactly, integers, positive, special, specialNumbers, spread } from './data.ts'
import { asFloat16, type Case, defineCase, opCase } from './define.ts'

type Unary = 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu' | 'stopGradient'
type Binary = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow'

interface UnaryRow {
  readonly positive?: boolean
  readonly int32?: boolean
  /** Numbers on which the function does something else than near 0. */
  readonly far: readonly number[]
}

const unaryOps: { readonly [K in Unary]: UnaryRow } = {
  neg: { int32: true, far: [1e20, -1e-20] },
  abs: { int32: true, far: [1e20, -1e-20] },
  exp: { far: [-80, -20, 20, 80, -200, 200] },
  log: { positive: true, far: [1e-30, 1e-6, 0.999, 1.001, 1e6, 1e30] },
  sqrt: { positive: true, far: [1e-30, 1e-6, 1e6, 1e30] },
  rsqrt: { positive: true, far: [1e-30, 1e-6, 1e6, 1e30] },
  tanh: { far: [-20, -9, -1e-6, 1e-6, 9, 20] },
  sigmoid: { far: [-80, -20, -9, -1e-6, 1e-6, 9, 20, 80] },
  relu: { int32: true, far: [1e20, -1e20] },
  stopGradient: { int32: true, far: [1e20] },
}

// Rank 0 to 6; with a 0, with 1s; longer than a vector register, and not a multiple of one.
const shapes: readonly StaticShape[] = [[], [1], [37], [0], [2, 0, 3], [2, 3, 5], [2, 1, 3, 1], [1, 2, 3, 2, 2], [2, 1, 2, 3, 1, 2]]

function unaryCases(): readonly Case[] {
  return (Object.keys(unaryOps) as Unary[]).flatMap((op) => {
    const row = unaryOps[op]
    const numbers = (shape: StaticShape, dtype: DType = 'float32'): Data => (row.positive ? positive(shape, dtype) : spread(shape, { dtype }))
    return [
      ...shapes.map((shape) => opCase(op, {}, { x: numbers(shape) }, shape.length === 3 ? {} : { orders: 0 })),
      opCase(op, {}, { x: exactly(row.far, [row.far.length], 'far') }, { orders: 0 }),
      opCase(op, {}, { x: special() }, { orders: 0 }),
      ...(row.int32 ? [opCase(op, {}, { x: integers([4, 5], { dtype: 'int32' }) })] : []),
      ...asFloat16([opCase(op, {}, { x: numbers([3, 7], 'float16') })]),
    ]
  })
}

interface BinaryRow {
  readonly int32?: boolean
  /** Domain of each side: `any` or above 0 only. */
  readonly a?: 'positive'
  readonly b?: 'positive'
}

const binaryOps: { readonly [K in Binary]: BinaryRow } = {
  add: { int32: true },
  sub: { int32: true },
  mul: { int32: true },
  div: { b: 'positive' },
  min: { int32: true },
  max: { int32: true },
  pow: { a: 'positive' },
}

// Same shape; a scalar on either side; a missing axis; axes of size 1 on both sides; empty; rank 6; rows long and odd.
const pairs: readonly (readonly [StaticShape, StaticShape])[] = [
  [[], []],
  [[3, 4], [3, 4]],
  [[], [2, 3]],
  [[2, 3], []],
  [[2, 3, 4], [4]],
  [[4], [2, 3, 4]],
  [[3, 1], [1, 4]],
  [[2, 1, 3], [5, 1]],
  [[1, 1, 1], [2, 3, 2]],
  [[2, 3, 4, 5], [3, 1, 1]],
  [[0, 3], [3]],
  [[2, 0], [1, 1]],
  [[2, 1, 2, 1, 2, 1], [1, 3, 1, 2, 1, 2]],
  [[5, 33], [5, 1]],
]

function binaryCases(): readonly Case[] {
  return (Object.keys(binaryOps) as Binary[]).flatMap((op) => {
    const row = binaryOps[op]
    const side = (which: 'a' | 'b', shape: StaticShape, dtype: DType = 'float32'): Data => (row[which] ? positive(shape, dtype) : spread(shape, { dtype }))
    const count = specialNumbers.length
    return [
      ...pairs.map(([a, b]) => opCase(op, {}, { a: side('a', a), b: side('b', b) }, a.length > 4 ? { orders: 1 } : {})),
      // Every special number with every other.
      opCase(op, {}, { a: special([count, 1]), b: special([1, count]) }, { orders: 0 }),
      ...(op === 'min' || op === 'max' ? [opCase(op, {}, { a: integers([6, 6]), b: integers([6, 6]) }, { orders: 1, differences: false })] : []),
      ...(op === 'pow' ? [powersOfNegatives()] : []),
      ...(row.int32
        ? [
            opCase(op, {}, { a: integers([4, 1], { dtype: 'int32' }), b: integers([5], { dtype: 'int32' }) }),
            opCase(op, {}, { a: exactly([2147483647, -2147483648, 65536, -3], [4], 'wraps', 'int32'), b: exactly([1, -1, 65537, 7], [4], 'wraps', 'int32') }),
          ]
        : []),
      ...asFloat16([opCase(op, {}, { a: side('a', [3, 5], 'float16'), b: side('b', [5], 'float16') })]),
    ]
  })
}

// Integral powers of negative numbers exist.
function powersOfNegatives(): Case {
  const inputs = { a: exactly([-2, -1.5, -1, -3, 0, 0, 2], [7], 'negative'), b: exactly([3, 2, 5, -1, 0, 2, 0], [7], 'integral') }
  return opCase('pow', {}, inputs, { orders: 1, by: [0], differences: false })
}

const comparisons = ['equal', 'notEqual', 'less', 'lessEqual', 'greater', 'greaterEqual'] as const

function compareCases(): readonly Case[] {
  const count = specialNumbers.length
  return comparisons.flatMap((kind) => [
    opCase('compare', { kind }, { a: integers([4, 1, 3]), b: integers([5, 1]) }),
    opCase('compare', { kind }, { a: special([count, 1]), b: special([1, count]) }),
    opCase('compare', { kind }, { a: integers([3, 4], { dtype: 'int32' }), b: integers([4], { dtype: 'int32' }) }),
    opCase('compare', { kind }, { a: integers([], { dtype: 'int32' }), b: integers([2, 0], { dtype: 'int32' }) }),
    ...(kind === 'equal' || kind === 'notEqual' ? [opCase('compare', { kind }, { a: bits([4, 3]), b: bits([3]) })] : []),
    ...asFloat16([opCase('compare', { kind }, { a: integers([4, 3], { dtype: 'float16' }), b: integers([3], { dtype: 'float16' }) })]),
  ])
}

function selectCases(): readonly Case[] {
  const shapesOf: readonly (readonly [StaticShape, StaticShape, StaticShape])[] = [
    [[3, 4], [3, 4], [3, 4]],
    [[3, 1], [4], [2, 1, 1]],
    [[], [2, 3], []],
    [[2, 3], [], []],
    [[4, 0], [1], [1]],
  ]
  return [
    ...shapesOf.map(([condition, a, b]) => opCase('select', {}, { condition: bits(condition), a: spread(a), b: spread(b) })),
    // What is not chosen must not shine through.
    opCase('select', {}, { condition: bits([4, 1]), a: special([1, specialNumbers.length]), b: spread([1]) }, { orders: 0 }),
    opCase('select', {}, { condition: bits([3, 4]), a: integers([4], { dtype: 'int32' }), b: integers([], { dtype: 'int32' }) }),
    opCase('select', {}, { condition: bits([3, 4]), a: bits([4]), b: bits([3, 1]) }),
    ...asFloat16([opCase('select', {}, { condition: bits([3, 4]), a: spread([4], { dtype: 'float16' }), b: spread([3, 1], { dtype: 'float16' }) })]),
  ]
}

function clampCases(): readonly Case[] {
  return [
    opCase('clamp', { min: -1, max: 1 }, { x: spread([3, 7]) }),
    opCase('clamp', { min: 0.15, max: 0.35 }, { x: spread([2, 9]) }),
    opCase('clamp', { min: 0.5, max: 0.5 }, { x: spread([9]) }),
    opCase('clamp', { min: Number.NEGATIVE_INFINITY, max: 0.75 }, { x: spread([9]) }),
    opCase('clamp', { min: 0, max: 6 }, { x: special() }, { orders: 0 }),
    // The gradient passes on the bounds themselves.
    opCase('clamp', { min: -1, max: 1 }, { x: integers([4, 4]) }, { orders: 1, differences: false }),
    opCase('clamp', { min: -1, max: 1 }, { x: integers([4, 4], { dtype: 'int32' }) }),
    opCase('clamp', { min: -1, max: 1 }, { x: spread([0, 3]) }),
    ...asFloat16([opCase('clamp', { min: -1, max: 1 }, { x: spread([3, 7], { dtype: 'float16' }) })]),
  ]
}

function castCases(): readonly Case[] {
  const sources: { readonly [D in DType]: Data } = {
    float32: spread([3, 5], { low: -3, high: 3 }),
    float16: spread([3, 5], { low: -3, high: 3, dtype: 'float16' }),
    int32: integers([3, 5], { low: -9, high: 9, dtype: 'int32' }),
    bool: bits([3, 5]),
  }
  return [
    ...dtypes.flatMap((from) => dtypes.map((to) => castCase(sources[from], to))),
    // Ties to even, subnormal halves, the largest half and what rounds beyond it.
    castCase(exactly([2049, 2051, -2049, 1e-7, 3e-8, 2.9e-8, 65504, 65519, 65520, -70000], [10], 'edges'), 'float16', 0),
    castCase(exactly([0, -0, Number.NaN, 1e-30, -3], [5], 'truth'), 'bool'),
    castCase(exactly([16777217, -16777219, 2147483647], [3], 'large', 'int32'), 'float32'),
    castCase(spread([0]), 'int32'),
  ]
}

function castCase(x: Data, dtype: DType, orders: 0 | 1 = 1): Case {
  const differentiable = (x.dtype === 'float32' || x.dtype === 'float16') && (dtype === 'float32' || dtype === 'float16')
  return opCase('cast', { dtype }, { x }, { orders: differentiable ? orders : 0 })
}

// Straight-through: the sign forward, the identity backward; and two outputs with rules of their own.
function customGradientCases(): readonly Case[] {
  return [
    defineCase({
      id: 'customGradient[straight-through]',
      family: 'customGradient',
      inputs: [spread([3, 4])],
      fn: (x) => customGradient([x], ([t]) => (t ? [t.greater(0).select(t.full(1), -1)] : []), ([g]) => [g]),
      orders: 1,
      differences: false,
    }),
    defineCase({
      id: 'customGradient[two outputs]',
      family: 'customGradient',
      inputs: [spread([3, 4]), spread([3, 4])],
      fn: (x, y) => {
        const outputs = customGradient([x, y], ([a, b]) => (a && b ? [a.mul(b), a.sub(b)] : []), ([g, h]) => [g?.mul(2), h?.mul(3)])
        return concat(outputs, 1)
      },
      orders: 2,
      differences: false,
    }),
  ]
}

/** All of them. */
export function elementwiseCases(): readonly Case[] {
  return [...unaryCases(), ...binaryCases(), ...compareCases(), ...selectCases(), ...clampCases(), ...castCases(), ...customGradientCases()]
}
