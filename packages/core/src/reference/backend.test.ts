import { expect, test } from 'vitest'
import type { Backend, Executable, StateInit } from '../backend/contract.ts'
import { DisposedError } from '../backend/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import type { Graph } from '../graph/graph.ts'
import { trace } from '../graph/trace.ts'
import { ops } from '../ops/table.ts'
import { randomGraph } from '../testing/randomGraph.ts'
import { fromNumbers, tensor } from '../tensor/hostTensor.ts'
import { referenceBackend } from './backend.ts'
import { evaluate, toRef } from './evaluate.ts'

const live = (backend: Backend): readonly number[] => [backend.memory().liveTensors, backend.memory().liveBytes]

// count += x; the old count comes out.
function counter(): Graph {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  const count = b.readState('count', 'buffer', 'float32', [2])
  b.writeState('count', 'buffer', 'float32', [2], count.add(x))
  b.output('old', count)
  return b.build()
}

const start: readonly StateInit[] = [{ name: 'count', kind: 'buffer', data: tensor([0, 10]) }]

test('random graphs give what the evaluator gives, rounded to their dtypes, and leave nothing behind', async () => {
  for (let seed = 0; seed < 50; seed++) {
    const { graph, inputs, states } = randomGraph(seed)
    const backend = referenceBackend()
    const state = await backend.createState(states)
    const f = await backend.compile(graph, { state })
    const results = await f.run(inputs)
    const expected = evaluate(graph, inputs.map(toRef), new Map(states.map((s) => [s.name, toRef(s.data)])))
    expect(results).toEqual(expected.outputs.map((t) => fromNumbers('float32', t.shape, t.data)))
    const kept = await Promise.all(state.names.map(async (name) => [name, await state.read(name)] as const))
    expect(kept).toEqual([...expected.states].map(([name, t]) => [name, fromNumbers('float32', t.shape, t.data)]))
    f.dispose()
    state.dispose()
    expect(live(backend)).toEqual([0, 0])
    expect(backend.memory().peakBytes).toBeGreaterThan(0)
  }
})

test('states live across runs and executables, reads see the start of the run', async () => {
  const backend = referenceBackend()
  const state = await backend.createState(start)
  const [f, g] = [await backend.compile(counter(), { state }), await backend.compile(counter(), { state })]
  expect(await f.run([tensor([1, 2])])).toEqual([tensor([0, 10])])
  expect(await g.run([tensor([1, 2])])).toEqual([tensor([1, 12])])
  expect(await state.read('count')).toEqual(tensor([2, 14]))
  await state.write('count', tensor([5, 5]))
  expect(await f.run([tensor([1, 1])])).toEqual([tensor([5, 5])])
  expect(live(backend)).toEqual([1, 8])
})

test('runs that are started together follow one another', async () => {
  const backend = referenceBackend()
  const state = await backend.createState(start)
  const f = await backend.compile(counter(), { state })
  const [a, b] = await Promise.all([f.run([tensor([1, 1])]), f.run([tensor([1, 1])])])
  expect([a, b]).toEqual([[tensor([0, 10])], [tensor([1, 11])]])
  expect(await state.read('count')).toEqual(tensor([2, 12]))
})

test('states are rounded to their dtype at the end of a run', async () => {
  const backend = referenceBackend()
  const b = new GraphBuilder(ops)
  const s = b.readState('s', 'buffer', 'float32', [])
  b.writeState('s', 'buffer', 'float32', [], s.div(3))
  b.output('y', s.div(3).mul(3))
  const state = await backend.createState([{ name: 's', kind: 'buffer', data: tensor(1) }])
  const f = await backend.compile(b.build(), { state })
  expect(await f.run([])).toEqual([tensor(1)])
  expect(await f.run([])).toEqual([tensor(Math.fround(1 / 3))])
})

test('states may swap, or take an input, and stay tensors of their own', async () => {
  const backend = referenceBackend()
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  const [p, q] = [b.readState('p', 'buffer', 'float32', [2]), b.readState('q', 'buffer', 'float32', [2])]
  b.readState('r', 'buffer', 'float32', [2])
  b.writeState('p', 'buffer', 'float32', [2], q)
  b.writeState('q', 'buffer', 'float32', [2], p)
  b.writeState('r', 'buffer', 'float32', [2], x)
  const state = await backend.createState(['p', 'q', 'r'].map((name, i) => ({ name, kind: 'buffer' as const, data: tensor([i, i]) })))
  const f = await backend.compile(b.build(), { state })
  await f.run([tensor([7, 8])])
  expect([await state.read('p'), await state.read('q'), await state.read('r')]).toEqual([tensor([1, 1]), tensor([0, 0]), tensor([7, 8])])
  expect(live(backend)).toEqual([3, 24])
  state.dispose()
  f.dispose()
  expect(live(backend)).toEqual([0, 0])
})

test('a failing run changes no state and leaks nothing', async () => {
  const backend = referenceBackend()
  const b = new GraphBuilder(ops)
  const index = b.input('index', 'int32', [1])
  const s = b.readState('s', 'buffer', 'float32', [2])
  b.writeState('s', 'buffer', 'float32', [2], s.add(1))
  b.output('y', s.add(2).gather(index))
  const state = await backend.createState([{ name: 's', kind: 'buffer', data: tensor([1, 2]) }])
  const f = await backend.compile(b.build(), { state })
  await f.run([tensor([1], [1], 'int32')])
  const before = live(backend)
  await expect(f.run([tensor([5], [1], 'int32')])).rejects.toThrow('gather: index 5')
  expect(live(backend)).toEqual(before)
  expect(await state.read('s')).toEqual(tensor([2, 3]))
  expect(await f.run([tensor([0], [1], 'int32')])).toEqual([tensor([4])])
})

test('device tensors go in, and may be disposed while they are in use', async () => {
  const backend = referenceBackend()
  const f = await backend.compile(trace((x) => x.mul(2), { inputs: [{ shape: [2] }] }).graph)
  const x = await backend.upload(tensor([1, 2]))
  expect([x.backend, x.dtype, x.shape]).toEqual(['reference', 'float32', [2]])
  expect(await x.read()).toEqual(tensor([1, 2]))
  const running = f.run([x])
  x.dispose()
  x.dispose()
  expect(await running).toEqual([tensor([2, 4])])
  await expect(x.read()).rejects.toThrow(DisposedError)
  await expect(f.run([x])).rejects.toThrow('reference: this tensor was disposed')
  f.dispose()
  expect(live(backend)).toEqual([0, 0])
  const other = referenceBackend()
  await expect((await other.compile(f.graph)).run([await backend.upload(tensor([1, 2]))])).rejects.toThrow('another instance of this backend')
})

test('inputs of another number, dtype, shape or length are refused by name', async () => {
  const backend = referenceBackend()
  const f = await backend.compile(trace((x) => x.neg(), { inputs: [{ shape: [2], name: 'image' }] }).graph)
  await expect(f.run([])).rejects.toThrow("reference: run takes 1 inputs ('image'), got 0")
  await expect(f.run([tensor([1, 2], [2], 'int32')])).rejects.toThrow("reference: input 'image' must be float32[2], got int32")
  await expect(f.run([tensor([1, 2, 3])])).rejects.toThrow("reference: input 'image' must be float32[2], got [3]")
  await expect(f.run([{ dtype: 'float32', shape: [2], data: new Float32Array(3) }])).rejects.toThrow('needs 2 elements, got 3')
  expect(live(backend)).toEqual([0, 0])
})

test('stores are checked against the graph', async () => {
  const backend = referenceBackend()
  await expect(backend.compile(counter())).rejects.toThrow("reference: the graph reads the state 'count' (of 1); pass { state } from createState")
  await expect(backend.compile(counter(), { state: await backend.createState([]) })).rejects.toThrow("there is no state 'count' in this store; it holds none")
  const wide = await backend.createState([{ name: 'count', kind: 'buffer', data: tensor([1, 2, 3]) }])
  await expect(backend.compile(counter(), { state: wide })).rejects.toThrow("reference: to fit the store, the graph's state 'count' must be float32[3], got [2]")
  await expect(backend.compile(counter(), { state: await referenceBackend().createState(start) })).rejects.toThrow('the state belongs to another backend')
  await expect(backend.createState([...start, ...start])).rejects.toThrow("the state 'count' comes twice")
  const state = await backend.createState(start)
  await expect(state.read('nothing')).rejects.toThrow("there is no state 'nothing' in this store; it holds count")
  await expect(state.write('count', tensor(1))).rejects.toThrow("reference: state 'count' must be float32[2], got []")
})

test('graphs with unknown sizes are refused', async () => {
  const { graph } = trace((x) => x, { inputs: [{ shape: ['N', 2] }] })
  await expect(referenceBackend().compile(graph)).rejects.toThrow("reference: input 'input0' has unknown sizes, [N, 2]; specialise the graph first")
})

test('what was disposed is refused', async () => {
  const backend = referenceBackend()
  const state = await backend.createState(start)
  const f: Executable = await backend.compile(counter(), { state })
  const spare = await backend.upload(tensor([1]))
  f.dispose()
  f.dispose()
  await expect(f.run([tensor([1, 1])])).rejects.toThrow('reference: this executable was disposed')
  state.dispose()
  state.dispose()
  await expect(state.read('count')).rejects.toThrow(DisposedError)
  await expect(state.write('count', tensor([1, 1]))).rejects.toThrow('reference: this state store was disposed')
  await backend.dispose()
  await backend.dispose()
  expect(live(backend)).toEqual([0, 0])
  await expect(spare.read()).rejects.toThrow('reference: this backend was disposed')
  spare.dispose()
  await expect(backend.upload(tensor([1]))).rejects.toThrow(DisposedError)
  await expect(backend.compile(counter())).rejects.toThrow(DisposedError)
})

test('float16, int32 and bool keep their storage', async () => {
  const backend = referenceBackend()
  const { graph } = trace((h, i, b) => [h.mul(3), i.add(1), b.select(h, 0)], {
    inputs: [{ shape: [2], dtype: 'float16' }, { shape: [2], dtype: 'int32' }, { shape: [2], dtype: 'bool' }],
  })
  const f = await backend.compile(graph)
  expect(await f.run([tensor([0.1, 2], [2], 'float16'), tensor([2 ** 31 - 1, -1], [2], 'int32'), tensor([1, 0], [2], 'bool')])).toEqual([
    tensor([3 * 0.0999755859375, 6], [2], 'float16'),
    tensor([-(2 ** 31), 0], [2], 'int32'),
    tensor([0.1, 0], [2], 'float16'),
  ])
  expect(f.explain()).toBe('reference: 6 nodes, one at a time')
  expect(graph.nodes.map((node) => backend.supports(node, graph))).toEqual(graph.nodes.map(() => true))
})

