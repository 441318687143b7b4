// Cases of the ops that move elements, of those that index, and of those that make elements.

import { constant, type DType, dtypes, fromNumbers, iota, type StaticShape } from '@dynconv/core'
import { bits, type Data, exactly, indices, integers, spread } from './data.ts'
import { asFloat16, type Case, defineCase, type OpCaseOptions, opCase } from './define.ts'

// What is moved does not matter, so each op is tried once with every dtype.
const samples: { readonly [D in DType]: (shape: StaticShape) => Data } = {
  float32: (shape) => spread(shape),
  float16: (shape) => spread(shape, { dtype: 'float16' }),
  int32: (shape) => integers(shape, { low: -99, high: 99, dtype: 'int32' }),
  bool: bits,
}

function inEveryDType(make: (x: (shape: StaticShape) => Data, options: OpCaseOptions) => Case): readonly Case[] {
  return dtypes.flatMap((dtype) => {
    const c = make(samples[dtype], dtype === 'int32' || dtype === 'bool' ? { orders: 0 } : {})
    return dtype === 'float16' ? asFloat16([c]) : [c]
  })
}

const reshapes: readonly (readonly [StaticShape, StaticShape])[] = [
  [[2, 3, 4], [4, 6]],
  [[2, 3, 4], [24]],
  [[24], [2, 1, 3, 1, 4, 1]],
  [[], [1, 1]],
  [[1], []],
  [[0, 3], [3, 0, 5]],
  [[2, 3], [2, 3]],
]

const permutations: readonly (readonly [StaticShape, readonly number[]])[] = [
  [[2, 3], [1, 0]],
  [[2, 3, 4], [0, 2, 1]],
  [[2, 3, 4], [1, 2, 0]],
  [[2, 3, 4], [2, 0, 1]],
  [[2, 3, 4, 5], [0, 2, 3, 1]],
  [[2, 3, 4, 5], [0, 3, 1, 2]],
  [[2, 3, 4, 5], [1, 0, 3, 2]],
  [[2, 1, 3, 2, 1, 2], [5, 3, 1, 0, 2, 4]],
  [[17, 33], [1, 0]],
  [[2, 0, 3], [2, 1, 0]],
  [[], []],
]

const stretches: readonly (readonly [StaticShape, StaticShape])[] = [
  [[], [2, 3]],
  [[1], [5]],
  [[3, 1], [3, 4]],
  [[1, 3], [4, 3]],
  [[4], [2, 3, 4]],
  [[2, 1, 3, 1], [5, 2, 2, 3, 4]],
  [[1, 1], [0, 3]],
  [[2, 3], [2, 3]],
]

interface Slice {
  readonly shape: StaticShape
  readonly starts: readonly number[]
  readonly sizes: readonly number[]
  readonly steps: readonly number[]
}

const slices: readonly Slice[] = [
  { shape: [5], starts: [1], sizes: [3], steps: [1] },
  { shape: [7], starts: [1], sizes: [3], steps: [2] },
  { shape: [7], starts: [6], sizes: [7], steps: [-1] },
  { shape: [7], starts: [5], sizes: [3], steps: [-2] },
  { shape: [4, 5], starts: [0, 2], sizes: [4, 3], steps: [1, 1] },
  { shape: [4, 5, 6], starts: [3, 0, 1], sizes: [2, 3, 2], steps: [-3, 2, 3] },
  { shape: [2, 3, 6, 7], starts: [0, 1, 1, 0], sizes: [2, 2, 3, 4], steps: [1, 1, 2, 2] },
  { shape: [4, 5], starts: [0, 5], sizes: [4, 0], steps: [1, 1] },
  { shape: [4, 5], starts: [0, 0], sizes: [4, 5], steps: [1, 1] },
  { shape: [2, 2, 2, 2, 2, 3], starts: [1, 0, 0, 0, 0, 2], sizes: [1, 2, 2, 2, 2, 2], steps: [1, 1, 1, 1, 1, -2] },
  { shape: [], starts: [], sizes: [], steps: [] },
]

interface Pad {
  readonly shape: StaticShape
  readonly before: readonly number[]
  readonly after: readonly number[]
  readonly value: number
}

const pads: readonly Pad[] = [
  { shape: [3], before: [2], after: [1], value: 0 },
  { shape: [2, 3], before: [0, 1], after: [1, 0], value: 0.5 },
  { shape: [2, 2, 3, 4], before: [0, 0, 1, 2], after: [0, 0, 3, 0], value: 0 },
  { shape: [2, 2, 3, 4], before: [1, 0, 0, 0], after: [0, 1, 0, 1], value: Number.NEGATIVE_INFINITY },
  { shape: [2, 0], before: [1, 1], after: [0, 1], value: -3 },
  { shape: [2, 3], before: [0, 0], after: [0, 0], value: 1 },
  { shape: [], before: [], after: [], value: 1 },
]

interface Concat {
  readonly axis: number
  readonly shapes: readonly StaticShape[]
}

const concats: readonly Concat[] = [
  { axis: 0, shapes: [[2], [3]] },
  { axis: 1, shapes: [[2, 1], [2, 3], [2, 2]] },
  { axis: 0, shapes: [[1, 3], [2, 3]] },
  { axis: 2, shapes: [[2, 2, 3, 4], [2, 2, 1, 4]] },
  { axis: 3, shapes: [[2, 2, 3, 4], [2, 2, 3, 1]] },
  { axis: 1, shapes: [[2, 3], [2, 0], [2, 1]] },
  { axis: 0, shapes: [[3, 2]] },
  { axis: 1, shapes: Array.from({ length: 9 }, (_, i): StaticShape => [2, 1 + (i % 3)]) },
]

function concatCase(x: (shape: StaticShape) => Data, { axis, shapes }: Concat, options: OpCaseOptions = {}): Case {
  return opCase('concat', { axis }, Object.fromEntries(shapes.map((shape, i) => [`x${i}`, x(shape)])), options)
}

function movingCases(): readonly Case[] {
  return [
    ...reshapes.map(([from, shape]) => opCase('reshape', { shape }, { x: spread(from) })),
    ...inEveryDType((x, o) => opCase('reshape', { shape: [5, 2, 3] }, { x: x([6, 5]) }, o)),
    ...permutations.map(([shape, permutation]) => opCase('transpose', { permutation }, { x: spread(shape) })),
    ...inEveryDType((x, o) => opCase('transpose', { permutation: [0, 3, 1, 2] }, { x: x([2, 3, 2, 5]) }, o)),
    ...stretches.map(([from, shape]) => opCase('broadcastTo', { shape }, { x: spread(from) })),
    ...inEveryDType((x, o) => opCase('broadcastTo', { shape: [4, 3, 2] }, { x: x([3, 1]) }, o)),
    ...slices.map(({ shape, ...attrs }) => opCase('slice', attrs, { x: spread(shape) })),
    ...inEveryDType((x, o) => opCase('slice', { starts: [1, 5], sizes: [2, 3], steps: [1, -2] }, { x: x([3, 6]) }, o)),
    ...pads.map(({ shape, ...attrs }) => opCase('pad', attrs, { x: spread(shape) }, { differences: Number.isFinite(attrs.value) })),
    ...inEveryDType((x, o) => opCase('pad', { before: [0, 2], after: [1, 0], value: 1 }, { x: x([2, 3]) }, o)),
    ...concats.map((c) => concatCase(spread, c)),
    ...inEveryDType((x, o) => concatCase(x, { axis: 0, shapes: [[2, 3], [1, 3]] }, o)),
  ]
}

interface Gather {
  readonly x: StaticShape
  readonly axis: number
  readonly indices: StaticShape
}

const gathers: readonly Gather[] = [
  { x: [5], axis: 0, indices: [] },
  { x: [5], axis: 0, indices: [7] },
  { x: [4, 3], axis: 0, indices: [2, 3] },
  { x: [4, 3], axis: 1, indices: [5] },
  { x: [2, 3, 4, 5], axis: 2, indices: [6] },
  { x: [2, 3, 4], axis: 1, indices: [2, 2, 2] },
  { x: [4, 3], axis: 0, indices: [0] },
  { x: [2, 0, 3], axis: 2, indices: [2] },
]

// Repeated indices, indices that nobody uses, all on one element, none at all.
function scatterCases(): readonly Case[] {
  const into = (shape: StaticShape, axis: number, size: number, at: Data): Case => opCase('scatterAdd', { axis, size }, { updates: spread(shape), indices: at })
  return [
    into([7], 0, 3, indices([7], 3)),
    into([7, 2], 0, 9, indices([7], 4)),
    into([3, 6, 2], 1, 4, indices([6], 4)),
    into([2, 3, 4], 1, 5, indices([3, 4], 5)),
    into([3, 2], 0, 4, indices([], 4)),
    into([40, 3], 0, 2, exactly(new Array<number>(40).fill(1), [40], 'all 1', 'int32')),
    into([0, 3], 0, 4, indices([0], 4)),
    opCase('scatterAdd', { axis: 0, size: 3 }, { updates: integers([8], { dtype: 'int32' }), indices: indices([8], 3) }),
    opCase('scatterAdd', { axis: 0, size: 1 }, { updates: exactly([2147483647, 1, 5], [3], 'wraps', 'int32'), indices: indices([3], 1) }),
    ...asFloat16([opCase('scatterAdd', { axis: 1, size: 3 }, { updates: spread([3, 7], { dtype: 'float16' }), indices: indices([7], 3) })]),
  ]
}

function indexingCases(): readonly Case[] {
  return [
    ...gathers.map((g) => opCase('gather', { axis: g.axis }, { x: spread(g.x), indices: indices(g.indices, Math.max(1, g.x[g.axis] ?? 1)) })),
    ...inEveryDType((x, o) => opCase('gather', { axis: 1 }, { x: x([3, 6]), indices: indices([4], 6) }, o)),
    ...scatterCases(),
    ...dtypes.map((dtype) => opCase('oneHot', { depth: 5, dtype }, { indices: indices([2, 3], 5) }, { dtype })),
    // Outside there is no 1.
    opCase('oneHot', { depth: 3, dtype: 'float32' }, { indices: exactly([0, -1, 2, 3, 100], [5], 'outside', 'int32') }),
    opCase('oneHot', { depth: 1, dtype: 'float32' }, { indices: indices([], 1) }),
    opCase('oneHot', { depth: 4, dtype: 'float32' }, { indices: indices([0], 4) }),
  ]
}

const constants: { readonly [D in DType]: readonly number[] } = {
  float32: [0.1, -0, Number.NaN, Number.POSITIVE_INFINITY, -1e30, 3],
  float16: [0.1, -0, Number.NaN, Number.POSITIVE_INFINITY, -65504, 3],
  int32: [0, -1, 2147483647, -2147483648, 7, 3],
  bool: [0, 1, 1, 0, 1, 0],
}

function sourceCases(): readonly Case[] {
  const ramps: readonly (readonly [StaticShape, number])[] = [
    [[5], 0],
    [[2, 3, 4], 0],
    [[2, 3, 4], 1],
    [[2, 3, 4], 2],
    [[2, 0], 0],
  ]
  return [
    ...dtypes.flatMap((dtype) =>
      [[2, 3], [], [0]].map((shape) =>
        defineCase({
          id: `constant[${dtype} ${shape.join('x') || 'scalar'}]`,
          family: 'constant',
          dtype,
          inputs: [],
          fn: () => constant(fromNumbers(dtype, shape, constants[dtype].slice(0, shape.length ? shape.reduce((a, b) => a * b, 1) : 1))),
        }),
      ),
    ),
    ...(['float32', 'int32', 'float16'] as const).flatMap((dtype) =>
      ramps.map(([shape, axis]) => defineCase({ id: `iota[${dtype} ${shape.join('x')} axis=${axis}]`, family: 'iota', dtype, inputs: [], fn: () => iota(shape, axis, dtype) })),
    ),
    // A value that is an input comes out as it went in, and may do so twice.
    defineCase({ id: 'graph[inputs are outputs]', family: 'graph', inputs: [spread([2, 3]), bits([4])], fn: (x, b) => [x, b, x] }),
    defineCase({
      id: 'graph[an unused input, a dead node, one value twice]',
      family: 'graph',
      inputs: [spread([2, 3]), spread([4])],
      fn: (x, unused) => {
        unused.exp()
        const y = x.mul(2)
        return [y, y]
      },
    }),
  ]
}

/** All of them. */
export function shapeCases(): readonly Case[] {
  return [...movingCases(), ...indexingCases(), ...sourceCases()]
}
