import { expect, test } from 'vitest'
import { verifyGraph } from '../graph/verify.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import { randomGraph } from './randomGraph.ts'

const seeds = Array.from({ length: 300 }, (_, i) => i)

test('graphs are valid, of 5 to 30 nodes, and give finite numbers', () => {
  for (const seed of seeds) {
    const { graph, inputs, states } = randomGraph(seed)
    verifyGraph(graph)
    expect(graph.nodes.length).toBeGreaterThanOrEqual(5)
    expect(graph.nodes.length).toBeLessThanOrEqual(30)
    const { outputs } = evaluate(graph, inputs.map(toRef), new Map(states.map((s) => [s.name, toRef(s.data)])))
    for (const { data } of outputs) expect(data.every((x) => Math.abs(x) < 1e4)).toBe(true)
  }
})

test('the same seed gives the same graph, another seed another', () => {
  expect(randomGraph(5)).toEqual(randomGraph(5))
  expect(randomGraph(6)).not.toEqual(randomGraph(5))
})

test('the graphs cover the op set, with states that are updated', () => {
  const graphs = seeds.map((seed) => randomGraph(seed).graph)
  const used = new Set(graphs.flatMap((g) => g.nodes.map((n) => n.op)))
  expect([...used].sort()).toEqual(
    [
      'abs', 'add', 'argMax', 'avgPool2d', 'batchNorm', 'batchNormInference', 'broadcastTo', 'cast', 'clamp', 'compare', 'concat', 'constant', 'conv2d', 'div',
      'dynamicConv2d', 'exp', 'gather', 'groupNorm', 'iota', 'log', 'logSoftmax', 'matmul', 'max', 'maxPool2d', 'min', 'mul', 'neg', 'oneHot', 'pad', 'pow',
      'reduceMax', 'reduceSum', 'relu', 'reshape', 'resize', 'rsqrt', 'scatterAdd', 'select', 'sigmoid', 'slice', 'softmax', 'sqrt', 'stopGradient', 'sub',
      'tanh', 'transpose',
    ].sort(),
  )
  expect(graphs.some((g) => g.states.some((s) => s.update !== undefined))).toBe(true)
})

test('an open batch may be a name', () => {
  for (const seed of seeds.slice(0, 100)) {
    const { graph } = randomGraph(seed, { batch: 'N', openBatch: true })
    verifyGraph(graph)
    expect(graph.inputs.map((p) => graph.values[p.value]?.shape[0])).toEqual(graph.inputs.map(() => 'N'))
  }
})

test('with gradients the graphs cover what only gradients need', () => {
  const used = new Set(seeds.flatMap((seed) => randomGraph(seed, { gradients: true }).graph.nodes.map((n) => n.op)))
  const backward = ['conv2dInputGrad', 'conv2dFilterGrad', 'maxPool2dGrad', 'avgPool2dGrad', 'batchNormGrad', 'resizeGrad', 'dynamicConv2dInputGrad', 'dynamicConv2dKernelGrad'] as const
  expect(backward.filter((op) => !used.has(op))).toEqual([])
})
