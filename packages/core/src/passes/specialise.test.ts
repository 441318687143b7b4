import { expect, test } from 'vitest'
import { printGraph } from '../graph/print.ts'
import { type Traced, trace } from '../graph/trace.ts'
import { verifyGraph } from '../graph/verify.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { only } from '../tensor/tensor.ts'
import { specialise, symbols } from './specialise.ts'

function open(): Traced {
  return trace(
    (x, y) => {
      const ramp = only(x.graph.emit('iota', { shape: ['N', 'T'], axis: 0, dtype: 'float32' }, []))
      return x.reshape(['T', 'N']).transpose().add(y.broadcastTo(['N', 'T'])).add(ramp)
    },
    { inputs: [{ shape: ['N', 'T'] }, { shape: ['T'] }] },
  )
}

test('names become numbers in types and in the attributes that hold shapes', () => {
  const { graph } = open()
  expect(symbols(graph)).toEqual(['N', 'T'])
  const result = specialise(graph, { N: 2, T: 3 })
  verifyGraph(result)
  expect(symbols(result)).toEqual([])
  expect(printGraph(result)).toMatchInlineSnapshot(`
    "input input0 = %0 : float32[2, 3]
    input input1 = %1 : float32[3]
    %2 = iota() {shape: [2, 3], axis: 0, dtype: float32} : float32[2, 3]
    %3 = reshape(%0) {shape: [3, 2]} : float32[3, 2]
    %4 = transpose(%3) {permutation: [1, 0]} : float32[2, 3]
    %5 = broadcastTo(%1) {shape: [2, 3]} : float32[2, 3]
    %6 = add(%4, %5) : float32[2, 3]
    %7 = add(%6, %2) : float32[2, 3]
    output output0 = %7 : float32[2, 3]"
  `)
  const { outputs } = evaluate(result, [toRef(tensor([1, 2, 3, 4, 5, 6], [2, 3])), toRef(tensor([10, 20, 30]))])
  expect([...(outputs[0]?.data ?? [])]).toEqual([11, 23, 35, 13, 25, 37])
})

test('names that are not given stay, and the rest can follow later', () => {
  const half = specialise(open().graph, { T: 3 })
  expect(symbols(half)).toEqual(['N'])
  expect(specialise(half, { N: 2 })).toEqual(specialise(open().graph, { N: 2, T: 3 }))
})

test('unknown names and impossible sizes are refused', () => {
  expect(() => specialise(open().graph, { N: 2, batch: 3 })).toThrow('specialise: the graph has no size named batch; it has N, T')
  expect(() => specialise(open().graph, { N: -1 })).toThrow('specialise: N=-1 must be a non-negative integer')
  expect(() => specialise(open().graph, { N: 1.5 })).toThrow('specialise: N=1.5 must be a non-negative integer')
  const { graph } = trace((x) => x.neg(), { inputs: [{ shape: [2] }] })
  expect(() => specialise(graph, { N: 2 })).toThrow('it has none')
  expect(specialise(graph, {})).toBe(graph)
})

test('sizes that an op cannot take are refused by that op', () => {
  const { graph } = trace((x, y) => x.add(y), { inputs: [{ shape: ['A'] }, { shape: [1] }] })
  expect(specialise(graph, { A: 0 }).values.map((t) => t.shape)).toEqual([[0], [1], [0]])
  const clash = trace((x, y) => x.matmul(y), { inputs: [{ shape: ['A', 2] }, { shape: [2, 'B'] }] }).graph
  expect(specialise(clash, { A: 3, B: 4 }).values.at(-1)?.shape).toEqual([3, 4])
  const max = trace((x) => x.maxOver([0]), { inputs: [{ shape: ['A', 2] }] }).graph
  expect(() => specialise(max, { A: 0 })).toThrow('reduceMax: axis 0 of [0, 2] is empty')
})
