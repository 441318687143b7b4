import { expect, test } from 'vitest'
import { GraphBuilder } from '../graph/builder.ts'
import type { Graph } from '../graph/graph.ts'
import { printGraph } from '../graph/print.ts'
import { trace } from '../graph/trace.ts'
import { ops } from '../ops/table.ts'
import { rewrite } from './rewrite.ts'

function graph(): Graph {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  b.input('unused', 'int32', ['N'])
  const w = b.readState('w', 'parameter', 'float32', [2])
  b.readState('kept', 'buffer', 'bool', [])
  const y = x.mul(w).neg()
  b.writeState('w', 'parameter', 'float32', [2], y)
  b.output('y', y)
  b.output('again', y)
  return b.build()
}

test('a copy has the same inputs, outputs, states and nodes', () => {
  expect(printGraph(rewrite(graph(), () => undefined))).toMatchInlineSnapshot(`
    "input x = %0 : float32[2]
    input unused = %1 : int32[N]
    parameter w = %2 : float32[2]
    buffer kept = %3 : bool[]
    %4 = mul(%0, %2) : float32[2]
    %5 = neg(%4) : float32[2]
    update w = %5
    output y = %5 : float32[2]
    output again = %5 : float32[2]"
  `)
})

test('a visitor replaces a node by what it emits, and may look at producers', () => {
  const seen: (string | undefined)[] = []
  const result = rewrite(graph(), (node, [a, b], { emit, producer }) => {
    if (node.op !== 'neg' || !a) return undefined
    seen.push(producer(a)?.op, b && 'a second input')
    return [emit('sub', {}, [emit('mul', {}, [a, a.operand(0)]), a])]
  })
  expect(seen).toEqual(['mul', undefined])
  expect(result.nodes.map((n) => n.op)).toEqual(['mul', 'constant', 'mul', 'sub'])
  expect(result.outputs[0]?.value).toBe(result.nodes[3]?.outputs[0])
  expect(result.states[0]?.update).toBe(result.nodes[3]?.outputs[0])
})

test('an update with the state itself is none', () => {
  const result = rewrite(graph(), (node, inputs) => (node.op === 'neg' ? inputs : node.op === 'mul' ? inputs.slice(1) : undefined))
  expect(result.nodes).toEqual([])
  expect(result.states[0]?.update).toBeUndefined()
})

test('a replacement of another type or count is refused', () => {
  const replace = (what: 'cast' | 'sum' | 'none'): Graph =>
    rewrite(graph(), (node, [a]) => (node.op !== 'neg' || !a ? undefined : what === 'none' ? [] : [what === 'cast' ? a.cast('float16') : a.sum()]))
  expect(() => replace('cast')).toThrow('rewrite: output 0 of neg is float32[2], but was replaced by float16[2]')
  expect(() => replace('sum')).toThrow('rewrite: output 0 of neg is float32[2], but was replaced by float32[]')
  expect(() => replace('none')).toThrow('rewrite: neg has 1 outputs, but was replaced by 0 tensors')
})

test('reading a node that was left out is refused', () => {
  expect(() => rewrite(graph(), () => undefined, { keep: (i) => i !== 0 })).toThrow('rewrite: value %4 is read, but its node was dropped or stands later')
})

test('mapShape changes inputs and states, the rest follows', () => {
  const { graph: open } = trace((x) => x.neg(), { inputs: [{ shape: ['N', 2] }] })
  const result = rewrite(open, () => undefined, { mapShape: (shape) => shape.map((d) => (d === 'N' ? 5 : d)) })
  expect(result.values.map((t) => t.shape)).toEqual([[5, 2], [5, 2]])
})
