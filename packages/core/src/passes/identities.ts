// The identities that `simplify` applies, a rule an op. Each is exact for every input, NaN, infinities and -0 included:
//   x + 0   is x only where x is not -0 (-0 + 0 = 0), x + -0 always; x - 0 always
//   x * 0   is not 0 (NaN, infinity), x / x is not 1, x - x is not 0: no such rule stands here
//   a - b   is not -(b - a) where both are equal (0 against -0)
// A rule sees inputs that are already simple. It emits through `emit`, which applies the rules again, and always comes
// nearer to fewer nodes or fewer inputs, so this ends.

import type { Node } from '../graph/graph.ts'
import type { OpAttrs, OpName } from '../ops/attrs.ts'
import type { ValueType } from '../ops/define.ts'
import { type DType, isFloat } from '../tensor/dtype.ts'
import { toFloat64 } from '../tensor/hostTensor.ts'
import { broadcastShapes, sameShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Rewriting } from './rewrite.ts'

/** What a rule works with. */
export interface Rewriter extends Pick<Rewriting, 'producer' | 'emit' | 'builder'> {
  /** The type of the (first) result that is to be replaced. */
  readonly type: ValueType
}

/** What may stand for a node instead of its op on these inputs; undefined: nothing simpler. */
export type Identity<K extends OpName> = (attrs: OpAttrs[K], inputs: readonly Tensor[], r: Rewriter) => Tensor | readonly Tensor[] | undefined

type Binary = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow'

// Looking behind a tensor

function madeBy<K extends OpName>(t: Tensor, op: K, r: Rewriter): { readonly attrs: OpAttrs[K]; readonly inputs: readonly Tensor[] } | undefined {
  const node = r.producer(t)
  if (node?.op !== op) return undefined
  const { attrs, inputs } = node as Extract<Node, { readonly op: K }>
  return { attrs: attrs as OpAttrs[K], inputs: inputs.map((id) => r.builder.tensor(id)) }
}

/** The input of `t` where `t` is an `op` of one input. */
function under(t: Tensor | undefined, op: OpName, r: Rewriter): Tensor | undefined {
  return t && madeBy(t, op, r)?.inputs[0]
}

// Larger constants are data, hardly ever one number repeated.
const largestSplat = 4096

/** The number that every element of `t` is, where that is plain to see. */
function splat(t: Tensor | undefined, r: Rewriter): number | undefined {
  if (!t) return undefined
  const value = madeBy(t, 'constant', r)?.attrs.value
  if (!value) return splat(under(t, 'broadcastTo', r), r)
  if (value.data.length === 0 || value.data.length > largestSplat) return undefined
  const [first, ...rest] = toFloat64(value)
  return rest.every((x) => Object.is(x, first)) ? first : undefined
}

/** `t`, where it has the type that is to be replaced: an operand that the other one stretched is no replacement. */
function whole(t: Tensor | undefined, { type }: Rewriter): Tensor | undefined {
  return t && t.dtype === type.dtype && sameShape(t.shape, type.shape) ? t : undefined
}

const fromZero: ReadonlySet<OpName> = new Set(['abs', 'exp', 'sigmoid', 'softmax', 'oneHot', 'iota'])

/** Whether no element of the float `t` can be negative or -0 (it may be NaN). */
function startsAtZero(t: Tensor, r: Rewriter): boolean {
  const op = r.producer(t)?.op
  if (op === 'cast') return under(t, 'cast', r)?.dtype === 'bool'
  return op !== undefined && fromZero.has(op)
}

// Elementwise

// An operand may be broadcast by the op itself, as long as the result stays as large.
function withoutBroadcasts<K extends Binary | 'compare' | 'select'>(op: K): Identity<K> {
  return (attrs, inputs, r) => {
    const shapes = inputs.map((t) => t.shape)
    const slim = inputs.map((t, i) => {
      const source = under(t, 'broadcastTo', r)
      if (!source) return t
      const others = shapes.with(i, source.shape)
      if (!sameShape(broadcastShapes(op, ...others), r.type.shape)) return t
      shapes[i] = source.shape
      return source
    })
    return slim.some((t, i) => t !== inputs[i]) ? r.emit(op, attrs, slim) : undefined
  }
}

/** `rule`, and where it has nothing to say the removal of broadcasts. */
function binary<K extends Binary>(op: K, rule: (a: Tensor, b: Tensor, r: Rewriter) => Tensor | undefined): Identity<K> {
  const slim = withoutBroadcasts(op)
  return (attrs, inputs, r) => {
    const [a, b] = inputs
    return (a && b && rule(a, b, r)) ?? slim(attrs, inputs, r)
  }
}

function plusZero(x: Tensor, zero: Tensor, r: Rewriter): Tensor | undefined {
  const value = splat(zero, r)
  if (value !== 0) return undefined
  return !isFloat(x.dtype) || Object.is(value, -0) || startsAtZero(x, r) ? whole(x, r) : undefined
}

// x * 1 and x * -1; likewise x / 1 and x / -1.
function timesOne(x: Tensor, one: Tensor, r: Rewriter): Tensor | undefined {
  const value = splat(one, r)
  if (value !== 1 && value !== -1) return undefined
  const same = whole(x, r)
  return same && (value === 1 ? same : r.emit('neg', {}, [same]))
}

const sameTwice = (a: Tensor, b: Tensor): Tensor | undefined => (a === b ? a : undefined)

// Casts

// The dtypes that hold every value of another one.
const widens: { readonly [D in DType]: readonly DType[] } = {
  bool: ['bool', 'int32', 'float16', 'float32'],
  float16: ['float16', 'float32'],
  float32: ['float32'],
  int32: ['int32'],
}

// Shapes

function reshaped(x: Tensor, r: Rewriter): Tensor {
  return whole(x, r) ?? r.emit('reshape', { shape: r.type.shape }, [x])
}

// Whether a permutation moves nothing but axes of size 1, so that the elements stay in their order.
function keepsOrder(shape: Tensor['shape'], permutation: readonly number[]): boolean {
  const moved = permutation.filter((axis) => shape[axis] !== 1)
  return moved.every((axis, i) => i === 0 || (moved[i - 1] ?? -1) < axis)
}

// x, where `t` is x with its last two axes swapped.
function unswapped(t: Tensor | undefined, r: Rewriter): Tensor | undefined {
  const swap = t && madeBy(t, 'transpose', r)
  if (!swap) return undefined
  const rank = swap.attrs.permutation.length
  const isSwap = swap.attrs.permutation.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i))
  return isSwap && rank >= 2 ? swap.inputs[0] : undefined
}

/** The rules, by op. */
export const identities: { readonly [K in OpName]?: Identity<K> } = {
  add: binary('add', (a, b, r) => {
    const plain = plusZero(a, b, r) ?? plusZero(b, a, r)
    if (plain) return plain
    const [negA, negB] = [under(a, 'neg', r), under(b, 'neg', r)]
    if (negB) return r.emit('sub', {}, [a, negB])
    return negA && r.emit('sub', {}, [b, negA])
  }),
  sub: binary('sub', (a, b, r) => {
    const value = splat(b, r)
    if (value === 0 && (!isFloat(a.dtype) || Object.is(value, 0))) {
      const same = whole(a, r)
      if (same) return same
    }
    const negB = under(b, 'neg', r)
    return negB && r.emit('add', {}, [a, negB])
  }),
  mul: binary('mul', (a, b, r) => timesOne(a, b, r) ?? timesOne(b, a, r)),
  div: binary('div', timesOne),
  pow: binary('pow', (a, b, r) => (splat(b, r) === 1 ? whole(a, r) : undefined)),
  min: binary('min', sameTwice),
  max: binary('max', sameTwice),
  compare: withoutBroadcasts('compare'),
  select: (attrs, inputs, r) => {
    const [condition, a, b] = inputs
    const chosen = splat(condition, r)
    const side = a === b || chosen === 1 ? a : chosen === 0 ? b : undefined
    return whole(side, r) ?? withoutBroadcasts('select')(attrs, inputs, r)
  },
  neg: (_attrs, [x], r) => under(x, 'neg', r),
  abs: (_attrs, [x], r) => {
    if (under(x, 'abs', r)) return x
    const flipped = under(x, 'neg', r)
    return flipped && r.emit('abs', {}, [flipped])
  },
  // |x| of the smallest int32 wraps to itself, which relu makes 0.
  relu: (_attrs, [x], r) => (x && (under(x, 'relu', r) || (isFloat(x.dtype) && startsAtZero(x, r))) ? x : undefined),
  clamp: ({ min, max }, [x]) => (min === Number.NEGATIVE_INFINITY && max === Number.POSITIVE_INFINITY ? x : undefined),
  cast: ({ dtype }, [x], r) => {
    if (!x || x.dtype === dtype) return x
    const source = under(x, 'cast', r)
    if (!source || !widens[source.dtype].includes(x.dtype)) return undefined
    return source.dtype === dtype ? source : r.emit('cast', { dtype }, [source])
  },
  stopGradient: (_attrs, [x]) => x,
  customGradient: ({ outputs }, inputs) => inputs.slice(inputs.length - outputs),
  reshape: (_attrs, [x], r) => {
    if (!x) return undefined
    const source = under(x, 'reshape', r)
    return whole(x, r) ?? (source && reshaped(source, r))
  },
  transpose: ({ permutation }, [x], r) => {
    if (!x) return undefined
    if (keepsOrder(x.shape, permutation)) return reshaped(x, r)
    // Axis i of the result is axis permutation[i] of x, which is axis first[permutation[i]] of what x is a transpose of.
    const before = madeBy(x, 'transpose', r)
    const first = before?.attrs.permutation
    const [source] = before?.inputs ?? []
    return first && source && r.emit('transpose', { permutation: permutation.map((p) => first[p] ?? p) }, [source])
  },
  broadcastTo: ({ shape }, [x], r) => {
    const source = under(x, 'broadcastTo', r)
    return whole(x, r) ?? (source && r.emit('broadcastTo', { shape }, [source]))
  },
  slice: ({ starts, steps }, [x], r) => (starts.every((s) => s === 0) && steps.every((s) => s === 1) ? whole(x, r) : undefined),
  pad: (_attrs, [x], r) => whole(x, r),
  concat: (_attrs, inputs) => (inputs.length === 1 ? inputs[0] : undefined),
  // The largest of one element is that element (the sum of one -0 is not: sums start from 0).
  reduceMax: ({ axes }, [x], r) => (x && axes.every((axis) => x.shape[axis] === 1) ? reshaped(x, r) : undefined),
  matmul: ({ transposeA, transposeB }, [a, b], r) => {
    const [plainA, plainB] = [unswapped(a, r), unswapped(b, r)]
    if (!a || !b || (!plainA && !plainB)) return undefined
    return r.emit('matmul', { transposeA: transposeA !== Boolean(plainA), transposeB: transposeB !== Boolean(plainB) }, [plainA ?? a, plainB ?? b])
  },
}
