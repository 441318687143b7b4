// For tests that compare two ways to compute the same: an op with its decomposition, say.

import { GraphBuilder } from '../graph/builder.ts'
import { trace, type TraceResult } from '../graph/trace.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, RefTensor } from '../ops/define.ts'
import { evaluate } from '../reference/evaluate.ts'
import { formatShape, sameShape } from '../tensor/shape.ts'
import { Tensor } from '../tensor/tensor.ts'

/** `fn` with its last node, whose outputs it must return, replaced by that op's `decompose`. */
export function decomposed(fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[]): (...inputs: Tensor[]) => readonly Tensor[] {
  return (...inputs) => {
    const result = fn(...inputs)
    const list = result instanceof Tensor ? [result] : result
    const builder = list[0]?.graph
    const node = builder instanceof GraphBuilder ? builder.nodes.at(-1) : undefined
    if (!(builder instanceof GraphBuilder) || !node) throw new RangeError('decomposed: fn made no node')
    if (list.some((t, i) => t.id !== node.outputs[i])) throw new RangeError(`decomposed: fn does not return the outputs of its last node, ${node.op}`)
    const { decompose } = builder.ops[node.op] as OpDef<OpName>
    if (!decompose) throw new RangeError(`decomposed: ${node.op} has no decomposition`)
    return decompose(
      node.attrs,
      node.inputs.map((id) => builder.tensor(id)),
    )
  }
}

/** The results of `fn` on float64 `inputs`, by the oracle. */
export function run(fn: (...inputs: Tensor[]) => TraceResult, inputs: readonly RefTensor[]): readonly RefTensor[] {
  return evaluate(trace(fn, { inputs }).graph, inputs).outputs
}

/**
 * The largest difference between elements of two lists of results, relative to the largest element of its tensor in
 * `wanted`. Infinities and NaN differ by infinity unless they are the same.
 *
 * @throws RangeError when counts or shapes differ
 */
export function largestDifference(got: readonly RefTensor[], wanted: readonly RefTensor[]): number {
  if (got.length !== wanted.length) throw new RangeError(`compare: ${got.length} results instead of ${wanted.length}`)
  return wanted.reduce((worst, b, k) => {
    const a = got[k]
    if (!a || !sameShape(a.shape, b.shape)) throw new RangeError(`compare: result ${k} is ${formatShape(a?.shape ?? [])} instead of ${formatShape(b.shape)}`)
    const scale = b.data.reduce((largest, v) => (Number.isFinite(v) ? Math.max(largest, Math.abs(v)) : largest), Number.MIN_VALUE)
    return b.data.reduce((w, v, i) => Math.max(w, difference(a.data[i], v) / scale), worst)
  }, 0)
}

function difference(a: number | undefined, b: number): number {
  if (a === b || (Number.isNaN(a) && Number.isNaN(b))) return 0
  return a !== undefined && Number.isFinite(a) && Number.isFinite(b) ? Math.abs(a - b) : Number.POSITIVE_INFINITY
}
