// Cases of the elementwise ops: corners of IEEE 754, broadcasting, every dtype.

import { customGradient, type DType, fromNumbers, type OpName, tensor, type Tensor } from '@dynconv/core'
import type { Case } from './compare.ts'
import { halves, randn } from './compare.ts'

type Cases<K extends OpName> = { readonly [N in K]: readonly Case[] }

const [nan, inf] = [Number.NaN, Number.POSITIVE_INFINITY]
// Long enough for vector code and its remainder.
const corners = [nan, -inf, inf, -1, 0, -0, 1, 0.5, -2.5, 3e38, -3e38, 1e-30, 7, -7, 2, nan, 0.1]
const x = tensor(corners)
// Every corner with every other.
const [a, b] = [tensor(corners, [corners.length, 1]), tensor(corners, [1, corners.length])]
const ints = fromNumbers('int32', [8], [0, 1, -1, 7, -7, 2147483647, -2147483648, 70000])
const [ia, ib] = [fromNumbers('int32', [8, 1], ints.data), fromNumbers('int32', [1, 8], ints.data)]
const [ba, bb] = [fromNumbers('bool', [2, 1], [0, 1]), fromNumbers('bool', [1, 2], [0, 1])]

const unary = (f: (t: Tensor) => Tensor, more: readonly Case[] = []): readonly Case[] => [
  { name: 'corners', fn: f, inputs: [x] },
  { name: 'normal numbers', fn: f, inputs: [randn([3, 5, 7])] },
  { name: 'scalar', fn: f, inputs: [tensor(0.75)] },
  { name: 'empty', fn: f, inputs: [tensor([], [2, 0, 3])] },
  { name: 'float16', fn: (t) => f(t.cast('float16')), inputs: [halves([4, 4])], roundings: 4 },
  ...more,
]

const binary = (f: (s: Tensor, t: Tensor) => Tensor): readonly Case[] => [
  { name: 'corners', fn: f, inputs: [a, b] },
  { name: 'same shape', fn: f, inputs: [randn([3, 1, 5], 1), randn([3, 1, 5], 2)] },
  { name: 'missing axes', fn: f, inputs: [randn([2, 3, 4, 5], 1), randn([4, 1], 2)] },
  { name: 'both stretch', fn: f, inputs: [randn([2, 1, 4, 1, 2, 1], 1), randn([3, 1, 5, 1, 6], 2)] },
  { name: 'scalars', fn: f, inputs: [tensor(2), tensor(3)] },
  { name: 'empty against 1', fn: f, inputs: [tensor([], [0, 3]), tensor([1, 2, 3], [1, 3])] },
  { name: 'float16', fn: (s, t) => f(s.cast('float16'), t.cast('float16')), inputs: [halves([4, 4], 1), halves([4], 2)] },
]

const int32 = (f: (s: Tensor, t: Tensor) => Tensor): readonly Case[] => [{ name: 'int32, wrapping', fn: f, inputs: [ia, ib] }]
const intUnary = (f: (t: Tensor) => Tensor): readonly Case[] => [{ name: 'int32', fn: f, inputs: [ints] }]

const casts: readonly (readonly [DType, DType])[] = (['float32', 'float16', 'int32', 'bool'] as const).flatMap((from) =>
  (['float32', 'float16', 'int32', 'bool'] as const).map((to) => [from, to] as const),
)

const comparisons = ['equal', 'notEqual', 'less', 'lessEqual', 'greater', 'greaterEqual'] as const

/** Nothing cancels in these: every element may be judged by its own magnitude. */
export const elementwiseCases: Cases<
  | 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'compare' | 'select' | 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh'
  | 'sigmoid' | 'relu' | 'clamp' | 'cast' | 'stopGradient' | 'customGradient'
> = {
  add: [...binary((s, t) => s.add(t)), ...int32((s, t) => s.add(t))],
  sub: [...binary((s, t) => s.sub(t)), ...int32((s, t) => s.sub(t))],
  mul: [...binary((s, t) => s.mul(t)), ...int32((s, t) => s.mul(t))],
  div: binary((s, t) => s.div(t)),
  min: [...binary((s, t) => s.min(t)), ...int32((s, t) => s.min(t))],
  max: [...binary((s, t) => s.max(t)), ...int32((s, t) => s.max(t))],
  pow: binary((s, t) => s.pow(t)),
  compare: comparisons.flatMap((kind): readonly Case[] => [
    ...binary((s, t) => s.compare(kind, t)),
    ...int32((s, t) => s.compare(kind, t)),
    ...(kind === 'equal' || kind === 'notEqual' ? [{ name: 'bool', fn: (s: Tensor, t: Tensor) => s.compare(kind, t), inputs: [ba, bb] }] : []),
  ]),
  select: [
    { name: 'corners', fn: (s, t) => s.greater(0).select(s, t), inputs: [a, b] },
    { name: 'all stretch', fn: (c, s, t) => c.select(s, t), inputs: [fromNumbers('bool', [2, 1, 1], [0, 1]), randn([3, 1], 1), randn([4], 2)] },
    { name: 'int32', fn: (c, s, t) => c.select(s, t), inputs: [fromNumbers('bool', [8, 1], [0, 1, 0, 1, 1, 1, 0, 0]), ia, ib] },
    { name: 'bool', fn: (c, s, t) => c.select(s, t), inputs: [fromNumbers('bool', [2, 1, 1], [0, 1]), ba, bb] },
    { name: 'numbers', fn: (c) => c.select(1, 2), inputs: [ba] },
    { name: 'float16', fn: (c, s) => c.select(s.cast('float16'), 0), inputs: [fromNumbers('bool', [2, 1, 1], [0, 1]), halves([3, 1], 1)] },
    { name: "relu's gradient", fn: reluGradient, inputs: [randn([4, 33], 1), randn([4, 33], 2)] },
    { name: "relu's gradient, tiny and infinite", fn: reluGradient, inputs: [tensor([1.2e-38, -1.2e-38, 0, inf, -inf]), tensor([1, 1, 1, 1, 1])] },
    { name: "relu's gradient, stretched", fn: reluGradient, inputs: [randn([4, 33], 1), tensor(2)] },
    { name: "relu's gradient, float16", fn: (s, g) => reluGradient(s.cast('float16'), g.cast('float16')), inputs: [halves([4, 33], 1), halves([4, 33], 2)] },
    { name: 'like relu, against 1', fn: (s, g) => s.relu().greater(1).select(g, 0), inputs: [randn([4, 33], 1), randn([4, 33], 2)] },
    { name: 'like relu, otherwise 1', fn: (s, g) => s.relu().greater(0).select(g, 1), inputs: [randn([4, 33], 1), randn([4, 33], 2)] },
    { name: 'like relu, int32', fn: (s) => s.relu().greater(0).select(s.mul(3), 0), inputs: [ints] },
    { name: 'like relu, of another dtype', fn: (s, g) => s.relu().greater(0).select(g, 0), inputs: [randn([8]), ints] },
  ],
  neg: [...unary((t) => t.neg()), ...intUnary((t) => t.neg())],
  abs: [...unary((t) => t.abs()), ...intUnary((t) => t.abs())],
  exp: unary((t) => t.exp()),
  log: unary((t) => t.log()),
  sqrt: unary((t) => t.sqrt()),
  rsqrt: unary((t) => t.rsqrt()),
  tanh: unary((t) => t.tanh(), [{ name: 'small', fn: (t) => t.tanh(), inputs: [tensor([1e-3, -1e-5, 1e-10, 1e-38])] }]),
  sigmoid: unary((t) => t.sigmoid()),
  relu: [...unary((t) => t.relu()), ...intUnary((t) => t.relu())],
  clamp: [
    ...unary((t) => t.clamp(-1, 0.5)),
    ...unary((t) => t.clamp(0, inf)),
    ...unary((t) => t.clamp(-inf, 6)),
    ...intUnary((t) => t.clamp(-3, 7)),
  ],
  cast: casts
    .filter(([from, to]) => from !== to)
    .map(([from, to]) => ({
      name: `${from} to ${to}`,
      // Floats beyond the range of int32 are left out: engines differ there.
      fn: (t: Tensor) => t.cast(from).cast(to),
      inputs: [tensor([-3.75, -1, -0.25, 0, 0.5, 1, 2.984375, 1000, 0.125])],
      roundings: 1,
    }))
    .concat([
      { name: 'NaN and infinity to bool', fn: (t: Tensor) => t.cast('bool'), inputs: [x], roundings: 1 },
      { name: 'large int32', fn: (t: Tensor) => t.cast('float32'), inputs: [ints], roundings: 1 },
    ]),
  stopGradient: [{ name: 'input as output', fn: (t) => t.stopGradient(), inputs: [x] }],
  customGradient: [{ name: 'passes its outputs', fn: (t) => customGradient([t], ([s]) => (s ? [s.exp(), s.neg()] : []), (g) => g), inputs: [randn([3])] }],
}

// As core's rule writes it.
function reluGradient(s: Tensor, g: Tensor): Tensor {
  return s.relu().greater(0).select(g, 0)
}
