// What must hold of every pass on every graph: the result is valid, its interface (inputs, outputs, states) is the same,
// and it computes the same.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Graph } from '../graph/graph.ts'
import { typeOf } from '../graph/graph.ts'
import { printGraph } from '../graph/print.ts'
import { verifyGraph } from '../graph/verify.ts'
import type { OpName } from '../ops/attrs.ts'
import { ops } from '../ops/table.ts'
import { toRef } from '../reference/evaluate.ts'
import { worstDifference } from '../testing/compareGraphs.ts'
import { randomGraph } from '../testing/randomGraph.ts'
import { castPolicy } from './castPolicy.ts'
import { cse } from './cse.ts'
import { dce } from './dce.ts'
import { decompose } from './decompose.ts'
import { fold } from './fold.ts'
import { optimise } from './optimise.ts'
import { type DynamicConvCost, type PlannedForm, planDynamicConv } from './planDynamicConv.ts'
import { rewrite } from './rewrite.ts'
import { simplify } from './simplify.ts'
import { specialise } from './specialise.ts'

// Folded constants and the constants of decompositions are rounded to float32 (2^-24 relative, a few in a row, times what
// an op may amplify); every other pass changes nothing at all.
const rounding = 1e-4
const richest = new Set((Object.keys(ops) as OpName[]).filter((op) => ops[op].decompose === undefined))

const preferring = (best: PlannedForm): DynamicConvCost => ({ unit: 'rank', estimate: (_layer, form) => (form === best ? 0 : 1) })

const passes: readonly (readonly [name: string, pass: (graph: Graph) => Graph, tolerance: number])[] = [
  ['rewrite, copying', (g) => rewrite(g, () => undefined), 0],
  ['simplify', simplify, 0],
  ['cse', cse, 0],
  ['dce', dce, 0],
  ['castPolicy', (g) => castPolicy(g, { compute: 'float16' }), 0],
  ['castPolicy, then simplify', (g) => simplify(castPolicy(g, { compute: 'float16', ops: ['add', 'mul', 'matmul', 'conv2d', 'relu'] })), 0],
  ['planDynamicConv', (g) => planDynamicConv(g).graph, 0],
  ['planDynamicConv in form outputs, decomposed', (g) => decompose(planDynamicConv(g, { cost: preferring('outputs') }).graph, richest), rounding],
  ['planDynamicConv in form kernels, sample by sample, decomposed', (g) => decompose(planDynamicConv(g, { cost: preferring('kernels'), memoryBudgetBytes: 1 }).graph, richest), rounding],
  ['fold', (g) => fold(g), rounding],
  ['optimise', (g) => optimise(g), rounding],
  ['decompose', (g) => decompose(g, richest), rounding],
]

const runs = { numRuns: 150, seed: 1 }

test.each(passes)('%s keeps what a graph computes', (_name, pass, tolerance) => {
  fc.assert(
    fc.property(fc.nat(1_000_000), (seed) => {
      const { graph, inputs, states } = randomGraph(seed, { gradients: seed % 2 === 1 })
      const result = pass(graph)
      verifyGraph(result)
      expect(edge(result)).toEqual(edge(graph))
      const worst = worstDifference(graph, result, inputs.map(toRef), new Map(states.map((s) => [s.name, toRef(s.data)])))
      expect(worst).toBeLessThanOrEqual(tolerance)
    }),
    runs,
  )
})

test('optimise leaves no op twice, none dead, and does no more a second time', () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), (seed) => {
      const once = optimise(randomGraph(seed, { gradients: seed % 2 === 1 }).graph)
      expect(cse(once).nodes.length).toBe(once.nodes.length)
      expect(dce(once).nodes.length).toBe(once.nodes.length)
      expect(optimise(once)).toEqual(once)
    }),
    runs,
  )
})

test('specialise gives the very graph that a trace with numbers gives', () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), (seed) => {
      // 101 is the size of nothing else. A copy numbers values as every pass does.
      const open = randomGraph(seed, { batch: 'N', openBatch: true }).graph
      const traced = rewrite(randomGraph(seed, { batch: 101, openBatch: true }).graph, () => undefined)
      expect(printGraph(specialise(open, { N: 101 }))).toBe(printGraph(traced))
    }),
    runs,
  )
})

function edge(graph: Graph): unknown {
  return {
    inputs: graph.inputs.map((p) => [p.name, typeOf(graph, p.value)]),
    outputs: graph.outputs.map((p) => [p.name, typeOf(graph, p.value)]),
    states: graph.states.map((s) => [s.name, s.kind, s.dtype, s.shape]),
  }
}
