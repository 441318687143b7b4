// Cases of the sources, of the ops that move elements, and of those that index.

import { concat, constant, fromNumbers, iota, type OpName, tensor, type Tensor } from '@dynconv/core'
import type { Case } from './compare.ts'
import { halves, randint, randn } from './compare.ts'

type Cases<K extends OpName> = { readonly [N in K]: readonly Case[] }

const bools = fromNumbers('bool', [2, 3], [1, 0, 1, 1, 0, 0])
const ints = fromNumbers('int32', [2, 3], [1, -2, 3, 4, 5, -6])

// In float32, float16, int32 and bool.
const allTypes = (name: string, f: (t: Tensor) => Tensor): readonly Case[] => [
  { name, fn: f, inputs: [tensor([1, -2, Number.NaN, 4, Number.POSITIVE_INFINITY, 6], [2, 3])] },
  { name: `${name}, float16`, fn: (t) => f(t.cast('float16')), inputs: [tensor([1, -2, 3, 4, 5, 6], [2, 3])] },
  { name: `${name}, int32`, fn: f, inputs: [ints] },
  { name: `${name}, bool`, fn: f, inputs: [bools] },
]

export const movingCases: Cases<
  'constant' | 'iota' | 'reshape' | 'transpose' | 'broadcastTo' | 'slice' | 'pad' | 'concat' | 'gather' | 'scatterAdd' | 'oneHot'
> = {
  constant: [
    { name: 'of every dtype', fn: () => [constant(tensor([1, 2])), constant(ints), constant(bools), constant(fromNumbers('float16', [2], [1.5, 1e-7]))], inputs: [] },
    { name: 'empty', fn: () => [constant(tensor([], [0, 2])), constant(fromNumbers('bool', [0], []))], inputs: [] },
    { name: 'as two outputs', fn: () => { const c = constant(tensor(3)); return [c, c] }, inputs: [] },
  ],
  iota: [0, 1, 2].flatMap((axis) =>
    (['int32', 'float32', 'float16'] as const).map((dtype) => ({ name: `axis ${axis}, ${dtype}`, fn: () => iota([2, 3, 4], axis, dtype), inputs: [] })),
  ),
  reshape: [
    ...allTypes('to more axes', (t) => t.reshape([1, 3, 2, 1])),
    { name: 'to a scalar', fn: (t) => t.reshape([]), inputs: [tensor([3], [1, 1])] },
    { name: 'from a scalar', fn: (t) => t.reshape([1, 1]), inputs: [tensor(3)] },
    { name: 'empty', fn: (t) => t.reshape([0, 5]), inputs: [tensor([], [3, 0, 2])] },
  ],
  transpose: [
    ...allTypes('swap', (t) => t.transpose()),
    { name: 'identity', fn: (t) => t.transpose([0, 1]), inputs: [randn([2, 3])] },
    { name: 'scalar', fn: (t) => t.transpose([]), inputs: [tensor(2)] },
    { name: 'six axes', fn: (t) => t.transpose([3, 0, 5, 1, 4, 2]), inputs: [randn([2, 3, 1, 4, 2, 3])] },
    { name: 'empty', fn: (t) => t.transpose([1, 0, 2]), inputs: [tensor([], [2, 0, 3])] },
  ],
  broadcastTo: [
    ...allTypes('leading axes', (t) => t.broadcastTo([4, 2, 3])),
    { name: 'ones', fn: (t) => t.broadcastTo([2, 3, 4, 5]), inputs: [randn([1, 4, 1])] },
    { name: 'scalar', fn: (t) => t.broadcastTo([2, 2]), inputs: [tensor(7)] },
    { name: 'to nothing', fn: (t) => t.broadcastTo([0, 2]), inputs: [tensor([1, 2], [1, 2])] },
  ],
  slice: [
    ...allTypes('forwards', (t) => t.slice([0, 1], [2, 2])),
    ...allTypes('backwards to the first', (t) => t.slice([1, 2], [2, 3], [-1, -1])),
    { name: 'steps', fn: (t) => t.slice([1, 6, 3], [2, 3, 1], [3, -2, -1]), inputs: [randn([6, 7, 4])] },
    { name: 'step beyond the end', fn: (t) => t.slice([1], [2], [5]), inputs: [randn([7])] },
    { name: 'backwards, not to the first', fn: (t) => t.slice([5], [2], [-3]), inputs: [randn([7])] },
    { name: 'nothing', fn: (t) => t.slice([2, 0], [0, 3]), inputs: [randn([2, 3])] },
    { name: 'everything', fn: (t) => t.slice([0, 0], [2, 3]), inputs: [randn([2, 3])] },
    { name: 'of a scalar', fn: (t) => t.slice([], []), inputs: [tensor(3)] },
  ],
  pad: [
    { name: 'float32', fn: (t) => t.pad([1, 0], [0, 2], -1.5), inputs: [randn([2, 3])] },
    { name: 'infinity', fn: (t) => t.pad([1, 0], [0, 2], Number.NEGATIVE_INFINITY), inputs: [randn([2, 3])] },
    { name: 'float16', fn: (t) => t.cast('float16').pad([1, 0], [0, 2], 0.1), inputs: [halves([2, 3])], roundings: 1 },
    { name: 'int32', fn: (t) => t.pad([1, 0], [0, 2], -7), inputs: [ints] },
    { name: 'bool', fn: (t) => t.pad([1, 0], [0, 2], 1), inputs: [bools] },
    { name: 'by nothing', fn: (t) => t.pad([0, 0], [0, 0]), inputs: [ints] },
    { name: 'an empty tensor', fn: (t) => t.pad([1, 0], [1, 0], 3), inputs: [tensor([], [0, 2])] },
    { name: 'five axes', fn: (t) => t.pad([0, 1, 0, 2, 1], [1, 0, 0, 1, 0]), inputs: [randn([2, 1, 3, 2, 2])] },
    { name: 'a scalar', fn: (t) => t.pad([], []), inputs: [tensor(3)] },
  ],
  concat: [
    ...allTypes('with itself', (t) => concat([t, t], 1)),
    { name: 'sizes', fn: (s, t) => concat([s, t, s], 1), inputs: [randn([2, 1, 3], 1), randn([2, 4, 3], 2)] },
    { name: 'one', fn: (t) => concat([t], 0), inputs: [randn([2])] },
    { name: 'with an empty one', fn: (s, t) => concat([s, t], 0), inputs: [randn([2, 2]), tensor([], [0, 2])] },
    { name: 'only empty ones', fn: (s, t) => concat([s, t], 0), inputs: [tensor([], [0, 2]), tensor([], [0, 2])] },
  ],
  gather: [
    ...allTypes('columns', (t) => t.gather(t.constant(fromNumbers('int32', [4], [2, 0, 2, 1])), 1)),
    { name: 'matrix of indices', fn: (t, i) => t.gather(i, 1), inputs: [randn([2, 5, 3]), randint([2, 3], 5)] },
    { name: 'scalar index', fn: (t, i) => t.gather(i, 0), inputs: [randn([4, 3]), fromNumbers('int32', [], [2])] },
    { name: 'no indices', fn: (t, i) => t.gather(i, 0), inputs: [randn([4, 3]), fromNumbers('int32', [0], [])] },
  ],
  scatterAdd: [
    { name: 'rows, repeated', fn: (t, i) => t.scatterAdd(i, 0, 4), inputs: [randn([6, 3]), randint([6], 4)], roundings: 8 },
    { name: 'columns', fn: (t, i) => t.scatterAdd(i, 1, 4), inputs: [randn([2, 6]), randint([6], 4)], roundings: 8 },
    { name: 'middle axis', fn: (t, i) => t.scatterAdd(i, 1, 5), inputs: [randn([2, 7, 3]), randint([7], 5)], roundings: 8 },
    { name: 'matrix of indices', fn: (t, i) => t.scatterAdd(i, 1, 5), inputs: [randn([2, 4, 2, 3]), randint([4, 2], 5)], roundings: 8 },
    { name: 'scalar index', fn: (t, i) => t.scatterAdd(i, 1, 5), inputs: [randn([2, 3]), fromNumbers('int32', [], [4])] },
    { name: 'int32', fn: (t, i) => t.scatterAdd(i, 0, 4), inputs: [randint([6, 3], 100), randint([6], 4)] },
    { name: 'float16', fn: (t, i) => t.cast('float16').scatterAdd(i, 0, 4), inputs: [halves([6, 3]), randint([6], 4)], roundings: 8 },
    { name: 'nothing', fn: (t, i) => t.scatterAdd(i, 0, 4), inputs: [tensor([], [0, 3]), fromNumbers('int32', [0], [])] },
    { name: 'onto nothing', fn: (t, i) => t.scatterAdd(i, 0, 0), inputs: [tensor([], [0, 3]), fromNumbers('int32', [0], [])] },
  ],
  oneHot: (['float32', 'float16', 'int32', 'bool'] as const).flatMap((dtype): readonly Case[] => [
    { name: `indices outside, ${dtype}`, fn: (i) => i.oneHot(4, dtype), inputs: [fromNumbers('int32', [2, 3], [0, 3, 4, -1, 2, 2])] },
    { name: `scalar, ${dtype}`, fn: (i) => i.oneHot(4, dtype), inputs: [fromNumbers('int32', [], [1])] },
  ]),
}
