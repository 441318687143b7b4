// Reverse-mode differentiation: appends the backward nodes to the graph that the loss lives in, from each op's own
// gradient rule. The rules are ops themselves, so the result can be differentiated again, to any order.

import { DTypeError, GraphError, ShapeError } from '../backend/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import type { Node } from '../graph/graph.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef } from '../ops/define.ts'
import { isFloat } from '../tensor/dtype.ts'
import { formatShape, sameShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/**
 * The gradients of `loss` with respect to each of `wrt` (zeros where the loss does not depend on it).
 *
 * @param loss a scalar; or any tensor together with `seed`, the gradient that flows into it
 * @throws ShapeError when the loss is not a scalar and there is no seed; GraphError for an op without a gradient rule
 * @example const [dw] = gradients(loss, [weight.value])
 */
export function gradients(loss: Tensor, wrt: readonly Tensor[], seed?: Tensor): readonly Tensor[] {
  return gradientsOrNone(loss, wrt, seed).map((g, i) => g ?? zeroLike(wrt[i]))
}

/** The same, undefined where the loss does not depend on a tensor. @throws as `gradients` does */
export function gradientsOrNone(loss: Tensor, wrt: readonly Tensor[], seed?: Tensor): readonly (Tensor | undefined)[] {
  if (!isFloat(loss.dtype)) throw new DTypeError(`gradients: the loss must be floating point, got ${loss.dtype}`)
  if (!seed && loss.rank !== 0) throw new ShapeError(`gradients: the loss must be a scalar, got ${formatShape(loss.shape)}; reduce it, or give a seed`)
  if (seed && !sameShape(seed.shape, loss.shape)) {
    throw new ShapeError(`gradients: seed ${formatShape(seed.shape)} must have the loss's shape ${formatShape(loss.shape)}`)
  }
  return pullBack([loss], [seed ?? loss.full(1)], wrt)
}

function zeroLike(t: Tensor | undefined): Tensor {
  if (!t) throw new GraphError('gradients: no tensor to differentiate by')
  return t.full(0)
}

/**
 * Vector-Jacobian product: from gradients of `outputs` to those of `wrt`, undefined where nothing flows. Only nodes from
 * the index `from` on count: what stands before them is held fixed.
 */
function pullBack(outputs: readonly Tensor[], seeds: readonly (Tensor | undefined)[], wrt: readonly Tensor[], from: number = 0): readonly (Tensor | undefined)[] {
  const [first] = outputs
  if (!first) return wrt.map(() => undefined)
  const builder = first.graph
  if (!(builder instanceof GraphBuilder)) throw new GraphError('gradients: the loss does not belong to a graph under construction')
  for (const t of wrt) if (t.graph !== builder) throw new GraphError('gradients: a tensor to differentiate by belongs to another graph')

  // Only what lies between `wrt` and `outputs` matters: `reached` depends on wrt.
  const nodes = builder.nodes.slice(from)
  const reached = new Set(wrt.filter((t) => isFloat(t.dtype)).map((t) => t.id))
  for (const node of nodes) {
    if (blocks(builder, node)) continue
    if (node.inputs.some((id) => reached.has(id))) {
      for (const id of node.outputs) if (isFloat(builder.tensor(id).dtype)) reached.add(id)
    }
  }

  const grads = new Map<number, Tensor>()
  const accumulate = (id: number, g: Tensor): void => {
    const target = builder.tensor(id)
    if (!sameShape(target.shape, g.shape) || target.dtype !== g.dtype) {
      throw new GraphError(
        `gradients: a rule returned ${g.dtype}${formatShape(g.shape)} for a value of type ${target.dtype}${formatShape(target.shape)}`,
      )
    }
    const sum = grads.get(id)
    grads.set(id, sum ? sum.add(g) : g)
  }
  outputs.forEach((t, i) => {
    const seed = seeds[i]
    if (seed) accumulate(t.id, seed)
  })

  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]
    if (!node || !node.outputs.some((id) => grads.has(id) && reached.has(id))) continue
    const needs = node.inputs.map((id) => reached.has(id))
    if (!needs.includes(true)) continue
    const outputGrads = node.outputs.map((id) => grads.get(id))
    const inputGrads = backward(builder, node, outputGrads, needs)
    node.inputs.forEach((id, k) => {
      const g = inputGrads[k]
      if (g && needs[k]) accumulate(id, g)
    })
  }
  return wrt.map((t) => grads.get(t.id))
}

function blocks(builder: GraphBuilder, node: Node): boolean {
  return node.op !== 'customGradient' && builder.ops[node.op].gradient === 'none'
}

function backward(
  builder: GraphBuilder,
  node: Node,
  grads: readonly (Tensor | undefined)[],
  needs: readonly boolean[],
): readonly (Tensor | undefined)[] {
  const inputs = node.inputs.map((id) => builder.tensor(id))
  const outputs = node.outputs.map((id) => builder.tensor(id))
  const dense = outputs.map((t, i) => grads[i] ?? t.full(0))
  if (node.op === 'customGradient') {
    const rule = builder.customRules[node.attrs.rule]
    if (!rule) throw new GraphError(`gradients: custom gradient ${node.attrs.rule} has no rule in this graph`)
    return rule(dense)
  }
  const def = builder.ops[node.op] as OpDef<OpName>
  const [grad] = dense
  if (typeof def.gradient === 'function' && grad) {
    return def.gradient({ attrs: node.attrs, inputs, outputs, grad, grads, needs })
  }
  if (def.decompose) {
    // The same function in simpler ops, written behind what stands; differentiate that alone: how one input depends on
    // another is the business of the nodes before.
    const from = builder.nodes.length
    const parts = def.decompose(node.attrs, inputs)
    // A tensor that is several of the inputs has its whole gradient already: it counts once.
    return pullBack(parts, grads, inputs, from).map((g, i) => (node.inputs.indexOf(node.inputs[i] ?? -1) === i ? g : undefined))
  }
  throw new GraphError(`gradients: ${node.op} has no gradient rule`)
}
