// Cases about what a backend must refuse, by name: inputs, states and data that do not fit, and whatever was disposed.

import { type Backend, DisposedError, DTypeError, type Graph, GraphBuilder, GraphError, ops, referenceBackend, ShapeError, type StateInit, tensor } from '@dynconv/core'
import { contract, type ContractCase, numbers, withStore } from './contractDefine.ts'

// sum = left + right + weight; all of [3], or of `shape`.
function sum(shape: readonly (number | string)[] = [3]): Graph {
  const builder = new GraphBuilder(ops)
  const [left, right] = [builder.input('left', 'float32', shape), builder.input('right', 'float32', shape)]
  builder.output('sum', left.add(right).add(builder.readState('weight', 'parameter', 'float32', [3])))
  return builder.build()
}

const x = tensor([1, 2, 3])
const weight: StateInit = { name: 'weight', kind: 'parameter', data: tensor([10, 20, 30]) }
// Data that are not of their type: too few, and (boundary: plain JavaScript may give it) of another kind of array.
const short = { ...x, data: new Float32Array(2) }
const wrong = { ...x, data: new Int32Array(3) as unknown as Float32Array }

async function withReference(body: (other: Backend) => Promise<void>): Promise<void> {
  const other = referenceBackend()
  try {
    await body(other)
  } finally {
    await other.dispose()
  }
}

/** All of them. */
export function refusalContracts(): readonly ContractCase[] {
  return [
    contract('inputs that do not fit are refused by name', async (backend, found) => {
      await withStore(backend, [weight], async (state) => {
        const program = await backend.compile(sum(), { state })
        const named = [backend.name, 'left']
        await found.refuses('shape [4] for [3]', ShapeError, () => program.run([tensor([1, 2, 3, 4]), x]), ...named)
        await found.refuses('shape [3, 1] for [3]', ShapeError, () => program.run([tensor([1, 2, 3], [3, 1]), x]), ...named)
        await found.refuses('int32 for float32', DTypeError, () => program.run([tensor([1, 2, 3], [3], 'int32'), x]), ...named)
        await found.refuses('too few elements', ShapeError, () => program.run([short, x]), ...named)
        await found.refuses('elements of another kind', DTypeError, () => program.run([wrong, x]), ...named)
        await found.refuses('one input for two', ShapeError, () => program.run([x]), ...named)
        await found.refuses('three inputs for two', ShapeError, () => program.run([x, x, x]), ...named)
        const device = await backend.upload(tensor([1, 2]))
        await found.refuses('a device tensor of another shape', ShapeError, () => program.run([device, x]), ...named)
        device.dispose()
        await withReference(async (other) => {
          const foreign = await other.upload(x)
          await found.refuses('a device tensor of another backend', GraphError, () => program.run([foreign, x]), ...named)
        })
        found.same('a run after all that', numbers((await program.run([x, x]))[0]), [12, 24, 36])
        program.dispose()
      })
    }),
    contract('stores that do not fit a graph are refused by name', async (backend, found) => {
      const named = [backend.name, 'weight']
      await found.refuses('compile() without a store', GraphError, () => backend.compile(sum()), ...named)
      const refused = (what: string, expected: typeof GraphError, init: StateInit): Promise<void> =>
        withStore(backend, [init], (state) => found.refuses(what, expected, () => backend.compile(sum(), { state }), ...named))
      await refused('a store that lacks the state', GraphError, { ...weight, name: 'other' })
      await refused('a store whose state has another shape', ShapeError, { ...weight, data: tensor([1, 2]) })
      await refused('a store whose state has another dtype', DTypeError, { ...weight, data: tensor([1, 2, 3], [3], 'int32') })
      await withReference(async (other) => {
        await withStore(other, [weight], (state) => found.refuses('a store of another backend', GraphError, () => backend.compile(sum(), { state }), backend.name))
      })
      await withStore(backend, [weight], async (state) => {
        state.dispose()
        await found.refuses('a store that was disposed', DisposedError, () => backend.compile(sum(), { state }), backend.name)
      })
    }),
    contract('states and data that do not fit are refused by name', async (backend, found) => {
      const named = [backend.name, 'weight']
      const making = (...initial: readonly StateInit[]): Promise<void> => withStore(backend, initial, () => Promise.resolve())
      await found.refuses('two states of one name', GraphError, () => making(weight, weight), ...named)
      await found.refuses('a state with too few elements', ShapeError, () => making({ ...weight, data: short }), ...named)
      await found.refuses('a state with elements of another kind', DTypeError, () => making({ ...weight, data: wrong }), ...named)
      await found.refuses('upload() of too few elements', ShapeError, () => backend.upload(short), backend.name)
      await found.refuses('upload() of elements of another kind', DTypeError, () => backend.upload(wrong), backend.name)
      await withStore(backend, [weight], async (store) => {
        await found.refuses('write() of another shape', ShapeError, () => store.write('weight', tensor([1, 2])), ...named)
        await found.refuses('write() of another dtype', DTypeError, () => store.write('weight', tensor([1, 2, 3], [3], 'int32')), ...named)
        await found.refuses('write() of too few elements', ShapeError, () => store.write('weight', short), ...named)
        await found.refuses('write() of elements of another kind', DTypeError, () => store.write('weight', wrong), ...named)
        await found.refuses('read() of an unknown name', GraphError, () => store.read('other'), backend.name, 'other', 'weight')
        await found.refuses('write() of an unknown name', GraphError, () => store.write('other', x), backend.name, 'other', 'weight')
        found.same('the state after all that', numbers(await store.read('weight')), [10, 20, 30])
      })
    }),
    contract('a graph with unknown sizes is refused by name', async (backend, found) => {
      await withStore(backend, [weight], (state) => found.refuses('compile()', ShapeError, () => backend.compile(sum(['N', 3]), { state }), backend.name, 'left', 'N'))
    }),
    contract('what was asked for before a disposal is done', async (backend, found) => {
      await withStore(backend, [weight], async (state) => {
        const [program, device] = [await backend.compile(sum(), { state }), await backend.upload(x)]
        const asked = Promise.all([program.run([device, x]), program.run([x, device]), device.read(), state.read('weight')])
        for (const thing of [device, program, state, state]) thing.dispose()
        const [[first], [second], uploaded, read] = await asked
        for (const [what, t] of Object.entries({ first, second })) found.same(`the ${what} run`, numbers(t), [12, 24, 36])
        found.same('the uploaded tensor', numbers(uploaded), [1, 2, 3])
        found.same('the state', numbers(read), [10, 20, 30])
        await found.refuses('run()', DisposedError, () => program.run([x, x]), backend.name)
        await found.refuses('read() of the tensor', DisposedError, () => device.read(), backend.name)
        await found.refuses('read() of the state', DisposedError, () => state.read('weight'), backend.name)
        await found.refuses('write() of the state', DisposedError, () => state.write('weight', x), backend.name)
      })
    }),
    contract('a backend that was disposed is gone with its executables', async ({ name }, found, create) => {
      const other = await create()
      const state = await other.createState([weight])
      const program = await other.compile(sum(), { state })
      const running = program.run([x, x])
      await other.dispose()
      await other.dispose()
      found.same('a run that was asked for before', numbers((await running)[0]), [12, 24, 36])
      await found.refuses('run()', DisposedError, () => program.run([x, x]), name)
      await found.refuses('compile()', DisposedError, () => other.compile(sum(), { state }), name)
      await found.refuses('upload()', DisposedError, () => other.upload(x), name)
      await found.refuses('createState()', DisposedError, () => other.createState([weight]), name)
      state.dispose()
    }),
  ]
}
