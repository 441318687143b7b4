// Checks that a graph is what a graph must be. Builders make no other; this is for graphs that came another way (a file,
// a hand-written pass) and for the tests of every pass.

import { GraphError } from '../backend/errors.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, ValueType } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { sameShape } from '../tensor/shape.ts'
import type { Graph, Node, ValueId } from './graph.ts'
import { formatType, printNode } from './print.ts'

/**
 * Throws unless every value exists, is made once and before it is read, every node's stored types are those that its op
 * infers, names are unique, and every state's update has the state's type.
 *
 * @throws GraphError that names the node, the state or the port
 */
export function verifyGraph(graph: Graph): void {
  const made = new Set<ValueId>()
  const check = (where: string, ids: readonly ValueId[]): void => {
    for (const id of ids) if (!graph.values[id]) throw new GraphError(`${where}: value %${id} does not exist; the graph has ${graph.values.length} values`)
  }
  const make = (where: string, ids: readonly ValueId[]): void => {
    check(where, ids)
    for (const id of ids) {
      if (made.has(id)) throw new GraphError(`${where}: value %${id} is made a second time`)
      made.add(id)
    }
  }
  const read = (where: string, ids: readonly ValueId[]): void => {
    check(where, ids)
    for (const id of ids) if (!made.has(id)) throw new GraphError(`${where}: value %${id} is read before it is made`)
  }

  checkNames('input', graph.inputs)
  checkNames('output', graph.outputs)
  checkNames('state', graph.states)
  for (const port of graph.inputs) make(`input '${port.name}'`, [port.value])
  for (const s of graph.states) {
    const where = `state '${s.name}'`
    make(where, [s.value])
    checkType(where, 'is read as', s, graph.values[s.value])
  }
  graph.nodes.forEach((node, i) => {
    const where = `node ${i} (${node.op})`
    check(where, [...node.inputs, ...node.outputs])
    read(where, node.inputs)
    checkNode(graph, where, node)
    make(where, node.outputs)
  })
  for (const port of graph.outputs) read(`output '${port.name}'`, [port.value])
  for (const s of graph.states) {
    if (s.update === undefined) continue
    read(`update of state '${s.name}'`, [s.update])
    checkType(`state '${s.name}'`, 'is updated with', s, graph.values[s.update])
  }
}

function checkNode(graph: Graph, where: string, node: Node): void {
  const def = (Object.hasOwn(ops, node.op) ? ops[node.op] : undefined) as OpDef<OpName> | undefined
  if (!def) throw new GraphError(`${where}: there is no such op`)
  const inputs = node.inputs.flatMap((id) => graph.values[id] ?? [])
  let inferred: ValueType | readonly ValueType[]
  try {
    inferred = def.infer(node.attrs, inputs)
  } catch (error) {
    throw new GraphError(`${where}: ${error instanceof Error ? error.message : String(error)}; in ${printNode(graph, node)}`, { cause: error })
  }
  const types = Array.isArray(inferred) ? (inferred as readonly ValueType[]) : [inferred as ValueType]
  if (types.length !== node.outputs.length) throw new GraphError(`${where}: ${node.op} has ${types.length} outputs, the node lists ${node.outputs.length}`)
  types.forEach((type, i) => {
    checkType(where, `stores output ${i} as`, type, graph.values[node.outputs[i] ?? -1])
  })
}

function checkType(where: string, what: string, expected: ValueType, stored: ValueType | undefined): void {
  if (stored && stored.dtype === expected.dtype && sameShape(stored.shape, expected.shape)) return
  throw new GraphError(`${where}: ${what} ${stored ? formatType(stored) : 'nothing'}, but it is ${formatType(expected)}`)
}

function checkNames(what: string, list: readonly { readonly name: string }[]): void {
  const seen = new Set<string>()
  for (const { name } of list) {
    if (seen.has(name)) throw new GraphError(`${what} '${name}': the name is taken twice`)
    seen.add(name)
  }
}
