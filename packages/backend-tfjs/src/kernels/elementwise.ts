// Elementwise ops. What the engines disagree on (NaN in minima and maxima, products of large integers) is settled by their
// primitives; what none of them has stands here.

import { type Kernel, type OpName, fromNumbers } from '@dynconv/core'
import type { BinaryKind, Primitives, UnaryKind, Value, ValueDType } from '../primitives.ts'
import { broadcastTogether, type Kernels, nth, product, sameSizes, scalar } from './shared.ts'

type ElementwiseName =
  | 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'compare' | 'select'
  | 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu' | 'cast' | 'stopGradient' | 'customGradient'

/** The kernels over `p`; `clamp` is decomposed into min and max. */
export function elementwiseKernels<V extends Value>(p: Primitives<V>): Kernels<V, ElementwiseName> {
  const unary =
    <K extends OpName>(kind: UnaryKind): Kernel<V, K> =>
    (_attrs, inputs) =>
      p.unary(kind, nth(inputs, 0))
  const binary =
    <K extends OpName>(kind: BinaryKind): Kernel<V, K> =>
    (_attrs, inputs) =>
      p.binary(kind, ...stretched(p, nth(inputs, 0), nth(inputs, 1)))
  return {
    add: binary('add'),
    sub: binary('sub'),
    mul: binary('mul'),
    div: binary('div'),
    min: binary('min'),
    max: binary('max'),
    // IEEE 754: 1^b = 1 even for NaN, (-1)^(+-infinity) = 1; JavaScript says NaN to both.
    pow: (_attrs, inputs) => {
      const [a, b] = stretched(p, nth(inputs, 0), nth(inputs, 1))
      const one = scalar(p, 1, 'float32')
      const infinite = p.compare('equal', p.unary('abs', b), scalar(p, Number.POSITIVE_INFINITY, 'float32'))
      const minusOne = p.compare('equal', a, scalar(p, -1, 'float32'))
      const isOne = p.binary('or', p.compare('equal', a, one), p.binary('and', minusOne, infinite))
      return p.select(isOne, one, p.binary('pow', a, b))
    },
    compare: ({ kind }, inputs) => {
      const [a, b] = stretched(p, nth(inputs, 0), nth(inputs, 1))
      return a.dtype === 'bool' ? p.compare(kind, p.cast(a, 'int32'), p.cast(b, 'int32')) : p.compare(kind, a, b)
    },
    // Not every engine chooses among bools: (condition and a) or (not condition and b).
    select: (_attrs, inputs) => {
      const [condition, a, b] = [nth(inputs, 0), nth(inputs, 1), nth(inputs, 2)]
      if (a.dtype !== 'bool') return p.select(condition, a, b)
      return p.binary('or', p.binary('and', condition, a), p.binary('and', p.not(condition), b))
    },
    neg: unary('neg'),
    abs: unary('abs'),
    exp: unary('exp'),
    log: unary('log'),
    sqrt: unary('sqrt'),
    rsqrt: unary('rsqrt'),
    tanh: unary('tanh'),
    sigmoid: unary('sigmoid'),
    relu: (_attrs, inputs) => {
      const x = nth(inputs, 0)
      return x.dtype === 'int32' ? p.binary('max', x, scalar(p, 0, 'int32')) : p.unary('relu', x)
    },
    cast: ({ dtype }, inputs) => castTo(p, nth(inputs, 0), computed(dtype)),
    stopGradient: (_attrs, inputs) => nth(inputs, 0),
    customGradient: ({ outputs }, inputs) => inputs.slice(inputs.length - outputs),
  }
}

// TensorFlow stretches up to five axes by itself.
function stretched<V extends Value>(p: Primitives<V>, a: V, b: V): readonly [V, V] {
  const shape = broadcastTogether(a.shape, b.shape)
  if (shape.length <= 5) return [a, b]
  const to = (x: V): V => (sameSizes(x.shape, shape) || product(x.shape) === 1 ? x : p.broadcast(x, shape))
  return [to(a), to(b)]
}

/** The dtype in which an engine holds one: float16 is kept in float32. */
export function computed(dtype: 'float32' | 'float16' | 'int32' | 'bool'): ValueDType {
  return dtype === 'float16' ? 'float32' : dtype
}

/** To int32 by truncation (beyond its range the nearest bound, NaN 0), to bool by `!= 0`. */
export function castTo<V extends Value>(p: Primitives<V>, x: V, dtype: ValueDType): V {
  if (x.dtype === dtype) return x
  if (dtype === 'bool') return p.compare('notEqual', x, p.constant(fromNumbers(x.dtype === 'int32' ? 'int32' : 'float32', [], [0])))
  if (dtype === 'int32' && x.dtype === 'float32') {
    // Beyond the range of int32 the engines differ. 2^31 - 128 is the largest float32 below 2^31.
    const [low, high] = [-(2 ** 31), 2 ** 31 - 128]
    const inside = p.binary('min', p.binary('max', x, scalar(p, low, 'float32')), scalar(p, high, 'float32'))
    const truncated = p.cast(p.select(p.compare('equal', x, x), inside, scalar(p, 0, 'float32')), 'int32')
    return p.select(p.compare('greater', x, scalar(p, high, 'float32')), scalar(p, 2 ** 31 - 1, 'int32'), truncated)
  }
  return p.cast(x, dtype)
}
