// Cases about whole programs and their states: a training step, programs that share states, values that stand in several
// places at once.

import {
  type Backend,
  batchNorm,
  conv2d,
  dtypes,
  dynamicConv2d,
  evaluate,
  fromNumbers,
  type Graph,
  GraphBuilder,
  gradients,
  type HostTensor,
  hostTensor,
  ops,
  sameShape,
  type StateInit,
  tensor,
  type Tensor,
  toRef,
} from '@dynconv/core'
import { compareRounded } from '../expect/roundings.ts'
import { contract, type ContractCase, numbers, withStore } from './contractDefine.ts'
import { randint, randn } from './randomTensors.ts'

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
const batch = (seed: number = 10): readonly HostTensor[] => [randn([3, 16, 6, 6], seed), randint([3], 3, seed)]
// Of an element of a loss or a weight, over a few steps.
const roundings = 400

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
  if (!dWeight || !dBases || !dGamma || !dFc) throw new RangeError('trainingStep: there is no gradient')
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

// A backend that lacks an op or a dtype is not asked for the whole of such a program.
function runs(backend: Backend, graph: Graph): boolean {
  return graph.nodes.every((node) => backend.supports(node, graph) === true)
}

function sameTensor(a: HostTensor | undefined, b: HostTensor | undefined): boolean {
  return a !== undefined && b !== undefined && a.dtype === b.dtype && sameShape(a.shape, b.shape) && a.data.every((v: number, i: number) => Object.is(v, b.data[i]))
}

/** All of them. */
export function programContracts(): readonly ContractCase[] {
  return [
    contract('a training step changes its states as the oracle does', async (backend, found) => {
      const graph = trainingStep()
      if (!runs(backend, graph)) return
      await withStore(backend, initial, async (state) => {
        const program = await backend.compile(graph, { state })
        let expected = new Map(initial.map((s) => [s.name, toRef(s.data)]))
        for (let step = 0; step < 4; step++) {
          const inputs = batch(10 + step)
          const outputs = await program.run(inputs)
          const oracle = evaluate(graph, inputs.map(toRef), expected)
          expected = new Map([...expected, ...oracle.states])
          outputs.forEach((t, i) => found.none(`step ${step}, output ${i}`, compareRounded(t, oracle.outputs[i], roundings)))
          for (const name of state.names) found.none(`step ${step}, state ${name}`, compareRounded(await state.read(name), expected.get(name), roundings))
        }
        program.dispose()
      })
    }),
    contract('a state that is written by hand, or used by programs of other kinds, is the same state', async (backend, found) => {
      const step = trainingStep()
      const builder = new GraphBuilder(ops)
      const w = builder.readState('conv.weight', 'parameter', 'float32', [16, 16, 3, 3])
      builder.output('w', w)
      builder.writeState('conv.weight', 'parameter', 'float32', [16, 16, 3, 3], w.transpose([1, 0, 3, 2]))
      const turning = builder.build()
      if (!runs(backend, step) || !runs(backend, turning)) return
      await withStore(backend, initial, async (state) => {
        const program = await backend.compile(step, { state })
        await program.run(batch())
        const weight = await state.read('conv.weight')
        const turn = await backend.compile(turning, { state })
        found.that('another program reads another weight', sameTensor((await turn.run([]))[0], weight))
        await turn.run([])
        found.that('the weight is another one after it was turned twice', sameTensor(await state.read('conv.weight'), weight))
        turn.dispose()
        for (const s of initial) await state.write(s.name, s.data)
        await withStore(backend, initial, async (fresh) => {
          const other = await backend.compile(step, { state: fresh })
          const [mine, theirs] = [await program.run(batch()), await other.run(batch())]
          found.none('a step on states that were written by hand', compareRounded(mine[0] ?? tensor(0), theirs[0] && toRef(theirs[0]), roundings))
          found.none('the weight after it', compareRounded(await state.read('conv.weight'), toRef(await fresh.read('conv.weight')), roundings))
          other.dispose()
        })
        program.dispose()
      })
    }),
    contract('runs, reads and writes follow each other as they were asked for', async (backend, found) => {
      const builder = new GraphBuilder(ops)
      const n = builder.readState('n', 'buffer', 'float32', [])
      builder.output('n', n)
      builder.writeState('n', 'buffer', 'float32', [], n.add(1))
      await withStore(backend, [{ name: 'n', kind: 'buffer', data: tensor(0) }], async (state) => {
        const program = await backend.compile(builder.build(), { state })
        const [first, second, read, , third, last] = await Promise.all([program.run([]), program.run([]), state.read('n'), state.write('n', tensor(40)), program.run([]), state.read('n')])
        found.same('the runs', [first, second, third].flatMap((r) => numbers(r[0])), [0, 1, 40])
        found.same('the reads', [read, last].flatMap(numbers), [2, 41])
        program.dispose()
      })
    }),
    contract('a run that fails changes no state, and the next one works', async (backend, found) => {
      const builder = new GraphBuilder(ops)
      const table = builder.readState('table', 'parameter', 'float32', [3])
      const at = builder.input('at', 'int32', [1])
      builder.writeState('table', 'parameter', 'float32', [3], table.add(1))
      builder.output('y', table.gather(at))
      const graph = builder.build()
      if (!runs(backend, graph)) return
      await withStore(backend, [{ name: 'table', kind: 'parameter', data: tensor([1, 2, 3]) }], async (state) => {
        const program = await backend.compile(graph, { state })
        await found.refuses('an index outside of the table', Error, () => program.run([tensor([9], [1], 'int32')]))
        found.same('the state after that', numbers(await state.read('table')), [1, 2, 3])
        found.same('the next run', numbers((await program.run([tensor([2], [1], 'int32')]))[0]), [3])
        found.same('the state after the next run', numbers(await state.read('table')), [2, 3, 4])
        program.dispose()
      })
    }),
    contract('outputs may be inputs, states or constants, and stand twice', async (backend, found) => {
      const builder = new GraphBuilder(ops)
      const x = builder.input('x', 'float32', [2])
      const s = builder.readState('s', 'buffer', 'float32', [2])
      const c = x.constant(tensor([5, 6]))
      const sum = x.add(s)
      for (const [name, value] of Object.entries({ x, s, c, c2: c, sum, again: sum })) builder.output(name, value)
      builder.writeState('s', 'buffer', 'float32', [2], x)
      await withStore(backend, [{ name: 's', kind: 'buffer', data: tensor([3, 4]) }], async (state) => {
        const program = await backend.compile(builder.build(), { state })
        const input = tensor([1, 2])
        const results = await program.run([input])
        const wanted = [[1, 2], [3, 4], [5, 6], [5, 6], [4, 6], [4, 6]]
        results.forEach((t, i) => found.same(`output ${i}`, numbers(t), wanted[i] ?? []))
        found.same('the state', numbers(await state.read('s')), [1, 2])
        results[0]?.data.fill(0)
        found.same('the input, after the output that equals it was overwritten', numbers(input), [1, 2])
        found.same('the state after that', numbers(await state.read('s')), [1, 2])
        program.dispose()
      })
    }),
    contract('names of inputs, states and outputs do not meet', async (backend, found) => {
      const builder = new GraphBuilder(ops)
      const x = builder.input('Add', 'float32', [1])
      const s = builder.readState('Add', 'buffer', 'float32', [1])
      builder.output('Add', x.add(s).add(1))
      builder.output('state.Add', s)
      await withStore(backend, [{ name: 'Add', kind: 'buffer', data: tensor([3]) }], async (state) => {
        const program = await backend.compile(builder.build(), { state })
        found.same('the outputs', (await program.run([tensor([1])])).flatMap(numbers), [5, 3])
        program.dispose()
      })
    }),
    contract('tensors without elements pass through, in every dtype', async (backend, found) => {
      const builder = new GraphBuilder(ops)
      const able = dtypes.filter((dtype) => backend.capabilities.dtypes[dtype] !== 'none')
      able.forEach((dtype) => builder.output(`${dtype} out`, builder.input(dtype, dtype, [0, 2])))
      const program = await backend.compile(builder.build())
      const empty = able.map((dtype) => fromNumbers(dtype, [0, 2], []))
      const results = await program.run(empty)
      able.forEach((dtype, i) => found.that(`${dtype}: it is ${results[i]?.dtype}[${results[i]?.shape.join(', ')}]`, sameTensor(results[i], empty[i])))
      program.dispose()
    }),
    contract('states of every dtype keep their bits in programs', async (backend, found) => {
      const all = [tensor([0.1, Number.NaN]), hostTensor('float16', [2], Uint16Array.of(0x3555, 0x8001)), tensor([-5, 7], [2], 'int32'), tensor([1, 0], [2], 'bool')]
      const values = all.filter((v) => backend.capabilities.dtypes[v.dtype] !== 'none')
      const builder = new GraphBuilder(ops)
      values.forEach((v, i) => {
        const [s, next] = [builder.readState(`s${i}`, 'buffer', v.dtype, v.shape), builder.readState(`t${i}`, 'buffer', v.dtype, v.shape)]
        builder.writeState(`s${i}`, 'buffer', v.dtype, v.shape, next)
        builder.writeState(`t${i}`, 'buffer', v.dtype, v.shape, s)
      })
      const zero = values.map((v) => fromNumbers(v.dtype, v.shape, [0, 0]))
      const states = values.flatMap((v, i): StateInit[] => [{ name: `s${i}`, kind: 'buffer', data: v }, { name: `t${i}`, kind: 'buffer', data: zero[i] ?? v }])
      await withStore(backend, states, async (state) => {
        const program = await backend.compile(builder.build(), { state })
        await program.run([])
        for (const [i, v] of values.entries()) {
          found.that(`${v.dtype} changed its bits on the way`, sameTensor(await state.read(`t${i}`), v))
          found.that(`${v.dtype}: the zeros changed on the way`, sameTensor(await state.read(`s${i}`), zero[i]))
        }
        program.dispose()
      })
    }),
  ]
}
