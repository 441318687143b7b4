// Cases about what surrounds the results: uploads, states, memory. backend/contract.ts of core is what
// they hold a backend to.

import {
  type Backend,
  DisposedError,
  type DType,
  dtypes,
  fromNumbers,
  type Graph,
  GraphBuilder,
  type HostTensor,
  ops,
  prepare,
  ShapeError,
  type StateInit,
  tensor,
} from '@dynconv/core'
import { contract, type ContractCase, numbers, withStore } from './contractDefine.ts'
import { programContracts } from './contractPrograms.ts'
import { refusalContracts } from './contractRefusals.ts'

// y = x + 1 and, with a state, total' = total + x; both of [3].
function adder(): Graph {
  const builder = new GraphBuilder(ops)
  const x = builder.input('x', 'float32', [3])
  builder.output('y', x.add(1))
  return builder.build()
}

function accumulator(): Graph {
  const builder = new GraphBuilder(ops)
  const x = builder.input('x', 'float32', [3])
  const total = builder.readState('total', 'buffer', 'float32', [3])
  builder.writeState('total', 'buffer', 'float32', [3], total.add(x))
  builder.output('before', total)
  builder.output('after', total.add(x))
  return builder.build()
}

// total' = total + x, to be held back when the sum of x is not finite.
function guarded(): Graph {
  const builder = new GraphBuilder(ops)
  const x = builder.input('x', 'float32', [3])
  const total = builder.readState('total', 'buffer', 'float32', [3])
  builder.writeState('total', 'buffer', 'float32', [3], total.add(x))
  builder.output('loss', x.sum())
  return builder.build()
}

// a' = b and b' = a: both must read what the other was.
function swap(): Graph {
  const builder = new GraphBuilder(ops)
  const a = builder.readState('a', 'buffer', 'float32', [2])
  const b = builder.readState('b', 'buffer', 'float32', [2])
  builder.writeState('a', 'buffer', 'float32', [2], b)
  builder.writeState('b', 'buffer', 'float32', [2], a)
  builder.output('sum', a.add(b))
  return builder.build()
}

const total: StateInit = { name: 'total', kind: 'buffer', data: tensor([10, 20, 30]) }

async function withAdder(backend: Backend, body: (run: (x: HostTensor) => Promise<readonly HostTensor[]>) => Promise<void>): Promise<void> {
  const executable = await backend.compile(adder())
  try {
    await body((x) => executable.run([x]))
  } finally {
    executable.dispose()
  }
}

const samples: { readonly [D in DType]: readonly number[] } = {
  float32: [1.5, -0, Number.NaN, Number.POSITIVE_INFINITY, 1e-30, 0.1],
  float16: [1.5, -0, Number.NaN, Number.NEGATIVE_INFINITY, 65504, 0.1],
  int32: [0, -1, 2147483647, -2147483648, 7, 8],
  bool: [0, 1, 1, 0, 0, 1],
}

/** All of them. */
export function contractCases(): readonly ContractCase[] {
  return [
    ...dtypes.map((dtype) =>
      contract(`upload and read ${dtype}`, async (backend, found) => {
        if (backend.capabilities.dtypes[dtype] === 'none') return
        for (const shape of [[2, 3], [6], [1, 1, 6, 1]]) {
          const value = fromNumbers(dtype, shape, samples[dtype])
          const device = await backend.upload(value)
          const back = await device.read()
          found.that(`it is ${back.dtype}[${back.shape.join(', ')}]`, back.dtype === dtype && back.shape.join() === shape.join())
          found.that(`the elements changed: ${String(back.data)} instead of ${String(value.data)}`, back.data.every((v: number, i: number) => Object.is(v, value.data[i])))
          device.dispose()
        }
        const scalar = await backend.upload(fromNumbers(dtype, [], [1]))
        found.same('a scalar', numbers(await scalar.read()), [1])
        scalar.dispose()
        const empty = await backend.upload(fromNumbers(dtype, [2, 0], []))
        found.that('an empty tensor is not empty', (await empty.read()).data.length === 0)
        empty.dispose()
      }),
    ),
    contract('a device tensor counts, is freed once, and is then gone', async (backend, found) => {
      const before = backend.memory()
      const device = await backend.upload(tensor(new Float32Array(1000)))
      const during = backend.memory()
      found.that('upload: no tensor more is alive', during.liveTensors > before.liveTensors)
      found.that(`upload: 4000 bytes were uploaded, ${during.liveBytes - before.liveBytes} count`, during.liveBytes - before.liveBytes >= 4000)
      found.that('memory: the peak is below what is alive', during.peakBytes >= during.liveBytes)
      device.dispose()
      device.dispose()
      device[Symbol.dispose]()
      found.same('memory after it was disposed', [backend.memory().liveTensors, backend.memory().liveBytes], [before.liveTensors, before.liveBytes])
      await found.refuses('read() of what was disposed', DisposedError, () => device.read())
    }),
    contract('device tensors are inputs', async (backend, found) => {
      const executable = await backend.compile(adder())
      const device = await backend.upload(tensor([1, 2, 3]))
      for (let i = 0; i < 2; i++) found.same('y', numbers((await executable.run([device]))[0]), [2, 3, 4])
      found.same('the input afterwards', numbers(await device.read()), [1, 2, 3])
      device.dispose()
      await found.refuses('run() on what was disposed', DisposedError, () => executable.run([device]))
      executable.dispose()
    }),
    contract('outputs belong to the caller', async (backend, found) => {
      await withAdder(backend, async (run) => {
        const [first] = await run(tensor([1, 2, 3]))
        first?.data.fill(99)
        found.same('y after the first y was overwritten', numbers((await run(tensor([1, 2, 3])))[0]), [2, 3, 4])
      })
    }),
    contract('inputs may be overwritten after a run', async (backend, found) => {
      await withAdder(backend, async (run) => {
        const x = tensor([1, 2, 3])
        const [first] = await run(x)
        x.data.fill(50)
        found.same('the first y', numbers(first), [2, 3, 4])
        found.same('y of the new input', numbers((await run(x))[0]), [51, 51, 51])
      })
    }),
    contract('a state is read, written and freed', async (backend, found) => {
      await withStore(backend, [total], async (store) => {
        found.that(`names are ${store.names.join(', ')}`, store.names.join() === 'total')
        const copy = await store.read('total')
        found.same('the start', numbers(copy), [10, 20, 30])
        copy.data.fill(0)
        found.same('the state after a copy of it was overwritten', numbers(await store.read('total')), [10, 20, 30])
        await store.write('total', tensor([1, 2, 3]))
        found.same('what was written', numbers(await store.read('total')), [1, 2, 3])
        store.dispose()
        store.dispose()
        await found.refuses('read() of what was disposed', DisposedError, () => store.read('total'))
      })
    }),
    contract('a state starts from a copy', async (backend, found) => {
      const data = tensor([10, 20, 30])
      await withStore(backend, [{ ...total, data }], async (store) => {
        data.data.fill(0)
        found.same('the state after its start was overwritten', numbers(await store.read('total')), [10, 20, 30])
        const next = tensor([1, 2, 3])
        const writing = store.write('total', next)
        next.data.fill(0)
        await writing
        found.same('the state after what was written to it was overwritten', numbers(await store.read('total')), [1, 2, 3])
      })
    }),
    contract('states of every dtype and rank come back as they were', async (backend, found) => {
      const able = dtypes.filter((dtype) => backend.capabilities.dtypes[dtype] !== 'none')
      const shaped = able.map((dtype): StateInit => ({ name: `some.${dtype}`, kind: 'parameter', data: fromNumbers(dtype, [3, 2], samples[dtype]) }))
      const kernels: StateInit = { name: 'conv.weight', kind: 'parameter', data: tensor(Float32Array.from({ length: 32 * 16 * 9 }, (_, i) => i), [32, 16, 3, 3]) }
      const scalar: StateInit = { name: 'temperature', kind: 'buffer', data: tensor(30) }
      const initial = [...shaped, kernels, scalar]
      await withStore(backend, initial, async (store) => {
        found.that(`names are ${store.names.join(', ')}`, store.names.toSorted().join() === initial.map((s) => s.name).toSorted().join())
        for (const { name, data } of initial) {
          const back = await store.read(name)
          const same = back.dtype === data.dtype && back.shape.join() === data.shape.join() && back.data.every((v: number, i: number) => Object.is(v, data.data[i]))
          found.that(`${name} is ${back.dtype}[${back.shape.join(', ')}] with ${String(back.data.slice(0, 6))}`, same)
        }
      })
    }),
    contract('an executable knows its graph and explains itself', async (backend, found) => {
      const graph = adder()
      const executable = await backend.compile(graph)
      found.that('its graph has other inputs or outputs', executable.graph.inputs[0]?.name === 'x' && executable.graph.outputs[0]?.name === 'y')
      found.that('explain() gives no text', typeof executable.explain() === 'string')
      executable.dispose()
    }),
    contract('runs carry states on', async (backend, found) => {
      await withStore(backend, [total], async (state) => {
        const executable = await backend.compile(accumulator(), { state })
        for (let i = 0; i < 3; i++) {
          const [before, after] = await executable.run([tensor([1, 2, 3])])
          found.same(`before run ${i}`, numbers(before), [10 + i, 20 + 2 * i, 30 + 3 * i])
          found.same(`after run ${i}`, numbers(after), [11 + i, 22 + 2 * i, 33 + 3 * i])
        }
        await found.refuses('a wrong input', ShapeError, () => executable.run([tensor([1])]))
        found.same('the state after a run that failed', numbers(await state.read('total')), [13, 26, 39])
        executable.dispose()
        found.same('the state after its executable is gone', numbers(await state.read('total')), [13, 26, 39])
      })
    }),
    contract('a run whose guard is not finite changes no state', async (backend, found) => {
      await withStore(backend, [total], async (state) => {
        const { graph } = prepare(guarded(), backend, { guard: 'loss' })
        // A backend that leaves the guard to the graph needs comparisons and selections for it.
        if (graph.nodes.some((node) => backend.supports(node, graph) !== true)) return
        const executable = await backend.compile(graph, { state, guard: 'loss' })
        for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
          const [loss] = await executable.run([tensor([1, bad, 3])])
          found.that(`the loss with ${bad} is ${String(loss?.data)}`, !numbers(loss).every(Number.isFinite))
          found.same(`the state after a run with ${bad}`, numbers(await state.read('total')), [10, 20, 30])
        }
        found.same('the loss of a good run', numbers((await executable.run([tensor([1, 2, 3])]))[0]), [6])
        found.same('the state after it', numbers(await state.read('total')), [11, 22, 33])
        executable.dispose()
      })
    }),
    contract('two executables share a store', async (backend, found) => {
      await withStore(backend, [total], async (state) => {
        const first = await backend.compile(accumulator(), { state })
        const second = await backend.compile(accumulator(), { state })
        await first.run([tensor([1, 1, 1])])
        await second.run([tensor([2, 2, 2])])
        await first.run([tensor([4, 4, 4])])
        found.same('the state', numbers(await state.read('total')), [17, 27, 37])
        first.dispose()
        await second.run([tensor([1, 1, 1])])
        found.same('the state, when one of them is gone', numbers(await state.read('total')), [18, 28, 38])
        second.dispose()
      })
    }),
    contract('every read sees the state as it was', async (backend, found) => {
      const initial = (['a', 'b'] as const).map((name, i): StateInit => ({ name, kind: 'buffer', data: tensor([i, i + 10]) }))
      await withStore(backend, initial, async (state) => {
        const executable = await backend.compile(swap(), { state })
        const [sum] = await executable.run([])
        found.same('the sum', numbers(sum), [1, 21])
        found.same('a', numbers(await state.read('a')), [1, 11])
        found.same('b', numbers(await state.read('b')), [0, 10])
        executable.dispose()
      })
    }),
    contract('runs that overlap do not mix', async (backend, found) => {
      await withStore(backend, [total], async (state) => {
        const executable = await backend.compile(accumulator(), { state })
        const runs = await Promise.all([1, 2, 4].map((x) => executable.run([tensor([x, x, x])])))
        const differences = runs.map(([before, after]) => (numbers(after)[0] ?? 0) - (numbers(before)[0] ?? 0))
        found.same('what each run added', differences, [1, 2, 4])
        found.same('the state', numbers(await state.read('total')), [17, 27, 37])
        executable.dispose()
      })
    }),
    contract('many runs take no more memory', async (backend, found) => {
      await withStore(backend, [total], async (state) => {
        const executable = await backend.compile(accumulator(), { state })
        await executable.run([tensor([1, 2, 3])])
        const { liveTensors, liveBytes } = backend.memory()
        for (let i = 0; i < 20; i++) await executable.run([tensor([1, 2, 3])])
        found.same('tensors and bytes alive', [backend.memory().liveTensors, backend.memory().liveBytes], [liveTensors, liveBytes])
        executable.dispose()
      })
    }),
    ...programContracts(),
    ...refusalContracts(),
  ]
}
