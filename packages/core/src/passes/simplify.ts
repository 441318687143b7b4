// Removes what computes nothing (x * 1, a reshape of a reshape, stopGradient once gradients are taken) by the rules of
// identities.ts. What a rule leaves unread stays for `dce` to remove.

import type { Graph } from '../graph/graph.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, ValueType } from '../ops/define.ts'
import { only, Tensor } from '../tensor/tensor.ts'
import { type Identity, identities, type Rewriter } from './identities.ts'
import { rewrite, type Rewriting } from './rewrite.ts'

/** The graph with every op left out or made simpler where that changes no result, not even NaN, infinities or -0. */
export function simplify(graph: Graph): Graph {
  return rewrite(graph, (node, inputs, rewriting) => apply(node.op, node.attrs, inputs, rewriting))
}

// What stands for `op` on `inputs`: what its rule says, whose own ops go the same way; undefined: the op itself.
function apply<K extends OpName>(op: K, attrs: Parameters<Identity<K>>[0], inputs: readonly Tensor[], rewriting: Rewriting): readonly Tensor[] | undefined {
  const rule: Identity<K> | undefined = identities[op]
  if (!rule) return undefined
  const { builder, producer } = rewriting
  const def: OpDef<K> = builder.ops[op]
  const inferred = def.infer(attrs, inputs)
  const type = Array.isArray(inferred) ? (inferred as readonly ValueType[])[0] : (inferred as ValueType)
  if (!type) return undefined
  const emit: Rewriter['emit'] = (next, nextAttrs, nextInputs) => only(apply(next, nextAttrs, nextInputs, rewriting) ?? builder.emit(next, nextAttrs, nextInputs))
  const result = rule(attrs, inputs, { builder, producer, emit, type })
  return result instanceof Tensor ? [result] : result
}
