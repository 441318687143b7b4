// A whole backend from three kernels over a toy engine that frees by hand and answers asynchronously. What does not depend
// on the engine (checks, disposal, queues) is tested through the reference backend.

import { expect, test } from 'vitest'
import type { Backend } from './contract.ts'
import { kernelBackend } from './kernelBackend.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { trace } from '../graph/trace.ts'
import { ops } from '../ops/table.ts'
import { fromNumbers, tensor } from '../tensor/hostTensor.ts'

class Cell {
  readonly #numbers: readonly number[]
  #freed: boolean = false

  constructor(numbers: Iterable<number>) {
    this.#numbers = [...numbers]
  }

  get numbers(): readonly number[] {
    if (this.#freed) throw new Error('read after it was freed')
    return this.#numbers
  }

  free(): void {
    if (this.#freed) throw new Error('freed twice')
    this.#freed = true
  }
}

interface Toy {
  readonly backend: Backend
  readonly made: () => number
  readonly freed: () => number
}

// `during` is awaited inside each maximum.
function toy(during: () => Promise<void> | void = () => undefined): Toy {
  let made = 0
  let freed = 0
  const cell = (numbers: Iterable<number>): Cell => {
    made++
    return new Cell(numbers)
  }
  const numbersOf = (t: Cell | undefined): readonly number[] => t?.numbers ?? []
  const backend = kernelBackend<Cell>({
    name: 'toy',
    capabilities: { dtypes: { float32: 'arithmetic', float16: 'none', int32: 'none', bool: 'none' }, device: 'a list' },
    kernels: {
      constant: ({ value }) => cell(value.data),
      max: async (_attrs, [a, b]) => {
        await during()
        return cell(numbersOf(a).map((v) => Math.max(v, numbersOf(b)[0] ?? 0)))
      },
      add: (_attrs, [a, b]) => cell(numbersOf(a).map((v, i) => v + (numbersOf(b)[i] ?? 0))),
      // Hands its input on.
      abs: (_attrs, [a]) => a ?? cell([]),
    },
    upload: async ({ data }) => cell(data),
    download: async ({ numbers }, { dtype, shape }) => fromNumbers(dtype, shape, numbers),
    free: (t) => {
      freed++
      t.free()
    },
  })
  return { backend, made: () => made, freed: () => freed }
}

test('ops that the engine lacks are decomposed, and everything is freed', async () => {
  const { backend, made, freed } = toy()
  const f = await backend.compile(trace((x) => x.relu(), { inputs: [{ shape: [2] }] }).graph)
  expect(await f.run([tensor([-1, 2])])).toEqual([tensor([0, 2])])
  expect(await f.run([tensor([3, -2])])).toEqual([tensor([3, 0])])
  expect(f.explain()).toBe('toy: 2 nodes, one at a time; decomposed: relu')
  // The constant stays between runs.
  expect(backend.memory()).toEqual({ liveTensors: 1, liveBytes: 4, peakBytes: 4 + 8 + 8 })
  f.dispose()
  expect(backend.memory().liveTensors).toBe(0)
  expect([made(), freed()]).toEqual([5, 5])
})

test('ops that it can neither run nor decompose are refused', async () => {
  const { backend } = toy()
  const { graph } = trace((x) => x.exp(), { inputs: [{ shape: [2] }] })
  const [node] = graph.nodes
  if (!node) throw new Error('the trace made no node')
  expect(backend.supports(node, graph)).toEqual({ reason: 'there is no kernel for it, and it does not decompose into simpler ops' })
  await expect(backend.compile(graph)).rejects.toThrow('toy: cannot run exp: there is no kernel for it')
})

test('states take results, inputs, constants and one another’s values, and stay tensors of their own', async () => {
  const { backend, made, freed } = toy()
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  const names = ['p', 'q', 'sum', 'twin', 'input', 'fixed', 'idle']
  const [p = x, q = x, sum = x] = names.map((name) => b.readState(name, 'buffer', 'float32', [2]))
  const next = sum.add(x)
  const updates = { p: q, q: p.abs(), sum: next, twin: next, input: x, fixed: x.constant(tensor([8, 9])) }
  for (const [name, value] of Object.entries(updates)) b.writeState(name, 'buffer', 'float32', [2], value)
  b.output('sum', next)
  const state = await backend.createState(names.map((name, i) => ({ name, kind: 'buffer' as const, data: tensor([i, i]) })))
  const f = await backend.compile(b.build(), { state })
  expect(await f.run([tensor([10, 20])])).toEqual([tensor([12, 22])])
  expect(await f.run([tensor([10, 20])])).toEqual([tensor([22, 42])])
  await f.run([tensor([0, 1])])
  const kept = await Promise.all(names.map((name) => state.read(name)))
  expect(kept.map((t) => [...t.data])).toEqual([[1, 1], [0, 0], [22, 43], [22, 43], [0, 1], [8, 9], [6, 6]])
  expect(backend.memory().liveTensors).toBe(names.length + 1)
  f.dispose()
  state.dispose()
  expect(backend.memory().liveBytes).toBe(0)
  expect(freed()).toBe(made())
})

test('what is disposed in the middle of a run is freed after it', async () => {
  const middle: (() => void)[] = []
  const { backend, made, freed } = toy(() => middle.pop()?.())
  const { graph } = trace((x) => x.relu(), { inputs: [{ shape: [2] }] })
  const f = await backend.compile(graph)
  const x = await backend.upload(tensor([-1, 2]))
  middle.push(() => {
    x.dispose()
    f.dispose()
    expect(freed()).toBe(0)
  })
  expect(await f.run([x])).toEqual([tensor([0, 2])])
  expect(middle).toEqual([])
  expect(backend.memory().liveTensors).toBe(0)
  expect(freed()).toBe(made())
})

test('disposing the engine waits for what runs, then frees what is left', async () => {
  const middle: (() => void)[] = []
  const { backend, made, freed } = toy(() => middle.pop()?.())
  const f = await backend.compile(trace((x) => x.relu(), { inputs: [{ shape: [2] }] }).graph)
  await backend.upload(tensor([1, 2, 3]))
  const ends: Promise<void>[] = []
  middle.push(() => ends.push(backend.dispose()))
  expect(await f.run([tensor([-1, 2])])).toEqual([tensor([0, 2])])
  await Promise.all(ends)
  expect(ends).toHaveLength(1)
  await expect(f.run([tensor([-1, 2])])).rejects.toThrow('toy: this backend was disposed')
  expect(backend.memory().liveTensors).toBe(0)
  expect(freed()).toBe(made())
})
