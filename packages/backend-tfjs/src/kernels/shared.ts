// Small helpers that the kernels of every family use.

import { type DType, fromNumbers, GraphError, type KernelTable, type OpName } from '@dynconv/core'
import type { Primitives, Value } from '../primitives.ts'

/** Kernels of some ops, over any primitives. */
export type Kernels<V extends Value, K extends OpName> = Pick<KernelTable<V>, K>

/** The i-th of a list that must have it. */
export function nth<T>(list: readonly T[], i: number): T {
  const item = list[i]
  if (item === undefined) throw new GraphError(`tfjs: a kernel misses its argument ${i} of ${list.length}`)
  return item
}

/** The product of sizes. */
export function product(sizes: readonly number[]): number {
  return sizes.reduce((a, b) => a * b, 1)
}

/** 0 to n - 1. */
export function range(n: number): readonly number[] {
  return Array.from({ length: n }, (_, i) => i)
}

/** A scalar constant of x's dtype, or of another. */
export function scalar<V extends Value>(p: Primitives<V>, value: number, dtype: DType): V {
  return p.constant(fromNumbers(dtype, [], [value]))
}

/** A tensor of one number. */
export function filled<V extends Value>(p: Primitives<V>, value: number, shape: readonly number[], dtype: DType): V {
  if (product(shape) === 0) return p.constant(fromNumbers(dtype, shape, []))
  const one = scalar(p, value, dtype)
  return shape.length === 0 ? one : p.broadcast(one, shape)
}

/** Sizes equal in number and value. */
export function sameSizes(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i])
}

/** The shape to which two stretch together, aligned at the last axis (core has checked that they do). */
export function broadcastTogether(a: readonly number[], b: readonly number[]): readonly number[] {
  const rank = Math.max(a.length, b.length)
  return range(rank).map((i) => {
    const [x, y] = [a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1]
    return x === 1 ? y : x
  })
}
