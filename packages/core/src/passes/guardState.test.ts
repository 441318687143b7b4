import { expect, test } from 'vitest'
import { GraphBuilder } from '../graph/builder.ts'
import type { Graph } from '../graph/graph.ts'
import { printGraph } from '../graph/print.ts'
import { ops } from '../ops/table.ts'
import { guardState } from './guardState.ts'

function graph(): Graph {
  const builder = new GraphBuilder(ops)
  const x = builder.input('x', 'float32', [2])
  const a = builder.readState('a', 'parameter', 'float32', [2])
  builder.readState('still', 'buffer', 'float32', [1])
  builder.writeState('a', 'parameter', 'float32', [2], a.sub(x))
  builder.output('loss', x.mul(a).sum())
  builder.output('wide', x)
  return builder.build()
}

test('each update is taken only when the output is finite, by one condition', () => {
  const text = printGraph(guardState(graph(), 'loss'))
  expect(text.match(/compare/g)).toHaveLength(1)
  expect(text.match(/select/g)).toHaveLength(1)
})

test('an output that is none, or no scalar, is refused', () => {
  expect(() => guardState(graph(), 'cost')).toThrow("guardState: there is no output 'cost'; there are: loss, wide")
  expect(() => guardState(graph(), 'wide')).toThrow("guardState: output 'wide' must be a scalar of floating point, got float32[2]")
})
