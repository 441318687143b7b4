import {
  avgPool2d,
  BatchNorm2d,
  Conv2d,
  type DataOf,
  type DType,
  DynamicConv2d,
  evaluate,
  GraphBuilder,
  groupNorm,
  type HostTensor,
  iota,
  Linear,
  maxPool2d,
  Module,
  ops,
  resize,
  specialise,
  type Tensor,
  tensor,
  toRef,
  trace,
  traceModule,
} from '@dynconv/core'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { exportGraph, exportOnnx, moduleToOnnx } from './export.ts'
import { decodeModel } from './proto/onnx.ts'
import { loadEngine, type OrtTensor } from './session.ts'
import { compare, randn } from './testing/compare.ts'
import { toOrt } from './tensors.ts'

class Net extends Module {
  readonly stem: Conv2d = new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, padding: 1, stride: 2, bias: true })
  readonly norm: BatchNorm2d = new BatchNorm2d(4)
  readonly dynamic: DynamicConv2d = new DynamicConv2d({ inChannels: 4, outChannels: 6, kernelSize: 3, padding: 1, groups: 2, numBases: 3 })
  readonly fc: Linear = new Linear({ inFeatures: 6, outFeatures: 5 })

  forward(x: Tensor): Tensor {
    const y = maxPool2d(this.norm.forward(this.stem.forward(x)).relu(), { kernelSize: 2 })
    return this.fc.forward(this.dynamic.forward(y).sigmoid().mean([2, 3]))
  }
}

// The standard's domains only.
function domains(bytes: Uint8Array): readonly string[] {
  return decodeModel(bytes).opsetImport.map((o) => o.domain ?? '')
}

const views: { readonly [D in DType]: (data: ArrayBufferView) => DataOf[D] } = {
  float32: (d) => new Float32Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / 4),
  float16: (d) => new Uint16Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / 2),
  int32: (d) => new Int32Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / 4),
  bool: (d) => new Uint8Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength),
}

function fromOrt<D extends DType>(t: OrtTensor, dtype: D): HostTensor<D> {
  if (t.type !== dtype || !ArrayBuffer.isView(t.data)) throw new Error(`expected ${dtype}, the engine gave ${t.type}`)
  return { dtype, shape: t.dims, data: views[dtype](t.data) }
}

async function runModel(bytes: Uint8Array, inputs: readonly HostTensor[], outputs: readonly { readonly dtype: HostTensor['dtype'] }[]): Promise<readonly HostTensor[]> {
  const engine = await loadEngine(1)
  const session = await engine.createSession(bytes)
  const results = await session.run(Object.fromEntries(inputs.map((t, i) => [session.inputNames[i], toOrt(engine, t)])))
  const values = session.outputNames.map((name, i) => {
    const result = results[name]
    if (!result) throw new Error(`no output ${name}`)
    return fromOrt(result, outputs[i]?.dtype ?? 'float32')
  })
  await session.release()
  return values
}

test('a network with an open batch runs at any batch, in standard ops, with its weights under their names', async () => {
  const net = new Net()
  const bytes = moduleToOnnx(net, { input: [null, 3, 16, 16], classes: ['a', 'b'], doc: 'a test', producerVersion: '9.8.7' })
  const model = decodeModel(bytes)
  expect(domains(bytes)).toEqual([''])
  expect([model.producerName, model.producerVersion, model.docString, model.metadataProps]).toEqual(['dynconv', '9.8.7', 'a test', [{ key: 'classes', value: '["a","b"]' }]])
  expect(model.graph.input.map((i) => [i.name, i.type.tensorType?.shape?.dim[0]])).toEqual([['input', { dimParam: 'N' }]])
  expect(model.graph.output.map((o) => [o.name, o.type.tensorType?.shape?.dim])).toEqual([['output', [{ dimParam: 'N' }, { dimValue: 5 }]]])
  expect(model.graph.initializer.map((t) => t.name)).toEqual(expect.arrayContaining([...net.state().keys()]))
  expect(net.training).toBe(true)
  for (const batch of [1, 3]) {
    const x = randn([batch, 3, 16, 16], batch)
    const traced = trace((t) => net.eval().forward(t), { inputs: [{ shape: x.shape }], names: net.paths() })
    const want = evaluate(traced.graph, [toRef(x)], new Map([...traced.sources].map(([k, s]) => [k, toRef(s.data)]))).outputs
    const [got] = await runModel(bytes, [x], [{ dtype: 'float32' }])
    expect(got && compare(got, want[0], 200)).toBeUndefined()
  }
})

test('a layer whose kernels are mixed by request is exported with an open batch too', async () => {
  const layer = new DynamicConv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, numBases: 2, form: 'kernels' })
  const x = randn([2, 3, 6, 5], 1)
  const traced = traceModule(layer, { inputs: [{ shape: x.shape }] })
  const want = evaluate(traced.graph, [toRef(x)], new Map([...traced.sources].map(([k, s]) => [k, toRef(s.data)]))).outputs
  const [got] = await runModel(moduleToOnnx(layer, { input: [null, 3, 6, 5] }), [x], [{ dtype: 'float32' }])
  expect(got && compare(got, want[0], 200)).toBeUndefined()
})

test('a known batch stays known', () => {
  const [input] = decodeModel(moduleToOnnx(new Net(), { input: [2, 3, 8, 8] })).graph.input
  expect(input?.type.tensorType?.shape?.dim[0]).toEqual({ dimValue: 2 })
})

test('ops that depend on an open batch find it out when they run', async () => {
  const { graph } = trace(
    (x) => ({
      stretched: x.sum([0], true).broadcastTo(['N', 3, 4, 4]),
      counted: iota(['N', 2], 0, 'float32'),
      counted1: iota(['N', 2], 1, 'float32'),
      flat: x.flatten(),
      group: groupNorm(x, x.constant(randn([3])), x.constant(randn([3], 2)), { groups: 1 }),
      up: resize(x, { scale: 2, mode: 'bilinear' }),
      up3: resize(x, { size: [7, 9] }),
      average: avgPool2d(x, { kernelSize: 2 }),
      products: x.reshape(['N', 3, 16]).matmul(x.reshape(['N', 3, 16]), { transposeB: true }),
      hot: x.reshape(['N', 48]).argMax(1).oneHot(48),
      half: x.cast('float16').mul(2),
    }),
    { inputs: [{ name: 'x', shape: ['N', 3, 4, 4] }] },
  )
  const bytes = exportGraph(graph, new Map())
  expect(domains(bytes)).toEqual([''])
  for (const batch of [1, 4]) {
    const x = randn([batch, 3, 4, 4])
    const want = evaluate(specialise(graph, { N: batch }), [toRef(x)]).outputs
    const got = await runModel(bytes, [x], graph.outputs.map((o) => ({ dtype: graph.values[o.value]?.dtype ?? 'float32' })))
    expect(got.map((t, i) => compare(t, want[i], 64))).toEqual(got.map(() => undefined))
  }
})

test('states must be given, of the right type, and not be written', () => {
  const graphs = [false, true].map((writes) => {
    const builder = new GraphBuilder(ops)
    const w = builder.readState('w', 'parameter', 'float32', [2])
    builder.output('y', w.add(1))
    if (writes) builder.writeState('w', 'parameter', 'float32', [2], w.mul(2))
    return builder.build()
  })
  const [reads, writes] = graphs
  if (!reads || !writes) throw new Error('no graphs')
  const given = new Map([['w', tensor([1, 2])]])
  expect(decodeModel(exportGraph(reads, given)).graph.initializer[0]).toMatchObject({ name: 'w', dims: [2] })
  expect(() => exportGraph(reads, new Map())).toThrow(/the state 'w' was not given/)
  expect(() => exportGraph(reads, new Map([['w', tensor([1])]]))).toThrow(/'w' is float32\[2\], got float32\[1\]/)
  expect(() => exportGraph(writes, given)).toThrow(/writes the state 'w'; trace it for inference/)
})

test('an output keeps its name, whatever nodes are called', () => {
  const { graph } = trace((x) => ({ Add: x.add(1).mul(2).add(3), Mul: x }), { inputs: [{ name: 'Reshape', shape: [2] }] })
  const { input, output } = decodeModel(exportGraph(graph, new Map())).graph
  expect([...input, ...output].map((v) => v.name)).toEqual(['Reshape', 'Add', 'Mul'])
})

test('the file appears whole or not at all', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'onnx-export-'))
  try {
    const file = join(folder, 'deep', 'net.onnx')
    await exportOnnx(new Net(), file, { input: [null, 3, 8, 8] })
    expect(decodeModel(await readFile(file)).producerVersion).toMatch(/^\d+\.\d+\.\d+/)
    expect(await readdir(join(folder, 'deep'))).toEqual(['net.onnx'])
    await writeFile(join(folder, 'blocked'), '')
    await expect(exportOnnx(new Net(), join(folder, 'blocked', 'net.onnx'), { input: [null, 3, 8, 8] })).rejects.toThrow(/cannot write/)
    await expect(exportOnnx(new Net(), file, { input: [null, 4, 8, 8] })).rejects.toThrow(/conv2d/)
    await expect(exportOnnx(new Net(), file, { input: [null, 3, 0, 8] })).rejects.toThrow(/positive integer or null/)
    expect(await readdir(folder)).toEqual(['blocked', 'deep'])
  } finally {
    await rm(folder, { recursive: true })
  }
})
