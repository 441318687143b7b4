import { compareRounded, randint, randn } from '@dynconv/conformance'
import {
  type Backend,
  batchNorm,
  conv2d,
  DisposedError,
  DTypeError,
  dtypes,
  dynamicConv2d,
  evaluate,
  fromNumbers,
  type Graph,
  GraphBuilder,
  GraphError,
  gradients,
  type HostTensor,
  hostTensor,
  ops,
  ShapeError,
  type StateInit,
  tensor,
  type Tensor,
  toRef,
  trace,
} from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { testedEngines } from './testing/engines.ts'

const numbers = (t: HostTensor | undefined): number[] => Array.from(t?.data ?? [])

const initial: readonly StateInit[] = [
  { name: 'conv.weight', kind: 'parameter', data: randn([16, 16, 3, 3], 1) },
  { name: 'fc.weight', kind: 'parameter', data: randn([16, 3], 2) },
  { name: 'momentum', kind: 'optimizer', data: fromNumbers('float32', [16, 16, 3, 3], new Float32Array(2304)) },
  { name: 'steps', kind: 'buffer', data: tensor(0, [], 'int32') },
  { name: 'unused', kind: 'buffer', data: tensor([1, 2]) },
  { name: 'bases', kind: 'parameter', data: randn([2, 16, 16, 3, 3], 3) },
  { name: 'gamma', kind: 'parameter', data: fromNumbers('float32', [16], new Float32Array(16).fill(1)) },
  { name: 'mean', kind: 'buffer', data: fromNumbers('float32', [16], new Float32Array(16)) },
]
const images = (seed: number = 10): readonly HostTensor[] => [randn([3, 16, 6, 6], seed), randint([3], 3, seed)]

// A step of gradient descent on a small classifier: convolution with momentum, batch normalisation, dynamic convolution.
function trainingStep(): Graph {
  const builder = new GraphBuilder(ops)
  const states = new Map(initial.map(({ name, kind, data }) => [name, { kind, data }]))
  const access = (name: string, next?: (value: Tensor) => Tensor): Tensor => {
    const { kind, data } = states.get(name) ?? { kind: 'buffer', data: tensor(0) }
    const value = builder.readState(name, kind, data.dtype, data.shape)
    if (next) builder.writeState(name, kind, data.dtype, data.shape, next(value))
    return value
  }
  const x = builder.input('x', 'float32', [3, 16, 6, 6])
  const label = builder.input('label', 'int32', [3])
  const [weight, bases, gamma, fc] = [access('conv.weight'), access('bases'), access('gamma'), access('fc.weight')]
  const [normal, mean] = batchNorm(conv2d(x, weight, { padding: 1 }), gamma, gamma.mul(0))
  const mixture = x.mean([2, 3]).slice([0, 0], [3, 2]).softmax(1)
  const logits = dynamicConv2d(normal.relu(), bases, mixture, { padding: 1, stride: 2 }).relu().mean([2, 3]).matmul(fc)
  const loss = logits.logSoftmax(1).mul(label.oneHot(3)).sum().mul(-1 / 3)
  const [dWeight, dBases, dGamma, dFc] = gradients(loss, [weight, bases, gamma, fc])
  if (!dWeight || !dBases || !dGamma || !dFc) throw new Error('no gradient')
  const velocity = access('momentum').mul(0.9).add(dWeight)
  access('momentum', () => velocity)
  access('conv.weight', (w) => w.sub(velocity.mul(0.01)))
  access('bases', (w) => w.sub(dBases.mul(0.01)))
  access('gamma', (w) => w.sub(dGamma.mul(0.01)))
  access('fc.weight', (w) => w.sub(dFc.mul(0.01)))
  access('mean', (m) => m.mul(0.9).add(mean.mul(0.1)))
  const steps = access('steps')
  access('steps', (n) => n.add(1))
  access('unused')
  builder.output('loss', loss)
  builder.output('steps', steps)
  return builder.build()
}

describe.each([...testedEngines])('$title', ({ options }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await tfjs(options)
  })
  afterAll(async () => {
    const { liveTensors, liveBytes } = backend.memory()
    await backend.dispose()
    if (liveTensors + liveBytes > 0) throw new Error(`the tests left ${liveTensors} tensors of ${liveBytes} bytes alive`)
  })

  async function runOnce(fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[], inputs: readonly HostTensor[]): Promise<readonly HostTensor[]> {
    const { graph } = trace(fn, { inputs: inputs.map(({ dtype, shape }) => ({ dtype, shape })) })
    const program = await backend.compile(graph)
    try {
      return await program.run(inputs)
    } finally {
      program.dispose()
    }
  }

  describe('a training step', () => {
    test('agrees with the oracle over several runs', async () => {
      const graph = trainingStep()
      const state = await backend.createState(initial)
      const program = await backend.compile(graph, { state })
      let expected = new Map(initial.map((s) => [s.name, toRef(s.data)]))
      for (let step = 0; step < 4; step++) {
        const inputs = images(10 + step)
        const outputs = await program.run(inputs)
        const oracle = evaluate(graph, inputs.map(toRef), expected)
        expected = new Map(oracle.states)
        expect(outputs.map((t, i) => compareRounded(t, oracle.outputs[i], 400))).toEqual([undefined, undefined])
        for (const name of state.names) expect([name, compareRounded(await state.read(name), expected.get(name), 400)]).toEqual([name, undefined])
      }
      expect(numbers(await state.read('steps'))).toEqual([4])
      program.dispose()
      state.dispose()
    })

    test('starts from copies: neither the initial data nor what was written or read is shared', async () => {
      const graph = trainingStep()
      const state = await backend.createState(initial)
      const program = await backend.compile(graph, { state })
      const before = numbers(initial[0]?.data)
      const read = await state.read('conv.weight')
      read.data.fill(7)
      await program.run(images())
      expect(numbers(initial[0]?.data)).toEqual(before)
      const mine = tensor([5, 6])
      const writing = state.write('unused', mine)
      mine.data.fill(0)
      await writing
      expect(numbers(await state.read('unused'))).toEqual([5, 6])
      program.dispose()
      state.dispose()
    })

    test('runs, reads and writes follow each other as they were asked for', async () => {
      const graph = trainingStep()
      const state = await backend.createState(initial)
      const program = await backend.compile(graph, { state })
      const inputs = images()
      const [first, second, read, , third, last] = await Promise.all([
        program.run(inputs),
        program.run(inputs),
        state.read('steps'),
        state.write('steps', tensor(40, [], 'int32')),
        program.run(inputs),
        state.read('steps'),
      ])
      expect([first, second, third].map((r) => numbers(r[1]))).toEqual([[0], [1], [40]])
      expect([read, last].map(numbers)).toEqual([[2], [41]])
      program.dispose()
      state.dispose()
    })

    test('a state that is written by hand or read by a program of another kind is the same state', async () => {
      const state = await backend.createState(initial)
      const program = await backend.compile(trainingStep(), { state })
      await program.run(images())
      const weight = await state.read('conv.weight')
      const builder = new GraphBuilder(ops)
      const w = builder.readState('conv.weight', 'parameter', 'float32', [16, 16, 3, 3])
      builder.output('w', w)
      builder.writeState('conv.weight', 'parameter', 'float32', [16, 16, 3, 3], w.transpose([1, 0, 3, 2]))
      const turn = await backend.compile(builder.build(), { state })
      expect((await turn.run([]))[0]).toEqual(weight)
      await turn.run([])
      expect(await state.read('conv.weight')).toEqual(weight)
      for (const s of initial) await state.write(s.name, s.data)
      const fresh = await backend.createState(initial)
      const other = await backend.compile(trainingStep(), { state: fresh })
      expect(await program.run(images())).toEqual(await other.run(images()))
      expect(await state.read('conv.weight')).toEqual(await fresh.read('conv.weight'))
      for (const d of [program, turn, other, state, fresh]) d.dispose()
    })

    test('two programs share one state', async () => {
      const graph = trainingStep()
      const state = await backend.createState(initial)
      const [a, b] = [await backend.compile(graph, { state }), await backend.compile(graph, { state })]
      const inputs = images()
      await a.run(inputs)
      const [, steps] = await b.run(inputs)
      expect(numbers(steps)).toEqual([1])
      a.dispose()
      expect(numbers((await b.run(inputs))[1])).toEqual([2])
      b.dispose()
      state.dispose()
    })
  })

  test('a failing run changes no state, and the next one works', async () => {
    const builder = new GraphBuilder(ops)
    const table = builder.readState('table', 'parameter', 'float32', [3])
    const at = builder.input('at', 'int32', [1])
    builder.writeState('table', 'parameter', 'float32', [3], table.add(1))
    builder.output('y', table.gather(at))
    const state = await backend.createState([{ name: 'table', kind: 'parameter', data: tensor([1, 2, 3]) }])
    const program = await backend.compile(builder.build(), { state })
    await expect(program.run([tensor([9], [1], 'int32')])).rejects.toThrow(/tfjs: the run failed; no state was changed/)
    expect(numbers(await state.read('table'))).toEqual([1, 2, 3])
    expect(numbers((await program.run([tensor([2], [1], 'int32')]))[0])).toEqual([3])
    expect(numbers(await state.read('table'))).toEqual([2, 3, 4])
    program.dispose()
    state.dispose()
  })

  describe('inputs', () => {
    const add = (a: Tensor, b: Tensor): Tensor => a.add(b)
    test('of another shape, dtype or count are refused by name', async () => {
      const { graph } = trace(add, { inputs: [{ shape: [2], name: 'left' }, { shape: [2] }] })
      const program = await backend.compile(graph)
      await expect(program.run([tensor([1, 2, 3]), tensor([1, 2])])).rejects.toThrow(new ShapeError("tfjs: input 'left' must be [2], got [3]"))
      await expect(program.run([tensor([1, 2], [2], 'int32'), tensor([1, 2])])).rejects.toThrow(new DTypeError("tfjs: input 'left' must be float32, got int32"))
      await expect(program.run([tensor([1, 2])])).rejects.toThrow(/takes 2 inputs \(left, input1\), got 1/)
      const short = { ...tensor([1, 2]), data: new Float32Array(1) }
      await expect(program.run([short, tensor([1, 2])])).rejects.toThrow(/'left' of \[2\] needs 2 elements, got 1/)
      program.dispose()
    })

    test('are not changed by a run, and outputs are not shared with them', async () => {
      const x = tensor([1, 2])
      const [y] = await runOnce((t) => [t], [x])
      y?.data.fill(0)
      expect(numbers(x)).toEqual([1, 2])
    })

    test('may be device tensors, which keep what was uploaded', async () => {
      const x = tensor([1, 2])
      const device = await backend.upload(x)
      x.data.fill(0)
      const [y] = await runOnce((t) => t.mul(3), [await device.read()])
      expect(numbers(y)).toEqual([3, 6])
      const { graph } = trace((t) => t.mul(2), { inputs: [{ shape: [2] }] })
      const program = await backend.compile(graph)
      expect(numbers((await program.run([device]))[0])).toEqual([2, 4])
      device.dispose()
      device.dispose()
      await expect(program.run([device])).rejects.toThrow(DisposedError)
      await expect(device.read()).rejects.toThrow(DisposedError)
      program.dispose()
    })

    test('without elements, in every dtype', async () => {
      const empty = dtypes.map((dtype) => fromNumbers(dtype, [0, 2], []))
      const results = await runOnce((...t) => t, empty)
      expect(results.map((t) => [t.dtype, t.shape, t.data.length])).toEqual(empty.map((t) => [t.dtype, [0, 2], 0]))
    })
  })

  test('outputs may be inputs, states or constants, and stand twice', async () => {
    const builder = new GraphBuilder(ops)
    const x = builder.input('x', 'float32', [2])
    const s = builder.readState('s', 'buffer', 'float32', [2])
    const c = x.constant(tensor([5, 6]))
    const sum = x.add(s)
    for (const [name, value] of Object.entries({ x, s, c, c2: c, sum, again: sum })) builder.output(name, value)
    builder.writeState('s', 'buffer', 'float32', [2], x)
    const state = await backend.createState([{ name: 's', kind: 'buffer', data: tensor([3, 4]) }])
    const program = await backend.compile(builder.build(), { state })
    const results = await program.run([tensor([1, 2])])
    expect(results.map(numbers)).toEqual([[1, 2], [3, 4], [5, 6], [5, 6], [4, 6], [4, 6]])
    expect(numbers(await state.read('s'))).toEqual([1, 2])
    program.dispose()
    state.dispose()
  })

  test('names of inputs, states and outputs do not meet', async () => {
    const builder = new GraphBuilder(ops)
    const x = builder.input('Add', 'float32', [1])
    const s = builder.readState('Add', 'buffer', 'float32', [1])
    builder.output('Add', x.add(s).add(1))
    builder.output('state.Add', s)
    const state = await backend.createState([{ name: 'Add', kind: 'buffer', data: tensor([3]) }])
    const program = await backend.compile(builder.build(), { state })
    expect((await program.run([tensor([1])])).map(numbers)).toEqual([[5], [3]])
    program.dispose()
    state.dispose()
  })

  describe('states', () => {
    test('that are missing, unknown or of another type are refused', async () => {
      const graph = trainingStep()
      await expect(backend.compile(graph)).rejects.toThrow(/reads the state 'conv.weight'.*pass \{ state \}/)
      const few = await backend.createState(initial.slice(1))
      await expect(backend.compile(graph, { state: few })).rejects.toThrow(/there is no state 'conv.weight'; there are: fc.weight/)
      few.dispose()
      const other = await backend.createState(initial.map((s) => (s.name === 'fc.weight' ? { ...s, data: randn([16, 5]) } : s)))
      await expect(backend.compile(graph, { state: other })).rejects.toThrow(/'fc.weight' is float32\[16, 3\], the store holds float32\[16, 5\]/)
      await expect(other.write('fc.weight', randn([1]))).rejects.toThrow(ShapeError)
      await expect(other.write('fc.weight', fromNumbers('int32', [16, 5], new Int32Array(80)))).rejects.toThrow(DTypeError)
      await expect(other.read('nothing')).rejects.toThrow(GraphError)
      other.dispose()
      await expect(other.read('fc.weight')).rejects.toThrow(DisposedError)
      await expect(backend.createState([initial[0], initial[0]].flatMap((s) => s ?? []))).rejects.toThrow(/two states are named/)
    })

    test('of every dtype keep their bits', async () => {
      const values = [tensor([0.1, Number.NaN]), hostTensor('float16', [2], Uint16Array.of(0x3555, 0x8001)), tensor([-5, 7], [2], 'int32'), tensor([1, 0], [2], 'bool')]
      const builder = new GraphBuilder(ops)
      values.forEach((v, i) => {
        const [s, next] = [builder.readState(`s${i}`, 'buffer', v.dtype, v.shape), builder.readState(`t${i}`, 'buffer', v.dtype, v.shape)]
        builder.writeState(`s${i}`, 'buffer', v.dtype, v.shape, next)
        builder.writeState(`t${i}`, 'buffer', v.dtype, v.shape, s)
      })
      const zero = values.map((v) => fromNumbers(v.dtype, v.shape, [0, 0]))
      const state = await backend.createState(values.flatMap((v, i): StateInit[] => [
        { name: `s${i}`, kind: 'buffer', data: v },
        { name: `t${i}`, kind: 'buffer', data: zero[i] ?? v },
      ]))
      const program = await backend.compile(builder.build(), { state })
      await program.run([])
      for (const [i, v] of values.entries()) {
        expect(await state.read(`t${i}`)).toEqual(v)
        expect(await state.read(`s${i}`)).toEqual(zero[i])
      }
      program.dispose()
      state.dispose()
    })
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
