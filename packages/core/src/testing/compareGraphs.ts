// Whether two graphs with the same inputs, outputs and states compute the same, by the float64 oracle. For tests of passes.

import type { Graph } from '../graph/graph.ts'
import type { RefTensor } from '../ops/define.ts'
import { evaluate } from '../reference/evaluate.ts'
import { sameShape } from '../tensor/shape.ts'

/**
 * The largest difference between the outputs and the new states of `a` and `b`, relative to magnitudes above 1: 0 when
 * all are equal bit for bit, infinity where only one is NaN or infinite or shapes differ, tiny where only a zero's sign does.
 */
export function worstDifference(a: Graph, b: Graph, inputs: readonly RefTensor[], states: ReadonlyMap<string, RefTensor> = new Map()): number {
  const [left, right] = [evaluate(a, inputs, states), evaluate(b, inputs, states)]
  if (left.outputs.length !== right.outputs.length || left.states.size !== right.states.size) return Number.POSITIVE_INFINITY
  const pairs = [
    ...left.outputs.map((t, i) => [t, right.outputs[i]] as const),
    ...[...left.states].map(([name, t]) => [t, right.states.get(name)] as const),
  ]
  return Math.max(0, ...pairs.map(([x, y]) => tensorDifference(x, y)))
}

function tensorDifference(x: RefTensor, y: RefTensor | undefined): number {
  if (!y || !sameShape(x.shape, y.shape)) return Number.POSITIVE_INFINITY
  return x.data.reduce((worst, value, i) => Math.max(worst, difference(value, y.data[i] ?? Number.NaN)), 0)
}

function difference(a: number, b: number): number {
  if (Object.is(a, b)) return 0
  if (a === b) return Number.MIN_VALUE
  const relative = Math.abs(a - b) / Math.max(1, Math.abs(a))
  return Number.isFinite(relative) ? relative : Number.POSITIVE_INFINITY
}
