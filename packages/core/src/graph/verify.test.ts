import { expect, test } from 'vitest'
import { GraphBuilder } from './builder.ts'
import type { Graph, Node } from './graph.ts'
import { verifyGraph } from './verify.ts'
import { GraphError } from '../backend/errors.ts'
import { ops } from '../ops/table.ts'

function valid(): Graph {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  const s = b.readState('s', 'buffer', 'float32', [2])
  const y = x.exp().add(s)
  b.writeState('s', 'buffer', 'float32', [2], y)
  b.output('y', y)
  return b.build()
}

// The second node, otherwise.
const withNode = (change: Partial<Node>): Graph => {
  const graph = valid()
  return { ...graph, nodes: graph.nodes.map((node, i) => (i === 1 ? ({ ...node, ...change } as Node) : node)) }
}

test('what a builder makes is valid', () => {
  expect(() => verifyGraph(valid())).not.toThrow()
})

const broken: readonly (readonly [what: string, graph: () => Graph, message: string])[] = [
  ['a value out of range', () => withNode({ inputs: [0, 9] }), 'node 1 (add): value %9 does not exist; the graph has 4 values'],
  ['a value read before it is made', () => ({ ...valid(), nodes: valid().nodes.toReversed() }), 'node 0 (add): value %2 is read before it is made'],
  ['a value made twice', () => withNode({ outputs: [2] }), 'node 1 (add): value %2 is made a second time'],
  ['a node that reads itself', () => withNode({ inputs: [3, 1] }), 'node 1 (add): value %3 is read before it is made'],
  ['an input that is also a state', () => ({ ...valid(), inputs: [{ name: 'x', value: 1 }] }), "state 's': value %1 is made a second time"],
  ['a stored type that is not inferred', () => ({ ...valid(), values: valid().values.with(3, { dtype: 'float32', shape: [3] }) }), 'node 1 (add): stores output 0 as float32[3], but it is float32[2]'],
  ['arguments that the op refuses', () => withNode({ op: 'matmul', attrs: { transposeA: false, transposeB: false } }), 'node 1 (matmul): matmul: both sides need rank 2 or more'],
  ['an unknown op', () => withNode({ op: 'toString' as 'add' }), 'node 1 (toString): there is no such op'],
  ['another number of outputs', () => withNode({ outputs: [] }), 'node 1 (add): add has 1 outputs, the node lists 0'],
  ['an output that nothing makes', () => ({ ...valid(), nodes: valid().nodes.slice(0, 1) }), "output 'y': value %3 is read before it is made"],
  ['a name taken twice', () => ({ ...valid(), outputs: [...valid().outputs, { name: 'y', value: 0 }] }), "output 'y': the name is taken twice"],
  ['a state of another type than its value', () => ({ ...valid(), states: valid().states.map((s) => ({ ...s, dtype: 'int32' as const })) }), "state 's': is read as float32[2], but it is int32[2]"],
  ['an update of another type', () => ({ ...valid(), values: [...valid().values, { dtype: 'bool', shape: [] }], inputs: [...valid().inputs, { name: 'b', value: 4 }], states: valid().states.map((s) => ({ ...s, update: 4 })) }), "state 's': is updated with bool[], but it is float32[2]"],
]

test.each(broken)('%s is named', (_what, graph, message) => {
  expect(() => verifyGraph(graph())).toThrow(GraphError)
  expect(() => verifyGraph(graph())).toThrow(message)
})
