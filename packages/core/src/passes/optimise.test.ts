import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { printGraph } from '../graph/print.ts'
import { trace } from '../graph/trace.ts'
import { worstDifference } from '../testing/compareGraphs.ts'
import { randomRef } from '../testing/gradcheck.ts'
import { optimise } from './optimise.ts'

test('one pass opens the way for another', () => {
  // 0.5 + 0.5 is found to be 1 by folding, and the product to be idle by simplifying; then both branches are one.
  const { graph } = trace((x) => x.mul(x.full(0.5).add(0.5)).exp().add(x.stopGradient().exp()), { inputs: [{ shape: [2, 3] }] })
  const result = optimise(graph)
  expect(printGraph(result)).toMatchInlineSnapshot(`
    "input input0 = %0 : float32[2, 3]
    %1 = exp(%0) : float32[2, 3]
    %2 = add(%1, %1) : float32[2, 3]
    output output0 = %2 : float32[2, 3]"
  `)
  expect(worstDifference(graph, result, [randomRef([2, 3], 1)])).toBe(0)
})

test('a backward graph gets smaller and computes the same', () => {
  const { graph } = trace((x, w) => gradients(x.matmul(w).softmax().square().mean(), [x, w]), { inputs: [{ shape: [4, 3] }, { shape: [3, 5] }] })
  const result = optimise(graph)
  expect(result.nodes.length).toBeLessThan(graph.nodes.length)
  expect(worstDifference(graph, result, [randomRef([4, 3], 1), randomRef([3, 5], 2)])).toBeLessThan(1e-6)
})
