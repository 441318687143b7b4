import { expect, test } from 'vitest'
import type { Graph } from '../graph/graph.ts'
import { printGraph } from '../graph/print.ts'
import { trace } from '../graph/trace.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import { dce } from './dce.ts'
import { fold, type FoldOptions } from './fold.ts'

const folded = (fn: (x: Tensor) => Tensor | readonly Tensor[], options?: FoldOptions): Graph => dce(fold(trace(fn, { inputs: [{ shape: [2] }] }).graph, options))

test('arithmetic on constants is done, rounded to the dtype at every step', () => {
  const graph = folded((x) => x.mul(x.constant(tensor([0.1, 0.2])).add(0.3).exp()))
  expect(graph.nodes.map((n) => n.op)).toEqual(['constant', 'mul'])
  const f = Math.fround
  const expected = [0.1, 0.2].map((v) => f(Math.exp(f(f(v) + f(0.3)))))
  expect(graph.nodes[0]?.attrs).toEqual({ value: tensor(expected) })
})

test('float16 and integers follow their own rules', () => {
  const graph = folded((x) => [x.constant(tensor([2049, 1], [2], 'float16')).add(1), x.constant(tensor([2 ** 31 - 1, 5], [2], 'int32')).add(1), x.constant(tensor([1, 2])).less(2)])
  expect(graph.nodes.map((n) => n.attrs)).toEqual([
    { value: tensor([2048, 2], [2], 'float16') },
    { value: tensor([-(2 ** 31), 6], [2], 'int32') },
    { value: tensor([1, 0], [2], 'bool') },
  ])
})

test('a uniform result is a scalar and a broadcast; broadcasts and ramps stay', () => {
  expect(printGraph(folded((x) => x.full(2, [3, 4]).add(x.constant(tensor([1, 1, 1, 1])))))).toMatchInlineSnapshot(`
    "input input0 = %0 : float32[2]
    %1 = constant() {value: 3} : float32[]
    %2 = broadcastTo(%1) {shape: [3, 4]} : float32[3, 4]
    output output0 = %2 : float32[3, 4]"
  `)
  const ramp = (x: Tensor): Tensor => only(x.graph.emit('iota', { shape: [4], axis: 0, dtype: 'int32' }, []))
  expect(folded(ramp).nodes.map((n) => n.op)).toEqual(['iota'])
  expect(folded((x) => ramp(x).mul(2)).nodes.map((n) => n.attrs)).toEqual([{ value: tensor([0, 2, 4, 6], [4], 'int32') }])
  expect(folded((x) => x.full(-0, [2]).mul(x.constant(tensor([1, -1])))).nodes.map((n) => n.attrs)).toEqual([{ value: tensor([-0, 0]) }])
})

test('no big constant appears, but a small result of a larger one does', () => {
  const big = (x: Tensor): Tensor => x.full(1, [64, 65]).mul(x.constant(tensor(Array.from({ length: 65 }, (_, i) => i))))
  expect(folded(big).nodes.map((n) => n.op)).toContain('mul')
  expect(folded(big, { maxElements: 64 * 65 }).nodes.map((n) => n.op)).toEqual(['constant'])
  const sum = (x: Tensor): Tensor => x.constant(tensor(Array.from({ length: 64 }, (_, i) => i))).sum()
  expect(folded(sum, { maxElements: 4 }).nodes.map((n) => n.attrs)).toEqual([{ value: tensor(2016) }])
  expect(folded(sum, { maxElements: 2 }).nodes.map((n) => n.op)).toEqual(['constant', 'reduceSum'])
})

test('inputs and states are not known', () => {
  expect(folded((x) => x.add(1).mul(2)).nodes.map((n) => n.op)).toEqual(['constant', 'add', 'constant', 'mul'])
})

test('an index that is out of bounds is reported', () => {
  expect(() => folded((x) => x.constant(tensor([1, 2])).gather(x.constant(tensor([7], [1], 'int32'))))).toThrow('gather: index 7')
})
