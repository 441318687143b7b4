// Ops that work element by element; those with several inputs broadcast them as NumPy does. Most are a row of a table:
// dtypes, the function on numbers, and one gradient rule per input.
//
// With y = f(a, b), both broadcast, and dY = dL/dy, the chain rule gives dL/da = sum of dY * df/da over the elements of y
// that read one element of a. The rules below write dY * df/da in y's shape; `sumTo` does the sum.
//
// NaN: an op with a NaN operand gives NaN (min, max, relu and clamp too); comparisons with NaN are false, notEqual true.

import { ValueError } from '../backend/errors.ts'
import { checkDType, type DType, dtypes, isFloat } from '../tensor/dtype.ts'
import { broadcastShapes, type StaticShape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { Comparison, OpAttrs } from './attrs.ts'
import { checkValue, floats, numeric, sameDType, take } from './checks.ts'
import { defineOp, type OpDef, type OpTable, type RefTensor } from './define.ts'
import { at, broadcastIndexer, mapRef, refTensor, toInt32, wrapTo } from './refs.ts'

type BinaryName = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow'
type UnaryName = 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu'

/** What a gradient rule multiplies: `g` is dL/dy, in y's shape. */
interface BinaryParts {
  readonly g: Tensor
  readonly a: Tensor
  readonly b: Tensor
  readonly y: Tensor
}

interface BinaryRow {
  readonly dtypes: readonly DType[]
  readonly value: (a: number, b: number) => number
  /** On int32, where that is not `value` wrapped to 32 bits. */
  readonly int32?: (a: number, b: number) => number
  readonly da: (parts: BinaryParts) => Tensor
  readonly db: (parts: BinaryParts) => Tensor
}

interface UnaryRow {
  readonly dtypes: readonly DType[]
  readonly value: (x: number) => number
  readonly dx: (parts: { readonly g: Tensor; readonly x: Tensor; readonly y: Tensor }) => Tensor
  readonly decompose?: (x: Tensor) => Tensor
}

function binary<K extends BinaryName>(name: K, row: BinaryRow): OpDef<K> {
  return defineOp<K>({
    name,
    infer: (_attrs, inputs) => {
      const [a, b] = take(name, inputs, 'a', 'b')
      const dtype = sameDType(name, ['a', 'b'], [a, b])
      checkDType(name, 'inputs', dtype, row.dtypes)
      return { dtype, shape: broadcastShapes(name, a.shape, b.shape) }
    },
    gradient: ({ grad, inputs, outputs, needs }) => {
      const [a, b] = take(name, inputs, 'a', 'b')
      const parts = { g: grad, a, b, y: only(outputs) }
      return [needs[0] ? row.da(parts).sumTo(a.shape) : undefined, needs[1] ? row.db(parts).sumTo(b.shape) : undefined]
    },
    reference: (_attrs, inputs, outputs) => {
      const [{ dtype, shape }] = take(name, outputs, 'y')
      const wrap = wrapTo(dtype)
      const f = dtype === 'int32' && row.int32 ? row.int32 : (a: number, b: number): number => wrap(row.value(a, b))
      const [a, b] = readers(take(name, inputs, 'a', 'b'), shape)
      return mapRef(refTensor(shape), (_, flat) => f(a(flat), b(flat)))
    },
  })
}

function unary<K extends UnaryName>(name: K, row: UnaryRow): OpDef<K> {
  const { decompose } = row
  return defineOp<K>({
    name,
    infer: (_attrs, inputs) => {
      const [x] = take(name, inputs, 'x')
      checkDType(name, 'x', x.dtype, row.dtypes)
      return { dtype: x.dtype, shape: x.shape }
    },
    gradient: ({ grad, inputs, outputs }) => {
      const [x] = take(name, inputs, 'x')
      return [row.dx({ g: grad, x, y: only(outputs) })]
    },
    reference: (_attrs, inputs, outputs) => {
      const wrap = wrapTo(take(name, outputs, 'y')[0].dtype)
      return mapRef(take(name, inputs, 'x')[0], (x) => wrap(row.value(x)))
    },
    ...(decompose && { decompose: (_attrs: OpAttrs[K], inputs: readonly Tensor[]) => [decompose(take(name, inputs, 'x')[0])] }),
  })
}

// Each input as a function of the result's flat index.
function readers<T extends readonly RefTensor[]>(inputs: T, shape: StaticShape): { readonly [I in keyof T]: (flat: number) => number } {
  return inputs.map((x) => {
    const index = broadcastIndexer(x.shape, shape)
    return (flat: number) => at(x.data, index(flat))
  }) as { readonly [I in keyof T]: (flat: number) => number }
}

// The gradient of the operand that `won`, of one that tied with the other, or none.
function share(g: Tensor, won: Tensor, tied: Tensor): Tensor {
  return won.select(g, tied.select(g.mul(0.5), 0))
}

const comparisons: { readonly [C in Comparison]: (a: number, b: number) => boolean } = {
  equal: (a, b) => a === b,
  notEqual: (a, b) => a !== b,
  less: (a, b) => a < b,
  lessEqual: (a, b) => a <= b,
  greater: (a, b) => a > b,
  greaterEqual: (a, b) => a >= b,
}

// The oracle keeps full precision: a cast to a float changes nothing here.
const casts: { readonly [D in DType]: (x: number) => number } = {
  float32: (x) => x,
  float16: (x) => x,
  int32: toInt32,
  bool: (x) => Number(x !== 0),
}

/** The definitions. */
export const elementwiseOps: Pick<OpTable, BinaryName | UnaryName | 'compare' | 'select' | 'clamp' | 'cast' | 'stopGradient'> = {
  // Two inputs

  /** a + b */
  add: binary('add', {
    dtypes: numeric,
    value: (a, b) => a + b,
    da: ({ g }) => g,
    db: ({ g }) => g,
  }),

  /** a - b */
  sub: binary('sub', {
    dtypes: numeric,
    value: (a, b) => a - b,
    da: ({ g }) => g,
    db: ({ g }) => g.neg(),
  }),

  /** a * b */
  mul: binary('mul', {
    dtypes: numeric,
    value: (a, b) => a * b,
    int32: Math.imul,
    da: ({ g, b }) => g.mul(b),
    db: ({ g, a }) => g.mul(a),
  }),

  /** a / b. d(a/b)/db = -a / b^2 = -y / b. */
  div: binary('div', {
    dtypes: floats,
    value: (a, b) => a / b,
    da: ({ g, b }) => g.div(b),
    db: ({ g, b, y }) => g.mul(y).div(b).neg(),
  }),

  /** The smaller; a tie shares its gradient equally. */
  min: binary('min', {
    dtypes: numeric,
    value: Math.min,
    da: ({ g, a, b }) => share(g, a.less(b), a.equal(b)),
    db: ({ g, a, b }) => share(g, b.less(a), a.equal(b)),
  }),

  /** The larger; a tie shares its gradient equally. */
  max: binary('max', {
    dtypes: numeric,
    value: Math.max,
    da: ({ g, a, b }) => share(g, a.greater(b), a.equal(b)),
    db: ({ g, a, b }) => share(g, b.greater(a), a.equal(b)),
  }),

  /**
   * a ^ b, as IEEE 754 and C define it: x^0 = 1 and 1^x = 1 even for NaN.
   *
   * d/da = b * a^(b-1), but 0 where b = 0 (there a^(b-1) may be infinite). d/db = y * log(a) for a > 0. Elsewhere it is 0:
   * at a = 0 that is the limit for b >= 0, and for a < 0 the power exists only at integers b, so it has no derivative. The
   * logarithm is taken of 1 there, lest its own gradient put a NaN behind the select.
   */
  pow: binary('pow', {
    dtypes: floats,
    value: (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY) ? 1 : a ** b),
    da: ({ g, a, b }) => b.equal(0).select(0, g.mul(b).mul(a.pow(b.sub(1)))),
    db: ({ g, a, y }) => {
      const positive = a.greater(0)
      return positive.select(g.mul(y).mul(positive.select(a, 1).log()), 0)
    },
  }),

  /** a == b, a < b, ... as bool. */
  compare: defineOp({
    name: 'compare',
    infer: ({ kind }, inputs) => {
      if (!Object.hasOwn(comparisons, kind)) throw new ValueError(`compare: kind must be ${Object.keys(comparisons).join(', ')}, got ${String(kind)}`)
      const [a, b] = take('compare', inputs, 'a', 'b')
      const dtype = sameDType('compare', ['a', 'b'], [a, b])
      checkDType('compare', `inputs of ${kind}`, dtype, kind === 'equal' || kind === 'notEqual' ? dtypes : numeric)
      return { dtype: 'bool', shape: broadcastShapes('compare', a.shape, b.shape) }
    },
    gradient: 'none',
    reference: ({ kind }, inputs, outputs) => {
      const [{ shape }] = take('compare', outputs, 'y')
      const [a, b] = readers(take('compare', inputs, 'a', 'b'), shape)
      const holds = comparisons[kind]
      return mapRef(refTensor(shape), (_, flat) => Number(holds(a(flat), b(flat))))
    },
  }),

  /** a where the (bool) condition holds, b elsewhere; all three broadcast. Each side takes the gradient where it was chosen. */
  select: defineOp({
    name: 'select',
    infer: (_attrs, inputs) => {
      const [condition, a, b] = take('select', inputs, 'condition', 'a', 'b')
      checkDType('select', 'condition', condition.dtype, ['bool'])
      return { dtype: sameDType('select', ['a', 'b'], [a, b]), shape: broadcastShapes('select', condition.shape, a.shape, b.shape) }
    },
    gradient: ({ grad, inputs, needs }) => {
      const [condition, a, b] = take('select', inputs, 'condition', 'a', 'b')
      return [
        undefined,
        needs[1] ? condition.select(grad, 0).sumTo(a.shape) : undefined,
        needs[2] ? condition.select(0, grad).sumTo(b.shape) : undefined,
      ]
    },
    reference: (_attrs, inputs, outputs) => {
      const [{ shape }] = take('select', outputs, 'y')
      const [condition, a, b] = readers(take('select', inputs, 'condition', 'a', 'b'), shape)
      return mapRef(refTensor(shape), (_, flat) => (condition(flat) ? a(flat) : b(flat)))
    },
  }),

  // One input

  /** -x */
  neg: unary('neg', { dtypes: numeric, value: (x) => -x, dx: ({ g }) => g.neg() }),

  /** |x|; its gradient is 0 at 0. */
  abs: unary('abs', {
    dtypes: numeric,
    value: Math.abs,
    dx: ({ g, x }) => x.greater(0).select(g, x.less(0).select(g.neg(), 0)),
  }),

  /** e ^ x */
  exp: unary('exp', { dtypes: floats, value: Math.exp, dx: ({ g, y }) => g.mul(y) }),

  /** The natural logarithm. */
  log: unary('log', { dtypes: floats, value: Math.log, dx: ({ g, x }) => g.div(x) }),

  /** The square root. dy/dx = 1 / 2y. */
  sqrt: unary('sqrt', { dtypes: floats, value: Math.sqrt, dx: ({ g, y }) => g.div(y.mul(2)) }),

  /** 1 / sqrt(x) = x^(-1/2). dy/dx = -1/2 x^(-3/2) = -y^3 / 2. */
  rsqrt: unary('rsqrt', {
    dtypes: floats,
    value: (x) => 1 / Math.sqrt(x),
    dx: ({ g, y }) => g.mul(y.mul(y).mul(y)).mul(-0.5),
    decompose: (x) => x.operand(1).div(x.sqrt()),
  }),

  /** The hyperbolic tangent. dy/dx = 1 - y^2. */
  tanh: unary('tanh', { dtypes: floats, value: Math.tanh, dx: ({ g, y }) => g.mul(y.operand(1).sub(y.mul(y))) }),

  /** 1 / (1 + e^-x). dy/dx = y (1 - y). */
  sigmoid: unary('sigmoid', {
    dtypes: floats,
    value: (x) => 1 / (1 + Math.exp(-x)),
    dx: ({ g, y }) => g.mul(y.mul(y.operand(1).sub(y))),
    decompose: (x) => x.operand(1).div(x.neg().exp().add(1)),
  }),

  /** max(x, 0). Backends recognise the gradient by the very form it has here. */
  relu: unary('relu', {
    dtypes: numeric,
    value: (x) => Math.max(x, 0),
    dx: ({ g, y }) => y.greater(0).select(g, 0),
    decompose: (x) => x.max(0),
  }),

  /** x limited to [min, max]; the gradient passes inside, bounds included. */
  clamp: defineOp({
    name: 'clamp',
    infer: ({ min: low, max: high }, inputs) => {
      const [x] = take('clamp', inputs, 'x')
      checkDType('clamp', 'x', x.dtype, numeric)
      checkValue('clamp', 'min', low, x.dtype)
      checkValue('clamp', 'max', high, x.dtype)
      if (!(low <= high)) throw new ValueError(`clamp: min=${low} must not exceed max=${high}`)
      return { dtype: x.dtype, shape: x.shape }
    },
    gradient: ({ attrs, grad, inputs }) => {
      const [x] = take('clamp', inputs, 'x')
      return [x.compare('greaterEqual', attrs.min).select(x.compare('lessEqual', attrs.max).select(grad, 0), 0)]
    },
    reference: ({ min: low, max: high }, inputs) => mapRef(take('clamp', inputs, 'x')[0], (x) => Math.min(Math.max(x, low), high)),
    decompose: ({ min: low, max: high }, inputs) => [take('clamp', inputs, 'x')[0].max(low).min(high)],
  }),

  /** The same numbers as another dtype: to int32 by truncation, to bool by `!= 0` (so NaN is true). */
  cast: defineOp({
    name: 'cast',
    infer: ({ dtype }, inputs) => {
      checkDType('cast', 'dtype', dtype, dtypes)
      return { dtype, shape: take('cast', inputs, 'x')[0].shape }
    },
    gradient: ({ grad, inputs, outputs }) => {
      const [x] = take('cast', inputs, 'x')
      return [isFloat(x.dtype) && isFloat(only(outputs).dtype) ? grad.cast(x.dtype) : undefined]
    },
    reference: ({ dtype }, inputs) => mapRef(take('cast', inputs, 'x')[0], casts[dtype]),
  }),

  /** The same value, through which no gradient flows. */
  stopGradient: defineOp({
    name: 'stopGradient',
    infer: (_attrs, inputs) => {
      const [{ dtype, shape }] = take('stopGradient', inputs, 'x')
      return { dtype, shape }
    },
    gradient: 'none',
    reference: (_attrs, inputs) => take('stopGradient', inputs, 'x')[0],
    decompose: (_attrs, inputs) => [take('stopGradient', inputs, 'x')[0]],
  }),
}
