import { expect, test } from 'vitest'
import { GraphBuilder } from '../graph/builder.ts'
import { ops } from '../ops/table.ts'
import { dce } from './dce.ts'

test('only what outputs and updates need is kept; the interface stays', () => {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  b.input('unused', 'float32', [2])
  const s = b.readState('s', 'buffer', 'float32', [2])
  b.readState('idle', 'buffer', 'float32', [2])
  x.exp().tanh()
  b.writeState('s', 'buffer', 'float32', [2], s.add(x.neg()))
  b.output('y', x.abs())
  const graph = dce(b.build())
  expect(graph.nodes.map((n) => n.op)).toEqual(['neg', 'add', 'abs'])
  expect(graph.inputs.map((p) => p.name)).toEqual(['x', 'unused'])
  expect(graph.states.map((p) => p.name)).toEqual(['s', 'idle'])
  expect(dce(graph)).toEqual(graph)
})
