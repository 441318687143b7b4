// What every backend keeps to is the suite's contract; here stand this one's accounts.

import { randn } from '@dynconv/conformance'
import { conformanceTests } from '@dynconv/conformance/vitest'
import { type Backend, GraphBuilder, ops } from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { testedEngines } from './testing/engines.ts'

describe.each([...testedEngines])('$title', ({ options }) => {
  conformanceTests({ name: 'tfjs', create: () => tfjs(options) }, { modes: ['memory'], filters: ['contract['] })

  let backend: Backend
  beforeAll(async () => {
    backend = await tfjs(options)
  })
  afterAll(() => backend.dispose())

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
})
