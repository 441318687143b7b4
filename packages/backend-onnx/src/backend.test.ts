// What every backend keeps to is the suite's contract; here stand this one's accounts and options.

import { randn } from '@dynconv/conformance'
import { conformanceTests } from '@dynconv/conformance/vitest'
import { type Backend, GraphBuilder, ops } from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onnx, type OnnxOptions } from './backend.ts'

// The blocked layout's own tests stand in layout/; here both must behave alike.
describe.each(['plain', 'auto'] as const)('layout %s', (layout) => {
  conformanceTests({ name: 'onnx', create: () => onnx({ threads: 1, layout }) }, { modes: ['memory'], filters: ['contract['] })

  let backend: Backend
  beforeAll(async () => {
    backend = await onnx({ threads: 1, layout })
  })
  afterAll(() => backend.dispose())

  test('memory counts states, device tensors and constants, and returns to where it was', async () => {
    const start = backend.memory()
    const state = await backend.createState([{ name: 's', kind: 'buffer', data: randn([100]) }])
    expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors + 1, liveBytes: start.liveBytes + 400 })
    const device = await backend.upload(randn([10]))
    const builder = new GraphBuilder(ops)
    const s = builder.readState('s', 'buffer', 'float32', [100])
    builder.writeState('s', 'buffer', 'float32', [100], s.mul(s.constant(randn([100], 2))))
    const program = await backend.compile(builder.build(), { state })
    expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors + 3, liveBytes: start.liveBytes + 840 })
    // A state that is written has room for its next value, from the first run on.
    for (let i = 0; i < 3; i++) {
      await program.run([])
      expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors + 4, liveBytes: start.liveBytes + 1240 })
    }
    expect(backend.memory().peakBytes).toBeGreaterThanOrEqual(start.liveBytes + 1240)
    program.dispose()
    device.dispose()
    state.dispose()
    expect(backend.memory()).toMatchObject({ liveTensors: start.liveTensors, liveBytes: start.liveBytes })
  })

  test('an impossible number of threads is refused', async () => {
    await expect(onnx({ threads: 0 })).rejects.toThrow(/threads=0/)
  })
})

test('options that there are not are refused', async () => {
  const start = (options: unknown): Promise<unknown> => onnx(options as OnnxOptions)
  await expect(start({ layout: 'blocked' })).rejects.toThrow("onnx: layout must be 'auto' or 'plain', got \"blocked\"")
  await expect(start({ planner: 'none' })).rejects.toThrow("onnx: planner must be 'probe' or 'static', got \"none\"")
  await expect(start({ optimisation: 1 })).rejects.toThrow("onnx: optimisation must be 'disabled' or 'basic' or 'extended' or 'all', got 1")
})
