// What a graph costs, from its shapes alone: parameters, multiply-adds, bytes moved, and the peak of live activations.
// It knows no engine: no layout, no fusion, no scratch memory inside an op.

import type { OpName } from '../ops/attrs.ts'
import type { OpDef, ValueType } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { bytesPerElement } from '../tensor/dtype.ts'
import { type StaticShape, sizeOf, staticShape } from '../tensor/shape.ts'
import { type Graph, lastUses, type Node, typeOf, type ValueId } from './graph.ts'

/** What one node costs. */
export interface NodeCost {
  readonly op: OpName
  /** Multiply-adds. */
  readonly macs: number
  /** Bytes of all inputs and outputs, each moved once. */
  readonly bytes: number
}

/** What a graph costs. */
export interface GraphCost {
  /** Elements of all states of kind 'parameter'. */
  readonly parameters: number
  /** Multiply-adds of a run. */
  readonly macs: number
  /** Bytes that a run moves, when every node reads its inputs from memory and writes its outputs to it. */
  readonly bytes: number
  /** The most bytes of values made by nodes (constants apart) that are alive at once, each freed after its last use. */
  readonly peakActivationBytes: number
  /** In the order of the graph's nodes. */
  readonly perNode: readonly NodeCost[]
}

/**
 * Counts what a run of `graph` takes.
 *
 * @example cost(specialise(graph, { N: 1 })).macs
 * @throws ShapeError where a size is not known
 */
export function cost(graph: Graph): GraphCost {
  const perNode = graph.nodes.map((node) => nodeCost(graph, node))
  return {
    parameters: graph.states.reduce((sum, s) => (s.kind === 'parameter' ? sum + sizeOf(staticShape(`cost: state '${s.name}'`, s.shape)) : sum), 0),
    macs: perNode.reduce((sum, n) => sum + n.macs, 0),
    bytes: perNode.reduce((sum, n) => sum + n.bytes, 0),
    peakActivationBytes: peakActivationBytes(graph),
    perNode,
  }
}

/** Bytes of a value whose sizes are known. @throws ShapeError */
export function bytesOf(type: ValueType): number {
  return sizeOf(staticShape('cost', type.shape)) * bytesPerElement(type.dtype)
}

function nodeCost(graph: Graph, node: Node): NodeCost {
  const shapes = (ids: readonly ValueId[]): readonly StaticShape[] => ids.map((id) => staticShape(`cost: ${node.op}`, typeOf(graph, id).shape))
  const [inputs, outputs] = [shapes(node.inputs), shapes(node.outputs)]
  const def = ops[node.op] as OpDef<OpName>
  return {
    op: node.op,
    macs: def.macs?.(node.attrs, inputs, outputs) ?? 0,
    bytes: [...node.inputs, ...node.outputs].reduce((sum, id) => sum + bytesOf(typeOf(graph, id)), 0),
  }
}

// While a node runs, its inputs and its outputs live side by side; after it, whatever nobody reads later is gone.
function peakActivationBytes(graph: Graph): number {
  const last = lastUses(graph)
  const live = new Map<ValueId, number>()
  let bytes = 0
  let peak = 0
  const free = (id: ValueId): void => {
    bytes -= live.get(id) ?? 0
    live.delete(id)
  }
  graph.nodes.forEach((node, i) => {
    if (node.op === 'constant') return
    for (const id of node.outputs) {
      const size = bytesOf(typeOf(graph, id))
      live.set(id, size)
      bytes += size
    }
    peak = Math.max(peak, bytes)
    for (const id of node.inputs) if (last.get(id) === i) free(id)
    for (const id of node.outputs) if (!last.has(id)) free(id)
  })
  return peak
}
