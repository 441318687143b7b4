// Memory layouts: how the axes of a value stand in a TensorFlow tensor. A layout is a permutation: axis i of the tensor is
// axis layout[i] of the value. The identity is plain.

import { range } from '../kernels/shared.ts'

/** A layout. */
export type Layout = readonly number[]

/** Images [N, C, H, W] as [N, H, W, C]. */
export const nhwc: Layout = [0, 2, 3, 1]
/** Filters [O, I, kh, kw] as [kh, kw, I, O]. */
export const hwio: Layout = [2, 3, 1, 0]
/** Bases [K, O, I, kh, kw] as [K, kh, kw, I, O]. */
export const basesLayout: Layout = [0, 3, 4, 2, 1]

/** Bases [K, O, I, kh, kw] as [kh, kw, K, I, O]. */
export const tapsLayout: Layout = [3, 4, 0, 2, 1]

/** Axes as they stand. */
export function plain(rank: number): Layout {
  return range(rank)
}

/** Whether axes stand as they do in the value. */
export function isPlain(layout: Layout): boolean {
  return layout.every((axis, i) => axis === i)
}

/** A name for maps. */
export function keyOf(layout: Layout): string {
  return layout.join()
}

/** The permutation that brings a tensor from one layout to another. */
export function between(from: Layout, to: Layout): readonly number[] {
  return to.map((axis) => from.indexOf(axis))
}

/** The shape of a tensor that holds a value of `shape`. */
export function storedShape(shape: readonly number[], layout: Layout): readonly number[] {
  return layout.map((axis) => shape[axis] ?? 1)
}

/** Where an axis of the value stands in the tensor. */
export function storedAxis(axis: number, layout: Layout): number {
  return layout.indexOf(axis)
}

/** The layout of a reduction's result, whose axes `axes` are gone. */
export function withoutAxes(layout: Layout, axes: readonly number[]): Layout {
  const left = layout.filter((axis) => !axes.includes(axis))
  return left.map((axis) => axis - axes.filter((a) => a < axis).length)
}
