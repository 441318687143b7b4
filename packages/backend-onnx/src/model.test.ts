import { hostTensor, tensor } from '@dynconv/core'
import { expect, test } from 'vitest'
import { ModelBuilder } from './model.ts'
import { decodeModel } from './proto/onnx.ts'
import { loadEngine } from './session.ts'

test('a model survives encoding and decoding, attribute kinds and free dimensions included', () => {
  const model = new ModelBuilder()
  const x = model.input('x', 'float32', ['N', 3, 0])
  const y = model.op('Fancy', [x, '', model.float(2), ''], { i: 3, f: { float: 0.5 }, s: 'half', is: [1, -2], fs: { floats: [0.25] }, t: { tensor: tensor([7], [1], 'int32') }, out: undefined }, { domain: 'org.example' })
  model.output('y', y, 'float32', ['N', 3, 0])
  const back = decodeModel(model.encode({ name: 'g', doc: 'd', producerVersion: '1.2', metadata: new Map([['k', 'v']]) }))
  expect(back.irVersion).toBe(8)
  expect(back.opsetImport).toEqual([{ version: 17 }, { domain: 'org.example', version: 1 }])
  expect(back.metadataProps).toEqual([{ key: 'k', value: 'v' }])
  expect(back.producerVersion).toBe('1.2')
  const [node] = back.graph.node
  expect(node?.input).toEqual(['x', '', 'float'])
  expect(node?.attribute.map((a) => a.name)).toEqual(['i', 'f', 's', 'is', 'fs', 't'])
  expect(node?.attribute.map((a) => [a.i, a.f, a.ints, a.floats, a.t?.dims])).toEqual([
    [3, undefined, [], [], undefined],
    [undefined, 0.5, [], [], undefined],
    [undefined, undefined, [], [], undefined],
    [undefined, undefined, [1, -2], [], undefined],
    [undefined, undefined, [], [0.25], undefined],
    [undefined, undefined, [], [], [1]],
  ])
  expect(new TextDecoder().decode(node?.attribute[2]?.s)).toBe('half')
  expect(node?.output).toEqual(['y'])
  expect(back.graph.input[0]?.type.tensorType?.shape?.dim).toEqual([{ dimParam: 'N' }, { dimValue: 3 }, { dimValue: 0 }])
})

test('equal constants are shared, different ones are not', () => {
  const model = new ModelBuilder()
  const big = (last: number) => hostTensor('float32', [10000], Float32Array.from({ length: 10000 }, (_, i) => (i === 9999 ? last : 0)))
  expect(model.constant(big(1))).toBe(model.constant(big(1)))
  expect(model.constant(big(1))).not.toBe(model.constant(big(2)))
  expect(model.constant(tensor([1, 2], [2]))).not.toBe(model.constant(tensor([1, 2], [1, 2])))
  expect(model.ints([1])).toBe(model.ints([1]))
})

test('what no output needs is not written', () => {
  const model = new ModelBuilder()
  const x = model.input('x', 'float32', [1])
  model.op('Mul', [model.op('Exp', [x]), model.float(3)])
  model.output('y', model.op('Add', [x, model.float(2)]), 'float32', [1])
  const { graph } = decodeModel(model.encode())
  expect(graph.node.map((n) => n.opType)).toEqual(['Add'])
  expect(graph.initializer).toHaveLength(1)
})

test('an attribute that should be a float is not silently an integer', () => {
  expect(() => new ModelBuilder().op('Elu', ['x'], { alpha: 0.5 })).toThrow(/alpha=0.5 is no integer/)
})

test('a built model runs', async () => {
  const engine = await loadEngine(1)
  const model = new ModelBuilder()
  const x = model.input('x', 'float32', [2, 3])
  model.output('y', model.transpose(model.op('Mul', [x, model.float(2)]), [1, 0]), 'float32', [3, 2])
  const session = await engine.createSession(model.encode())
  const result = await session.run({ x: new engine.ort.Tensor('float32', Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]) })
  expect(Array.from(result['y']?.data as Float32Array)).toEqual([2, 8, 4, 10, 6, 12])
  await session.release()
})
