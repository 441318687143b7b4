import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { type Graph, typeOf } from '../graph/graph.ts'
import { printGraph } from '../graph/print.ts'
import type { OpName } from '../ops/attrs.ts'
import { conv2d } from '../ops/conv.ts'
import { ops } from '../ops/table.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import { worstDifference } from '../testing/compareGraphs.ts'
import { randomRef } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { castPolicy } from './castPolicy.ts'
import { cse } from './cse.ts'
import { dce } from './dce.ts'
import { simplify } from './simplify.ts'

// Two convolutions with a norm-like step between, the gradient by the first weight, and a plain descent step.
function step(): Graph {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2, 3, 4, 4])
  const w = b.readState('w', 'parameter', 'float32', [4, 3, 3, 3])
  const y = conv2d(x, w, { padding: 1 })
  const z = conv2d(conv2d(y, x.full(0.5, [4, 4, 1, 1])), x.full(0.25, [2, 4, 1, 1])).softmax(1)
  const [dw = w] = gradients(z.square().sum(), [w])
  b.writeState('w', 'parameter', 'float32', [4, 3, 3, 3], w.sub(dw.mul(0.1)))
  b.output('loss', z.square().sum())
  return b.build()
}

test('products take float16 and give float32; masters, softmax and sums stay float32', () => {
  const graph = castPolicy(step(), { compute: 'float16' })
  const products: readonly OpName[] = ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad']
  for (const node of graph.nodes) {
    const dtypes = new Set([...node.inputs, ...node.outputs].map((id) => typeOf(graph, id).dtype))
    if (node.op === 'cast' || node.op === 'compare' || node.op === 'select') continue
    expect([node.op, ...dtypes]).toEqual([node.op, products.includes(node.op) ? 'float16' : 'float32'])
  }
  expect(graph.states.map((s) => s.dtype)).toEqual(['float32'])
  const [x, w] = [randomRef([2, 3, 4, 4], 1), randomRef([4, 3, 3, 3], 2)]
  expect(worstDifference(step(), graph, [x], new Map([['w', w]]))).toBe(0)
})

test('between two products nothing is cast up and down, and a shared input is cast once', () => {
  const b = new GraphBuilder(ops)
  const [x, w] = [b.input('x', 'float32', [4, 4]), b.input('w', 'float32', [4, 4])]
  b.output('y', x.matmul(w).matmul(w))
  expect(printGraph(dce(cse(simplify(castPolicy(b.build(), { compute: 'float16' })))))).toMatchInlineSnapshot(`
    "input x = %0 : float32[4, 4]
    input w = %1 : float32[4, 4]
    %2 = cast(%0) {dtype: float16} : float16[4, 4]
    %3 = cast(%1) {dtype: float16} : float16[4, 4]
    %4 = matmul(%2, %3) {transposeA: false, transposeB: false} : float16[4, 4]
    %5 = matmul(%4, %3) {transposeA: false, transposeB: false} : float16[4, 4]
    %6 = cast(%5) {dtype: float32} : float32[4, 4]
    output y = %6 : float32[4, 4]"
  `)
})

test('the caller says which ops; values that are not float32 are left alone', () => {
  const b = new GraphBuilder(ops)
  const [x, n, h] = [b.input('x', 'float32', [2]), b.input('n', 'int32', [2]), b.input('h', 'float16', [2])]
  b.output('y', x.add(1).mul(2))
  b.output('m', n.add(1))
  b.output('g', h.add(1))
  const graph = castPolicy(b.build(), { compute: 'float16', ops: ['add'] })
  expect(graph.nodes.filter((node) => node.op === 'add' || node.op === 'mul').map((node) => [node.op, typeOf(graph, node.outputs[0] ?? -1).dtype])).toEqual([
    ['add', 'float16'],
    ['mul', 'float32'],
    ['add', 'int32'],
    ['add', 'float16'],
  ])
  expect(evaluate(graph, [toRef(tensor([1, 2])), toRef(tensor([1, 2])), toRef(tensor([1, 2]))]).outputs.map((t) => [...t.data])).toEqual([[4, 6], [2, 3], [2, 3]])
})

test('other dtypes and unknown ops are refused', () => {
  // Options may come from a file.
  const read = (text: string): Parameters<typeof castPolicy>[1] => JSON.parse(text)
  expect(() => castPolicy(step(), read('{"compute": "float8"}'))).toThrow('castPolicy: compute must be float16, got float8')
  expect(() => castPolicy(step(), read('{"compute": "float16", "ops": ["convolve"]}'))).toThrow('castPolicy: there is no op named convolve')
})
