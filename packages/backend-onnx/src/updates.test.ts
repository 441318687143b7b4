import { fromNumbers, GraphBuilder, type Graph, evaluate, ops, optimise, type StateInit, tensor, toRef } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { onnx } from './index.ts'
import { buildProgram } from './program.ts'
import { decodeModel } from './proto/onnx.ts'
import { compare, randn } from './testing/compare.ts'
import { planUpdates } from './updates.ts'

const sizes = [3, 5, 4, 7]
const initial: readonly StateInit[] = sizes.flatMap((n, i) => [
  { name: `w${i}`, kind: 'parameter' as const, data: randn([n], i) },
  { name: `v${i}`, kind: 'optimizer' as const, data: fromNumbers('float32', [n], new Float32Array(n)) },
])

// Momentum on vectors; the last one has a rate of its own.
function step(): Graph {
  const builder = new GraphBuilder(ops)
  const rate = builder.input('rate', 'float32', [])
  sizes.forEach((n, i) => {
    const w = builder.readState(`w${i}`, 'parameter', 'float32', [n])
    const v = builder.readState(`v${i}`, 'optimizer', 'float32', [n]).mul(0.9).add(w.mul(w).exp())
    builder.writeState(`v${i}`, 'optimizer', 'float32', [n], v)
    builder.writeState(`w${i}`, 'parameter', 'float32', [n], w.sub(v.mul(i === 3 ? 0.5 : rate)))
  })
  builder.output('sum', builder.readState('w0', 'parameter', 'float32', [3]).sum())
  return optimise(builder.build())
}

let backend: Awaited<ReturnType<typeof onnx>>
beforeAll(async () => {
  backend = await onnx({ threads: 1 })
})
afterAll(() => backend.dispose())

test('vectors with one expression are computed together', () => {
  expect(planUpdates(step()).groups.map((g) => g.states)).toEqual([
    ['w0', 'w1', 'w2'],
    ['v0', 'v1', 'v2', 'v3'],
  ])
  const { graph } = decodeModel(buildProgram(step()).model)
  const count = (type: string): number => graph.node.filter((n) => n.opType === type).length
  // One Sub for the group, one for w3, and one for w0 by itself, whose new value an output reads.
  expect([count('Sub'), count('Split'), count('Exp')]).toEqual([3, 2, 4])
})

test('the next values are those of the oracle', async () => {
  const graph = step()
  const state = await backend.createState(initial)
  const program = await backend.compile(graph, { state })
  const before = new Map(initial.map(({ name, data }) => [name, toRef(data)]))
  const expected = evaluate(graph, [toRef(tensor(0.1, []))], before)
  await program.run([tensor(0.1, [])])
  for (const { name } of initial) expect(compare(await state.read(name), expected.states.get(name), 8)).toBeUndefined()
  program.dispose()
  state.dispose()
})
