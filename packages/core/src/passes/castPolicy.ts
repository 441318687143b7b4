// Mixed precision: the products of a network (convolutions, matrix products) take their inputs in float16 and give their
// results back in float32. Everything else stays float32: master weights and the optimizer, norms, softmax, reductions,
// losses (Micikevicius et al. 2018, "Mixed Precision Training"). The loss is scaled by the
// trainer (train/lossScale.ts).

import { ValueError } from '../backend/errors.ts'
import { type Graph, typeOf } from '../graph/graph.ts'
import type { OpName } from '../ops/attrs.ts'
import { ops as allOps } from '../ops/table.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { copyNode, rewrite, type Rewriting } from './rewrite.ts'

/** The ops that are worth float16: those whose work grows faster than their data. */
export const productOps: readonly OpName[] = [
  'matmul',
  'conv2d',
  'conv2dInputGrad',
  'conv2dFilterGrad',
  'dynamicConv2d',
  'dynamicConv2dInputGrad',
  'dynamicConv2dKernelGrad',
]

/** What to compute in which precision. */
export interface CastPolicy {
  /** The dtype in which `ops` take their inputs. */
  readonly compute: 'float16'
  /** `productOps` unless given. */
  readonly ops?: readonly OpName[]
}

/**
 * The graph with the float32 inputs of `ops` cast to float16, and their results back. Types at the edge (inputs, outputs,
 * states) do not change; a value that several ops read is cast once.
 *
 * @example castPolicy(graph, { compute: 'float16' })
 * @throws ValueError for another dtype or an op that does not exist
 */
export function castPolicy(graph: Graph, policy: CastPolicy): Graph {
  if (policy.compute !== 'float16') throw new ValueError(`castPolicy: compute must be float16, got ${String(policy.compute)}`)
  const chosen = new Set(policy.ops ?? productOps)
  for (const op of chosen) if (!Object.hasOwn(allOps, op)) throw new ValueError(`castPolicy: there is no op named ${String(op)}`)
  const halves = new Map<number, Tensor>()
  return rewrite(graph, (node, inputs, rewriting) => {
    if (!chosen.has(node.op) || !inputs.some((t) => t.dtype === 'float32')) return undefined
    const halved = inputs.map((t) => (t.dtype === 'float32' ? half(t, rewriting, halves) : t))
    const types = node.outputs.map((id) => typeOf(graph, id))
    return copyNode(rewriting.builder, node, halved).map((t, i) => t.cast(types[i]?.dtype ?? t.dtype))
  })
}

// A value that was float16 before it was cast is taken as it was: between two products nothing needs to be rounded twice.
function half(t: Tensor, { builder, producer }: Rewriting, halves: Map<number, Tensor>): Tensor {
  const node = producer(t)
  const [id] = node?.op === 'cast' ? node.inputs : []
  const source = id === undefined ? undefined : builder.tensor(id)
  if (source?.dtype === 'float16') return source
  const known = halves.get(t.id)
  if (known) return known
  const cast = t.cast('float16')
  halves.set(t.id, cast)
  return cast
}
