import { BatchNorm2d, compile, Conv2d, evaluate, fromNumbers, type HostTensor, Module, type Tensor, toRef, traceModule } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { OnnxBackend } from './backend.ts'
import { layoutsOf } from './layout/layouts.ts'
import { probeNchwc } from './layout/probe.ts'
import { lowerProgram } from './program.ts'
import { splitModel } from './prologue.ts'
import { decodeModel } from './proto/onnx.ts'
import { type Engine, loadEngine } from './session.ts'
import { compare, randn } from './testing/compare.ts'

class Net extends Module {
  readonly conv: Conv2d
  readonly norm: BatchNorm2d

  constructor(channels: number) {
    super()
    this.conv = new Conv2d({ inChannels: channels, outChannels: channels, kernelSize: 3, padding: 1, bias: true })
    this.norm = new BatchNorm2d(channels)
    this.norm.weight.data = randn([channels], 5)
    this.norm.bias.data = randn([channels], 6)
  }

  override forward(x: Tensor): Tensor {
    return this.norm.forward(this.conv.forward(x)).relu()
  }
}

const channels = 32
const x = randn([2, channels, 5, 4], 1)
const inputs = [{ shape: x.shape }]

// The oracle on what the states hold.
function expected(net: Module, states: ReadonlyMap<string, HostTensor>): ReturnType<typeof toRef> | undefined {
  const { graph } = traceModule(net, { inputs })
  return evaluate(graph, [toRef(x)], new Map([...states].map(([name, t]) => [name, toRef(t)]))).outputs[0]
}

let backend: OnnxBackend
let block: number
beforeAll(async () => {
  const engine = await loadEngine(1)
  const nchwc = await probeNchwc(engine)
  if (!nchwc) throw new Error('this engine has no blocked layout; these tests need one')
  block = nchwc.block
  backend = new OnnxBackend(engine, layoutsOf(nchwc, 2), {})
})
afterAll(() => backend.dispose())

test('a normalisation after a convolution is computed in the prologue, and goes into its kernels', () => {
  const { graph } = traceModule(new Net(channels), { inputs })
  const { model, states } = lowerProgram(graph, layoutsOf({ block }, 2).policy(graph))
  const { main, prologue, values } = splitModel(model, new Set(states.map((s) => s.input)))
  expect(values).toHaveLength(2)
  expect(main.graph.node.map((n) => n.opType).filter((type) => !/Reorder|Identity|Reshape/.test(type))).toEqual(['Conv'])
  expect(prologue?.graph.output.map((o) => o.name)).toEqual(values)
})

test('nothing is cut off where nothing is frozen', () => {
  const { graph } = traceModule(new Net(channels), { inputs })
  const { model } = lowerProgram(graph, layoutsOf({ block }, 2).policy(graph))
  expect(splitModel(model, new Set())).toEqual({ main: model, prologue: undefined, values: [] })
})

test('derived values follow the states', async () => {
  const net = new Net(channels)
  const program = await compile(net, { backend, inputs })
  const states = new Map<string, HostTensor>()
  for (const name of program.state.names) states.set(name, await program.state.read(name))
  try {
    const before = await program.run([x])
    expect(before[0] && compare(before[0], expected(net, states), 4096)).toBeUndefined()
    const variance = fromNumbers('float32', [channels], Array.from({ length: channels }, (_, i) => 1 + i))
    await program.state.write('norm.running_var', variance)
    states.set('norm.running_var', variance)
    const after = await program.run([x])
    expect(after[0] && compare(after[0], expected(net, states), 4096)).toBeUndefined()
    expect(after[0]?.data).not.toEqual(before[0]?.data)
  } finally {
    program.dispose()
  }
  expect(backend.memory().liveTensors).toBe(0)
})

test('small states are constants of the session until one of them is replaced', async () => {
  const engine = await loadEngine(1)
  const inputCounts: number[] = []
  const createSession: Engine['createSession'] = (model, options) => {
    inputCounts.push(decodeModel(model).graph.input.length)
    return engine.createSession(model, options)
  }
  const own = new OnnxBackend({ ...engine, createSession }, layoutsOf({ block }, 2), {})
  const program = await compile(new Net(channels), { backend: own, inputs })
  const { liveBytes } = own.memory()
  // The prologue, and the rest, which takes the image alone.
  expect(inputCounts).toEqual([6, 1])
  const first = await program.run([x])
  await program.state.write('conv.weight', await program.state.read('conv.weight'))
  // What is computed is the same, now by a model that is fed.
  expect(await program.run([x])).toEqual(first)
  expect(await program.run([x])).toEqual(first)
  expect(inputCounts).toEqual([6, 1, 3, 6])
  expect(own.memory().liveBytes).toBe(liveBytes)
  program.dispose()
  expect(own.memory().liveTensors).toBe(0)
  await own.dispose()
})
