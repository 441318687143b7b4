// What every backend keeps to is the suite's contract; here stand the words of this one's errors, its accounts, its end.

import { randn } from '@dynconv/conformance'
import { conformanceTests } from '@dynconv/conformance/vitest'
import { type Backend, DisposedError, DTypeError, fromNumbers, type Graph, GraphBuilder, GraphError, type HostTensor, ops, ShapeError, tensor, trace } from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { testedEngines } from './testing/engines.ts'

const numbers = (t: HostTensor | undefined): number[] => Array.from(t?.data ?? [])

// y = x fc.weight, with weights [3, 2].
function product(): Graph {
  const builder = new GraphBuilder(ops)
  const x = builder.input('x', 'float32', [1, 3])
  builder.output('y', x.matmul(builder.readState('fc.weight', 'parameter', 'float32', [3, 2])))
  return builder.build()
}

describe.each([...testedEngines])('$title', ({ options }) => {
  conformanceTests({ name: 'tfjs', create: () => tfjs(options) }, { modes: ['memory'], filters: ['contract['] })

  let backend: Backend
  beforeAll(async () => {
    backend = await tfjs(options)
  })
  afterAll(async () => {
    const { liveTensors, liveBytes } = backend.memory()
    await backend.dispose()
    if (liveTensors + liveBytes > 0) throw new Error(`the tests left ${liveTensors} tensors of ${liveBytes} bytes alive`)
  })

  test('a failing run says that no state was changed', async () => {
    const { graph } = trace((table, at) => table.gather(at), { inputs: [{ shape: [3] }, { dtype: 'int32', shape: [1] }] })
    const program = await backend.compile(graph)
    await expect(program.run([tensor([1, 2, 3]), tensor([9], [1], 'int32')])).rejects.toThrow(/tfjs: the run failed; no state was changed/)
    program.dispose()
  })

  test('inputs of another shape, dtype or count are refused by name', async () => {
    const { graph } = trace((a, b) => a.add(b), { inputs: [{ shape: [2], name: 'left' }, { shape: [2] }] })
    const program = await backend.compile(graph)
    await expect(program.run([tensor([1, 2, 3]), tensor([1, 2])])).rejects.toThrow(new ShapeError("tfjs: input 'left' must be [2], got [3]"))
    await expect(program.run([tensor([1, 2], [2], 'int32'), tensor([1, 2])])).rejects.toThrow(new DTypeError("tfjs: input 'left' must be float32, got int32"))
    await expect(program.run([tensor([1, 2])])).rejects.toThrow(/takes 2 inputs \(left, input1\), got 1/)
    const short = { ...tensor([1, 2]), data: new Float32Array(1) }
    await expect(program.run([short, tensor([1, 2])])).rejects.toThrow(/'left' of \[2\] needs 2 elements, got 1/)
    program.dispose()
  })

  test('states that are missing, unknown or of another type are refused by name', async () => {
    const graph = product()
    await expect(backend.compile(graph)).rejects.toThrow(/reads the state 'fc.weight'.*pass \{ state \}/)
    const few = await backend.createState([{ name: 'bias', kind: 'parameter', data: randn([2]) }])
    await expect(backend.compile(graph, { state: few })).rejects.toThrow(/there is no state 'fc.weight'; there are: bias/)
    few.dispose()
    const wide = { name: 'fc.weight', kind: 'parameter', data: randn([3, 5]) } as const
    const other = await backend.createState([wide])
    await expect(backend.compile(graph, { state: other })).rejects.toThrow(/'fc.weight' is float32\[3, 2\], the store holds float32\[3, 5\]/)
    await expect(other.write('fc.weight', randn([1]))).rejects.toThrow(ShapeError)
    await expect(other.write('fc.weight', fromNumbers('int32', [3, 5], new Int32Array(15)))).rejects.toThrow(DTypeError)
    await expect(other.read('nothing')).rejects.toThrow(GraphError)
    other.dispose()
    await expect(other.read('fc.weight')).rejects.toThrow(DisposedError)
    await expect(backend.createState([wide, wide])).rejects.toThrow(/two states are named/)
  })

  test('what is disposed says so', async () => {
    const other = await tfjs(options)
    const { graph } = trace((t) => t.mul(2), { inputs: [{ shape: [2] }] })
    const program = await other.compile(graph)
    const running = program.run([tensor([1, 2])])
    program.dispose()
    program.dispose()
    expect(numbers((await running)[0])).toEqual([2, 4])
    await expect(program.run([tensor([1, 2])])).rejects.toThrow(DisposedError)
    const left = await other.compile(graph)
    await other.dispose()
    await expect(left.run([tensor([1, 2])])).rejects.toThrow(DisposedError)
    await expect(other.compile(graph)).rejects.toThrow(DisposedError)
    await expect(other.upload(tensor(1))).rejects.toThrow(DisposedError)
    await expect(other.createState([])).rejects.toThrow(DisposedError)
  })

  test('memory counts states and device tensors, stays the same over runs, and returns to where it was', async () => {
    const start = backend.memory()
    const state = await backend.createState([{ name: 's', kind: 'buffer', data: randn([100]) }])
    expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors + 1, liveBytes: start.liveBytes + 400 })
    const device = await backend.upload(randn([10]))
    expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors + 2, liveBytes: start.liveBytes + 440 })
    const builder = new GraphBuilder(ops)
    const s = builder.readState('s', 'buffer', 'float32', [100])
    builder.writeState('s', 'buffer', 'float32', [100], s.mul(s.constant(randn([100], 2))))
    const program = await backend.compile(builder.build(), { state })
    await program.run([])
    const first = backend.memory()
    await program.run([])
    expect(backend.memory()).toMatchObject({ liveTensors: first.liveTensors, liveBytes: first.liveBytes })
    program.dispose()
    device.dispose()
    state.dispose()
    expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors, liveBytes: start.liveBytes })
  })

  test('a graph with unknown sizes is refused', async () => {
    const { graph } = trace((t) => t.mul(2), { inputs: [{ shape: ['N', 2] }] })
    await expect(backend.compile(graph)).rejects.toThrow(/tfjs: cannot run .*unknown sizes/)
  })
})
