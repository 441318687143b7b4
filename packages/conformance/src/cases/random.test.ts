// Properties: what any graph computes is the same on every engine, whatever passes it goes through.

import { cse, dce, decompose, fold, type Graph, optimise, type OpName, ops, planDynamicConv, randomGraph, referenceBackend, simplify } from '@dynconv/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { expectation } from '../expect/expectation.ts'
import { execute } from '../run/execute.ts'
import { floatTarget } from '../testing/floatEngine.ts'

const simplest = new Set((Object.keys(ops) as OpName[]).filter((op) => ops[op].decompose === undefined))

const passes: { readonly [name: string]: (graph: Graph) => Graph } = {
  'no pass': (graph) => graph,
  simplify,
  cse,
  dce,
  fold: (graph) => fold(graph),
  optimise: (graph) => optimise(graph),
  planDynamicConv: (graph) => planDynamicConv(graph).graph,
  decompose: (graph) => decompose(graph, simplest),
}

test('random graphs agree on float64 and on float32 engines, before and after every pass', async () => {
  const backends = [referenceBackend(), await floatTarget('float32').create()]
  await fc.assert(
    fc.asyncProperty(fc.nat(1_000_000), async (seed) => {
      const { graph, inputs, states } = randomGraph(seed)
      const expected = await expectation({ graph, states, runs: [inputs] })
      for (const [name, pass] of Object.entries(passes)) {
        const program = { graph: pass(graph), states, runs: [inputs] }
        for (const backend of backends) {
          expect({ name, backend: backend.name, problems: await execute(backend, program, expected, { prepared: false, mayVary: false }) }).toEqual({ name, backend: backend.name, problems: [] })
        }
      }
    }),
    { numRuns: 40, seed: 1 },
  )
  await Promise.all(backends.map((b) => b.dispose()))
})
