// Cases of pools, normalisations and resampling.

import type { Padding2d, ResizeMode, Size2d, StaticShape } from '@dynconv/core'
import { type Data, filledWith, integers, positive, shifted, spread, withElements } from './data.ts'
import { asFloat16, type Case, opCase } from './define.ts'

interface Window {
  readonly x: StaticShape
  readonly kernelSize: Size2d
  readonly stride: Size2d
  readonly padding: Padding2d
}

// Side by side, overlapping, with gaps; padding on every side, each side its own; a window as large as the image; rows that no
// window touches; blocked channels.
const windows: readonly Window[] = [
  { x: [2, 3, 6, 8], kernelSize: [2, 2], stride: [2, 2], padding: [0, 0, 0, 0] },
  { x: [2, 3, 7, 7], kernelSize: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] },
  { x: [2, 3, 7, 6], kernelSize: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1] },
  { x: [2, 2, 8, 7], kernelSize: [3, 2], stride: [2, 1], padding: [0, 2, 1, 0] },
  { x: [1, 2, 9, 9], kernelSize: [2, 2], stride: [3, 4], padding: [0, 0, 0, 0] },
  { x: [1, 2, 5, 4], kernelSize: [5, 4], stride: [1, 1], padding: [0, 0, 0, 0] },
  { x: [1, 2, 5, 5], kernelSize: [4, 4], stride: [2, 2], padding: [3, 3, 3, 3] },
  { x: [2, 2, 5, 6], kernelSize: [1, 1], stride: [2, 2], padding: [0, 0, 0, 0] },
  { x: [1, 1, 1, 1], kernelSize: [1, 1], stride: [1, 1], padding: [0, 0, 0, 0] },
  { x: [1, 16, 9, 9], kernelSize: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] },
  { x: [1, 17, 5, 5], kernelSize: [2, 2], stride: [1, 1], padding: [0, 1, 0, 1] },
  { x: [0, 3, 4, 4], kernelSize: [2, 2], stride: [2, 2], padding: [0, 0, 0, 0] },
]

function poolCases(): readonly Case[] {
  const max = (x: Data, { kernelSize, stride, padding }: Window, options = {}): Case => opCase('maxPool2d', { kernelSize, stride, padding }, { x }, options)
  const average = (x: Data, { kernelSize, stride, padding }: Window, countIncludePad: boolean, options = {}): Case =>
    opCase('avgPool2d', { kernelSize, stride, padding, countIncludePad }, { x }, options)
  const [first, overlapping] = windows
  if (!first || !overlapping) throw new RangeError('pools: there are no windows')
  const low = Number.NEGATIVE_INFINITY
  return [
    ...windows.map((w) => max(spread(w.x), w)),
    ...windows.flatMap((w) => [true, false].map((included) => average(spread(w.x), w, included))),
    // The first of those that tie takes the gradient.
    max(integers(overlapping.x), overlapping, { orders: 1, differences: false }),
    max(filledWith(1, [1, 1, 6, 6]), overlapping, { orders: 1, differences: false }),
    // NaN is larger than every number, in the result and in the gradient; a window of nothing but -infinity is one.
    max(withElements(spread([1, 2, 6, 6]), { 8: Number.NaN, 9: Number.NaN, 40: Number.POSITIVE_INFINITY }, 'NaN'), overlapping, { orders: 1, differences: false }),
    max(filledWith(low, [1, 1, 4, 4]), overlapping, { orders: 1, differences: false }),
    average(withElements(spread([1, 2, 6, 6]), { 8: Number.NaN, 40: Number.POSITIVE_INFINITY }, 'NaN'), overlapping, true, { orders: 0 }),
    ...asFloat16([max(spread(overlapping.x, { dtype: 'float16' }), overlapping), ...[true, false].map((included) => average(spread(overlapping.x, { dtype: 'float16' }), overlapping, included))]),
  ]
}

const normed: readonly StaticShape[] = [
  [4, 3, 5, 5],
  [1, 3, 4, 5],
  [6, 4],
  [2, 3, 7],
  [2, 16, 4, 4],
  [3, 17, 3, 3],
  [2, 1, 3, 3],
  [2, 2, 2, 3, 2],
]

function normCases(): readonly Case[] {
  const vector = (x: StaticShape, dtype: 'float32' | 'float16' = 'float32'): Data => positive([x[1] ?? 0], dtype)
  const large = { orders: 1, differences: false } as const
  const batch = (x: Data, epsilon: number, options = {}): Case =>
    opCase('batchNorm', { epsilon }, { x, gamma: positive([x.shape[1] ?? 0], x.dtype), beta: spread([x.shape[1] ?? 0], { dtype: x.dtype }) }, options)
  const inference = (x: Data, epsilon: number, options = {}): Case => {
    const channels = [x.shape[1] ?? 0]
    const inputs = { x, gamma: spread(channels, { dtype: x.dtype }), beta: spread(channels, { dtype: x.dtype }), mean: spread(channels, { dtype: x.dtype }), variance: positive(channels, x.dtype) }
    return opCase('batchNormInference', { epsilon }, inputs, options)
  }
  const group = (x: Data, groups: number, options = {}): Case =>
    opCase('groupNorm', { groups, epsilon: 1e-5 }, { x, gamma: positive([x.shape[1] ?? 0], x.dtype), beta: spread([x.shape[1] ?? 0], { dtype: x.dtype }) }, options)
  return [
    ...normed.map((shape) => batch(spread(shape), 1e-5, (shape[1] ?? 0) > 8 ? large : {})),
    batch(spread([4, 3, 3, 3]), 0.1),
    // A variance taken as E[x^2] - E[x]^2 loses everything here.
    batch(shifted([4, 3, 4, 4], 1000), 1e-5, large),
    batch(filledWith(2.5, [2, 3, 3, 3]), 1e-3, { orders: 0 }),
    batch(withElements(spread([2, 3, 3, 3]), { 4: Number.NaN }, 'NaN'), 1e-5, { orders: 0 }),
    ...normed.map((shape) => inference(spread(shape), 1e-5, (shape[1] ?? 0) > 8 ? large : {})),
    inference(spread([0, 3, 2, 2]), 1e-5, large),
    inference(withElements(spread([2, 3, 3, 3]), { 4: Number.NaN, 30: Number.POSITIVE_INFINITY }, 'NaN'), 1e-5, { orders: 0 }),
    ...[1, 2, 3, 6].map((groups) => group(spread([2, 6, 4, 3]), groups)),
    group(spread([3, 4]), 2),
    group(spread([2, 4, 7]), 4),
    group(spread([1, 32, 3, 3]), 8, large),
    group(spread([0, 4, 2, 2]), 2, large),
    group(shifted([2, 4, 4, 4], 1000), 2, large),
    opCase('batchNormGrad', { epsilon: 1e-3 }, { x: spread([3, 2, 2, 2]), gamma: vector([3, 2]), mean: spread([2]), variance: positive([2]), dy: spread([3, 2, 2, 2]) }),
    ...asFloat16([
      batch(spread([4, 3, 4, 4], { dtype: 'float16' }), 1e-3),
      inference(spread([4, 3, 4, 4], { dtype: 'float16' }), 1e-3),
      group(spread([2, 6, 4, 3], { dtype: 'float16' }), 2),
    ]),
  ]
}

// Up, down, by fractions, to and from one pixel, each axis its own way, and not at all.
const resizes: readonly (readonly [x: StaticShape, size: Size2d])[] = [
  [[2, 3, 4, 5], [8, 10]],
  [[2, 3, 8, 6], [4, 3]],
  [[1, 2, 5, 4], [7, 9]],
  [[1, 2, 7, 9], [5, 4]],
  [[1, 2, 4, 6], [9, 2]],
  [[2, 2, 3, 4], [1, 1]],
  [[2, 2, 1, 1], [3, 4]],
  [[1, 3, 4, 5], [4, 5]],
  [[1, 16, 3, 3], [6, 6]],
  [[1, 1, 2, 3], [11, 13]],
  [[0, 2, 3, 3], [6, 6]],
]

function resizeCases(): readonly Case[] {
  return (['nearest', 'bilinear'] as const).flatMap((mode: ResizeMode) => [
    ...resizes.map(([x, size]) => opCase('resize', { size, mode }, { x: spread(x) })),
    opCase('resize', { size: [6, 5], mode }, { x: withElements(spread([1, 1, 3, 5]), { 7: Number.NaN }, 'NaN') }, { orders: 0 }),
    ...asFloat16([opCase('resize', { size: [7, 6], mode }, { x: spread([1, 2, 4, 5], { dtype: 'float16' }) })]),
  ])
}

/** All of them. */
export function imageCases(): readonly Case[] {
  return [...poolCases(), ...normCases(), ...resizeCases()]
}
