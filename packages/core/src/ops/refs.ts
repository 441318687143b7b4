// What the plain float64 meanings (`reference`) of the ops share: making results, and walking over indices. Obvious, not
// fast. Not for backends, and not the checks of `infer` (checks.ts).

import type { DType } from '../tensor/dtype.ts'
import { sameShape, type StaticShape, sizeOf, stridesOf } from '../tensor/shape.ts'
import type { RefTensor } from './define.ts'

/** A result of `shape`, filled with `fill`. */
export function refTensor(shape: StaticShape, fill: number = 0): RefTensor {
  return { shape, data: new Float64Array(sizeOf(shape)).fill(fill) }
}

/** A result of `shape` over the numbers given. */
export function refOf(shape: StaticShape, values: ArrayLike<number>): RefTensor {
  if (values.length !== sizeOf(shape)) throw new RangeError(`reference: shape [${shape.join(', ')}] needs ${sizeOf(shape)} elements, got ${values.length}`)
  return { shape, data: Float64Array.from(values) }
}

/** `f` of every element. */
export function mapRef(x: RefTensor, f: (value: number, flat: number) => number): RefTensor {
  return { shape: x.shape, data: x.data.map(f) }
}

/** An element by its flat index. */
export function at(data: ArrayLike<number>, flat: number): number {
  const value = data[flat]
  if (value === undefined) throw new RangeError(`reference: index ${flat} is outside ${data.length} elements`)
  return value
}

/** Adds to an element by its flat index. */
export function addAt(data: Float64Array, flat: number, value: number): void {
  data[flat] = at(data, flat) + value
}

/** The coordinates of the flat, row-major index `flat` of `shape`. */
export function unravel(shape: StaticShape, flat: number): number[] {
  const index = new Array<number>(shape.length)
  let rest = flat
  for (let i = shape.length - 1; i >= 0; i--) {
    const d = shape[i] ?? 1
    index[i] = rest % d
    rest = Math.floor(rest / d)
  }
  return index
}

/** The flat index of coordinates: their sum, weighted by `strides`. */
export function ravel(strides: readonly number[], index: readonly number[]): number {
  return index.reduce((sum, i, axis) => sum + i * (strides[axis] ?? 0), 0)
}

/** Visits every index of `shape` in row-major order, with its coordinates. */
export function forEachIndex(shape: StaticShape, visit: (index: readonly number[], flat: number) => void): void {
  const size = sizeOf(shape)
  for (let flat = 0; flat < size; flat++) visit(unravel(shape, flat), flat)
}

/**
 * For a tensor of shape `from` that broadcasts to `to`: the map from a flat index of `to` to the flat index of `from`
 * that it reads. Aligned at the last axis; an axis that `from` lacks or that has size 1 there has stride 0. (Read the
 * other way it is a reduction: from `to` to where each element is added up.)
 */
export function broadcastIndexer(from: StaticShape, to: StaticShape): (flat: number) => number {
  if (sameShape(from, to)) return (flat) => flat
  const lead = to.length - from.length
  const own = stridesOf(from)
  const strides = to.map((_, i) => (i < lead || from[i - lead] === 1 ? 0 : (own[i - lead] ?? 0)))
  return (flat) => ravel(strides, unravel(to, flat))
}

/** `shape` cut at `axis`: how many elements lie outside, along and inside it. Flat index = (o * size + i) * inner + j. */
export function blocks(shape: StaticShape, axis: number): { readonly outer: number; readonly size: number; readonly inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), size: shape[axis] ?? 1, inner: sizeOf(shape.slice(axis + 1)) }
}

/** Visits every line along `axis`: `flat(i)` is the flat index of its i-th element, `line` counts the lines in order. */
export function forEachLine(shape: StaticShape, axis: number, visit: (flat: (i: number) => number, size: number, line: number) => void): void {
  const { outer, size, inner } = blocks(shape, axis)
  for (let o = 0; o < outer; o++) {
    for (let j = 0; j < inner; j++) visit((i) => (o * size + i) * inner + j, size, o * inner + j)
  }
}

/** A float's number as int32: truncated; beyond the range the nearest bound, NaN 0 (as WGSL; engines differ there). */
export function toInt32(value: number): number {
  if (Number.isNaN(value)) return 0
  return Math.min(Math.max(Math.trunc(value), -(2 ** 31)), 2 ** 31 - 1) | 0
}

/** What a sum or product of int32 does beyond its range: it wraps. Floats stay as they are. */
export function wrapTo(dtype: DType): (value: number) => number {
  return dtype === 'int32' ? (v) => v | 0 : (v) => v
}
