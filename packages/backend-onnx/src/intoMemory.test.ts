import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModel, stopMessage } from './intoMemory.ts'
import { ModelBuilder } from './model.ts'
import type { ModelProto } from './proto/onnx.ts'
import { type Engine, loadEngine, type OrtTensor } from './session.ts'

let engine: Engine
beforeAll(async () => {
  engine = await loadEngine(1)
})

const ofFloats = (...values: number[]): OrtTensor => new engine.ort.Tensor('float32', Float32Array.from(values), [values.length])

// picked = x[i], fails unless 0 <= i < 3; twice = 2 x; none = no element of x.
function model(): ModelProto {
  const m = new ModelBuilder()
  const x = m.input('x', 'float32', [3])
  m.output('picked', m.op('Gather', [x, m.input('i', 'int32', [1])]), 'float32', [1])
  m.output('twice', m.op('Add', [x, x]), 'float32', [3])
  m.output('none', m.slice(x, [3], [3], [0]), 'float32', [0])
  return m.build({ name: 'test' })
}

test('this engine can be kept from copying its results', async () => {
  expect(await stopMessage(engine)).toBeTypeOf('string')
})

describe.each([
  ['few bytes', 0],
  ['many bytes', 1e9],
])('results of %s', (_, bytes) => {
  const loaded = async () => loadModel(engine, model(), bytes, { optimisation: 'basic' })
  const running: { release(): Promise<void> }[] = []
  afterAll(() => Promise.all(running.map((r) => r.release())))

  test('are written where they are wanted', async () => {
    const m = await loaded()
    running.push(m)
    const room = new Float32Array(8)
    const results = {
      picked: new engine.ort.Tensor('float32', room.subarray(1, 2), [1]),
      twice: new engine.ort.Tensor('float32', room.subarray(3, 6), [3]),
      none: new engine.ort.Tensor('float32', new Float32Array(0), [0]),
    }
    for (const [i, value] of [7, 8, 9].entries()) {
      await m.run({ x: ofFloats(7, 8, 9), i: new engine.ort.Tensor('int32', Int32Array.of(i), [1]) }, results)
      expect([...room]).toEqual([0, value, 0, 14, 16, 18, 0, 0])
    }
  })

  test('do not hide that a run failed', async () => {
    const m = await loaded()
    running.push(m)
    const results = { picked: ofFloats(0), twice: ofFloats(0, 0, 0), none: ofFloats() }
    await expect(m.run({ x: ofFloats(7, 8, 9), i: new engine.ort.Tensor('int32', Int32Array.of(3), [1]) }, results)).rejects.toThrow(/Gather/)
    await expect(m.run({ x: ofFloats(7, 8, 9) }, results)).rejects.toThrow(/'i' is missing/)
  })
})
