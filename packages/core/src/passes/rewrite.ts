// The one way to rewrite a graph: node by node through a fresh GraphBuilder, so that every new node passes its op's own
// checks. A pass is a visitor: for each node it may emit other tensors in its place, or let it be copied. Inputs, outputs
// and states (names, kinds, order, update) are carried over here and nowhere else.

import { GraphError } from '../backend/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { type Graph, type Node, typeOf, type ValueId } from '../graph/graph.ts'
import type { OpAttrs, OpName } from '../ops/attrs.ts'
import type { ValueType } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { formatShape, type Shape, sameShape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'

/** What a visitor works with. */
export interface Rewriting {
  /** The graph that is being rewritten. */
  readonly source: Graph
  /** Where new nodes go. */
  readonly builder: GraphBuilder
  /** The new tensor that stands for an old value. @throws GraphError for a value whose node was dropped or is yet to come */
  readonly get: (id: ValueId) => Tensor
  /** The new node that makes a new tensor; undefined for inputs and states. */
  readonly producer: (t: Tensor) => Node | undefined
  /** Appends an op with one output. */
  readonly emit: <K extends OpName>(op: K, attrs: OpAttrs[K], inputs: readonly Tensor[]) => Tensor
}

/**
 * What becomes of a node whose inputs are now `inputs`: the tensors that replace its outputs (of the same types), or
 * undefined for a copy.
 */
export type Visitor = (node: Node, inputs: readonly Tensor[], rewriting: Rewriting, index: number) => readonly Tensor[] | undefined

/** How to rewrite. */
export interface RewriteOptions {
  /** Which nodes (by index) stay; the visitor does not see the others, and nothing may read them. All unless given. */
  readonly keep?: (index: number) => boolean
  /** Puts other dimensions in the place of those of inputs and states; attributes are the visitor's business. */
  readonly mapShape?: (shape: Shape) => Shape
  /** What a state becomes instead of `update`, its next value, from that, its old value, and what `get` gives. */
  readonly mapUpdate?: (update: Tensor, old: Tensor, get: Rewriting['get']) => Tensor
}

/**
 * Rebuilds `graph`, asking `visit` about every node.
 *
 * @example rewrite(graph, (node, [x]) => (node.op === 'stopGradient' && x ? [x] : undefined))
 * @throws GraphError when a replacement is of another type than what it replaces, or something reads a dropped node
 */
export function rewrite(graph: Graph, visit: Visitor, options: RewriteOptions = {}): Graph {
  const builder = new GraphBuilder(ops)
  const mapShape = options.mapShape ?? ((shape: Shape): Shape => shape)
  const made = new Map<ValueId, Tensor>()
  const get = (id: ValueId): Tensor => {
    const t = made.get(id)
    if (!t) throw new GraphError(`rewrite: value %${id} is read, but its node was dropped or stands later`)
    return t
  }
  const producer = indexProducers(builder)
  const emit: Rewriting['emit'] = (op, attrs, inputs) => only(builder.emit(op, attrs, inputs))
  const rewriting: Rewriting = { source: graph, builder, get, producer, emit }

  for (const port of graph.inputs) {
    const { dtype, shape } = typeOf(graph, port.value)
    made.set(port.value, builder.input(port.name, dtype, mapShape(shape)))
  }
  for (const s of graph.states) made.set(s.value, builder.readState(s.name, s.kind, s.dtype, mapShape(s.shape)))

  graph.nodes.forEach((node, index) => {
    if (options.keep && !options.keep(index)) return
    const inputs = node.inputs.map(get)
    const outputs = visit(node, inputs, rewriting, index) ?? copyNode(builder, node, inputs)
    checkCount(node, outputs)
    node.outputs.forEach((id, i) => {
      const t = outputs[i]
      if (!t) return
      checkType(node, i, typeOf(graph, id), t, mapShape)
      made.set(id, t)
    })
  })

  for (const port of graph.outputs) builder.output(port.name, get(port.value))
  const mapUpdate = options.mapUpdate ?? ((update: Tensor): Tensor => update)
  for (const s of graph.states) {
    if (s.update !== undefined) builder.writeState(s.name, s.kind, s.dtype, mapShape(s.shape), mapUpdate(get(s.update), get(s.value), get))
  }
  return builder.build()
}

/** Appends the same op with the same attributes on other inputs. */
export function copyNode(builder: GraphBuilder, node: Node, inputs: readonly Tensor[]): readonly Tensor[] {
  return builder.emit<OpName>(node.op, node.attrs, inputs)
}

// Nodes are only ever appended, so the index grows along with the builder.
function indexProducers(builder: GraphBuilder): (t: Tensor) => Node | undefined {
  const byValue = new Map<ValueId, Node>()
  let seen = 0
  return (t) => {
    for (; seen < builder.nodes.length; seen++) {
      const node = builder.nodes[seen]
      if (node) for (const id of node.outputs) byValue.set(id, node)
    }
    return byValue.get(t.id)
  }
}

function checkCount(node: Node, outputs: readonly Tensor[]): void {
  if (outputs.length !== node.outputs.length) {
    throw new GraphError(`rewrite: ${node.op} has ${node.outputs.length} outputs, but was replaced by ${outputs.length} tensors`)
  }
}

function checkType(node: Node, index: number, was: ValueType, now: Tensor, mapShape: (shape: Shape) => Shape): void {
  const shape = mapShape(was.shape)
  if (now.dtype === was.dtype && sameShape(now.shape, shape)) return
  throw new GraphError(
    `rewrite: output ${index} of ${node.op} is ${was.dtype}${formatShape(shape)}, but was replaced by ${now.dtype}${formatShape(now.shape)}`,
  )
}
