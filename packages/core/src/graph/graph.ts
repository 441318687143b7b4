// The graph: plain data. Nodes stand in an order in which they can run; a value is the number of its place in `values`.
// State (parameters, running statistics, optimizer moments) is read as a value and, where the graph writes it, updated
// with another at the end of a run: every read sees the state as it was when the run began.

import type { OpAttrs, OpName } from '../ops/attrs.ts'
import type { ValueType } from '../ops/define.ts'

/** The number of a value. */
export type ValueId = number

/** An op applied to values. */
export interface NodeOf<K extends OpName> {
  readonly op: K
  readonly attrs: OpAttrs[K]
  readonly inputs: readonly ValueId[]
  readonly outputs: readonly ValueId[]
}

/** A node of any op; `node.op` tells which. */
export type Node = { [K in OpName]: NodeOf<K> }[OpName]

/** What state is for: trained, kept by a module, or kept by an optimizer. */
export type StateKind = 'parameter' | 'buffer' | 'optimizer'

/** A tensor that lives across runs. */
export interface StateSlot extends ValueType {
  readonly name: string
  readonly kind: StateKind
  /** The value that reads it. */
  readonly value: ValueId
  /** The value it takes at the end of a run; undefined: it stays. */
  readonly update: ValueId | undefined
}

/** A named value at the graph's edge. */
export interface Port {
  readonly name: string
  readonly value: ValueId
}

/** A program over tensors. */
export interface Graph {
  /** dtype and shape of each value; some may be unused. */
  readonly values: readonly ValueType[]
  readonly nodes: readonly Node[]
  readonly inputs: readonly Port[]
  readonly outputs: readonly Port[]
  readonly states: readonly StateSlot[]
}

/** The type of a value of `graph`. */
export function typeOf(graph: Graph, id: ValueId): ValueType {
  const type = graph.values[id]
  if (!type) throw new RangeError(`graph: there is no value %${id}`)
  return type
}

/** Node-by-node narrowing for tables: whether `node` is an application of `op`. */
export function isOp<K extends OpName>(node: Node, op: K): node is Extract<Node, { readonly op: K }> {
  return node.op === op
}

/** For each value the node that makes it (its index in `graph.nodes`); inputs and states have none. */
export function producers(graph: Graph): ReadonlyMap<ValueId, number> {
  const result = new Map<ValueId, number>()
  graph.nodes.forEach((node, i) => {
    for (const output of node.outputs) result.set(output, i)
  })
  return result
}

/** Values that a run must deliver: outputs and state updates. */
export function roots(graph: Graph): readonly ValueId[] {
  const updates = graph.states.flatMap((s) => (s.update === undefined ? [] : [s.update]))
  return [...graph.outputs.map((o) => o.value), ...updates]
}

/** The values that depend only on constants and on states that the graph does not write. */
export function frozenValues(graph: Graph): ReadonlySet<ValueId> {
  const frozen = new Set(graph.states.flatMap((s) => (s.update === undefined ? [s.value] : [])))
  for (const node of graph.nodes) if (node.inputs.every((id) => frozen.has(id))) node.outputs.forEach((id) => frozen.add(id))
  return frozen
}

/** How many nodes read each value (roots count once more each). */
export function useCounts(graph: Graph): ReadonlyMap<ValueId, number> {
  const counts = new Map<ValueId, number>()
  const use = (id: ValueId): void => {
    counts.set(id, (counts.get(id) ?? 0) + 1)
  }
  for (const node of graph.nodes) node.inputs.forEach(use)
  roots(graph).forEach(use)
  return counts
}

/** The index of the last node that reads each value; values that roots hold map to `graph.nodes.length`. */
export function lastUses(graph: Graph): ReadonlyMap<ValueId, number> {
  const last = new Map<ValueId, number>()
  graph.nodes.forEach((node, i) => {
    for (const input of node.inputs) last.set(input, i)
  })
  for (const id of roots(graph)) last.set(id, graph.nodes.length)
  return last
}
