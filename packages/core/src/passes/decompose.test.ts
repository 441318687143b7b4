import { expect, test } from 'vitest'
import type { Graph } from '../graph/graph.ts'
import { trace } from '../graph/trace.ts'
import type { OpName } from '../ops/attrs.ts'
import { dynamicConv2d } from '../ops/dynamicConv.ts'
import { worstDifference } from '../testing/compareGraphs.ts'
import { randomRef } from '../testing/gradcheck.ts'
import { decompose } from './decompose.ts'

const opsOf = (graph: Graph): readonly OpName[] => graph.nodes.map((n) => n.op)
const softmax = trace((x) => x.softmax().sigmoid(), { inputs: [{ shape: [2, 3] }] }).graph

test('an op becomes simpler ones, as far as needed', () => {
  const simple: ReadonlySet<OpName> = new Set(['constant', 'reduceMax', 'reduceSum', 'sub', 'exp', 'div', 'neg', 'add'])
  const graph = decompose(softmax, simple)
  expect(opsOf(graph)).toEqual(['reduceMax', 'sub', 'exp', 'reduceSum', 'div', 'constant', 'neg', 'exp', 'add', 'div'])
  expect(worstDifference(softmax, graph, [randomRef([2, 3], 1)])).toBeLessThan(1e-15)
})

test('what is supported stays, what cannot be decomposed too', () => {
  expect(opsOf(decompose(softmax, new Set(['softmax', 'sigmoid'])))).toEqual(['softmax', 'sigmoid'])
  const tanh = trace((x) => x.tanh(), { inputs: [{ shape: [2] }] }).graph
  expect(decompose(tanh, new Set())).toBe(tanh)
})

test('a function may judge each node by itself', () => {
  const graph = trace((x) => [x.softmax(0), x.softmax(1)], { inputs: [{ shape: [2, 3] }] }).graph
  const result = decompose(graph, (node) => node.op !== 'softmax' || node.attrs.axis === 1)
  expect(opsOf(result).filter((op) => op === 'softmax')).toHaveLength(1)
})

test('a dynamic convolution becomes ordinary ones in either form', () => {
  for (const form of ['kernels', 'outputs'] as const) {
    const { graph } = trace((x, bases, pi) => dynamicConv2d(x, bases, pi, { padding: 1, form }), {
      inputs: [{ shape: [2, 4, 5, 5] }, { shape: [3, 6, 4, 3, 3] }, { shape: [2, 3] }],
    })
    const result = decompose(graph, new Set<OpName>(['conv2d', 'matmul', 'reshape', 'transpose']))
    expect(opsOf(result).filter((op) => op === 'conv2d')).toHaveLength(1)
    expect(opsOf(result)).not.toContain('dynamicConv2d')
    expect(worstDifference(graph, result, [randomRef([2, 4, 5, 5], 1), randomRef([3, 6, 4, 3, 3], 2), randomRef([2, 3], 3)])).toBeLessThan(1e-12)
  }
})
