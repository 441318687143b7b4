// What recipes of random graphs work with: a pool of values, and means to make more. Not for use by itself: see
// randomGraph.ts.

import type { StateKind } from '../graph/graph.ts'
import type { Random } from '../random.ts'
import type { Dim, Shape, StaticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** A float32 value of the graph. */
export interface Item {
  readonly t: Tensor
  /** No element is larger in magnitude. */
  readonly bound: number
  /** Whether no rounding has touched it: it may decide something. */
  readonly exact: boolean
}

/** What recipes work with. */
export interface Kitchen {
  readonly random: Random
  readonly pool: readonly Item[]
  /** A new state. */
  readonly state: (kind: StateKind, shape: StaticShape, bound: number) => Tensor
  /** A new constant of random numbers. */
  readonly constant: (shape: StaticShape, bound: number) => Tensor
  /** A new int32 constant of numbers from 0 to below - 1. */
  readonly indices: (shape: StaticShape, below: number) => Tensor
  /** Whether a size is the batch, which must stay whole. */
  readonly isBatch: (d: Dim) => boolean
  /** Gives a state that was made here the value it has after a run. */
  readonly update: (state: Tensor, value: Tensor) => void
}

/** Adds nodes, and gives their results. */
export type Recipe = (k: Kitchen) => readonly Item[]

/** One of a list; undefined from an empty one. */
export function any<T>(random: Random, list: readonly T[]): T | undefined {
  return list[random.int(Math.max(1, list.length))]
}

/** A value of the pool that fits. */
export function pick(k: Kitchen, fits: (item: Item) => boolean = () => true): Item | undefined {
  return any(k.random, k.pool.filter(fits))
}

/** Axes that may be cut, joined or reduced, with their sizes. */
export function freeAxes(k: Kitchen, { t }: Item): readonly (readonly [axis: number, size: number])[] {
  return t.shape.flatMap((d, axis) => (typeof d === 'number' && !k.isBatch(d) && d > 0 ? [[axis, d] as const] : []))
}

/** Whether no size is unknown, or must be treated as such. */
export function known(k: Kitchen, shape: Shape): shape is StaticShape {
  return shape.every((d) => typeof d === 'number' && !k.isBatch(d))
}

/** A recipe of one value. */
export function on(make: (item: Item, k: Kitchen) => Item | undefined, fits?: (item: Item) => boolean): Recipe {
  return (k) => {
    const item = pick(k, fits)
    const result = item && make(item, k)
    return result ? [result] : []
  }
}

/** A value with the elements of another: as large, as exact. */
export function moved(item: Item, t: Tensor): Item {
  return { ...item, t }
}

/** A value that was computed. */
export function rounded(t: Tensor, bound: number): Item {
  return { t, bound, exact: false }
}
