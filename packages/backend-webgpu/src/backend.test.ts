// What the backend asks of a device, and what it makes of a device's troubles, on a device that only writes down.

import { conv2d, DeviceLostError, GraphBuilder, ops, referenceBackend, tensor, trace } from '@dynconv/core'
import { expect, test } from 'vitest'
import { webgpu, type WebGpuOptions } from './backend.ts'
import { profile } from './profile.ts'
import { mockDevice } from './testing/mockDevice.ts'

const chain = trace((x) => x.mul(2).add(1).relu(), { inputs: [{ shape: [8] }] }).graph
const x = tensor([1, 2, 3, 4, 5, 6, 7, 8])

function gatherInto(): ReturnType<GraphBuilder['build']> {
  const b = new GraphBuilder(ops)
  const s = b.readState('s', 'buffer', 'float32', [4])
  b.writeState('s', 'buffer', 'float32', [4], s.add(1))
  b.output('y', s.gather(b.input('index', 'int32', [1])))
  return b.build()
}

const start = [{ name: 's', kind: 'buffer' as const, data: tensor([1, 2, 3, 4]) }]

test('a run is one write an input, one command buffer with one pass, and one read', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const f = await backend.compile(chain)
  mock.calls.length = 0
  await f.run([x])
  expect(mock.calls).toEqual(['write 32', 'submit', 'pass', 'dispatch mul+add+relu 1x1x1', 'copy 32', 'map'])
  expect(f.explain()).toBe('webgpu: 1 dispatches, 32 bytes of intermediates in 1 buffers (32 without sharing)')
})

test('equal texts are compiled once', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  await backend.compile(chain)
  await backend.compile(chain)
  expect(mock.calls.filter((c) => c === 'shader')).toHaveLength(1)
})

test('a state takes its new value in the same command buffer, after everything else', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const state = await backend.createState([{ name: 'count', kind: 'buffer', data: tensor([0, 0, 0, 0]) }])
  const b = new GraphBuilder(ops)
  b.writeState('count', 'buffer', 'float32', [4], b.readState('count', 'buffer', 'float32', [4]).add(b.input('x', 'float32', [4])))
  const f = await backend.compile(b.build(), { state })
  mock.calls.length = 0
  mock.onDispatch = (_label, [, , out]) => out?.set(new Uint8Array(new Float32Array([5, 6, 7, 8]).buffer))
  await f.run([tensor([1, 1, 1, 1])])
  expect(mock.calls).toEqual(['write 16', 'submit', 'pass', 'dispatch add 1x1x1', 'copy 16', 'map'])
  expect(await state.read('count')).toEqual(tensor([5, 6, 7, 8]))
})

test('states are updated together: one dispatch, and one copy for neighbours', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const sizes = [90, 300, 91]
  const state = await backend.createState(sizes.map((size, i) => ({ name: `w${i}`, kind: 'parameter', data: tensor(Array.from({ length: size }, () => i)) })))
  const b = new GraphBuilder(ops)
  const lr = b.input('lr', 'float32', [])
  sizes.forEach((size, i) => {
    const w = b.readState(`w${i}`, 'parameter', 'float32', [size])
    b.writeState(`w${i}`, 'parameter', 'float32', [size], w.sub(b.input(`x${i}`, 'float32', [size]).softmax(0).mul(lr)))
  })
  const f = await backend.compile(b.build(), { state })
  // Softmaxes give tens; the update is computed as its table says.
  mock.onDispatch = (label, buffers) => {
    const [rate, from, states, places, results] = buffers.map((bytes) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4))
    if (label === 'softmax') from?.fill(10)
    if (label !== 'mul+sub of many' || !results) return
    const table = new Int32Array(places?.slice().buffer ?? new ArrayBuffer(0))
    for (let row = 0; row < table.length; row += 4) {
      const [count = 0, ofFrom = 0, ofStates = 0, ofResults = 0] = table.slice(row, row + 4)
      expect(count).toBeLessThanOrEqual(64)
      for (let e = 0; e < count * 4; e++) results[ofResults * 4 + e] = (states?.[ofStates * 4 + e] ?? Number.NaN) - (from?.[ofFrom * 4 + e] ?? Number.NaN) * (rate?.[0] ?? Number.NaN)
    }
  }
  mock.calls.length = 0
  await f.run([tensor(0.5, []), ...sizes.map((size) => tensor(Array.from({ length: size }, () => 0)))])
  // 512 and 1280 bytes, in which the first two lie, and the last one's own.
  expect(mock.calls.filter((call) => !call.startsWith('write'))).toEqual(['submit', 'pass', ...sizes.map(() => 'dispatch softmax 1x1x1'), 'dispatch mul+sub of many 4x1x1', 'copy 2160', 'map'])
  for (const [i, size] of sizes.entries()) expect(await state.read(`w${i}`)).toEqual(tensor(Array.from({ length: size }, () => i - 5)))
})

test('states lie together as far as the limits allow', async () => {
  const mock = mockDevice({ limits: { maxStorageBufferBindingSize: 1024 } })
  const backend = await webgpu({ device: mock.device })
  const values = [100, 10, 200, 50, 1].map((size, i) => tensor(Array.from({ length: size }, () => i + 1)))
  const state = await backend.createState(values.map((data, i) => ({ name: `s${i}`, kind: 'buffer', data })))
  // Each begins at a multiple of 256 and takes whole multiples of 16: 0 and 512; 0; 0 and 256.
  expect([...mock.live].map(({ size }) => size)).toEqual([512 + 48, 800, 256 + 16])
  for (const [i, value] of values.entries()) expect(await state.read(`s${i}`)).toEqual(value)
  await state.write('s3', tensor(Array.from({ length: 50 }, () => -1)))
  expect([await state.read('s2'), (await state.read('s3')).data[49]]).toEqual([values[2], -1])
  state.dispose()
  expect(mock.live.size).toBe(0)
  await expect(backend.createState([{ name: 'w', kind: 'parameter', data: tensor(Array.from({ length: 300 }, () => 0)) }])).rejects.toThrow("webgpu: state 'w' needs 1200 bytes")
})

test('where an index may be out of bounds, states wait until none was', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const state = await backend.createState(start)
  const f = await backend.compile(gatherInto(), { state })
  mock.onDispatch = (label, buffers) => {
    if (label === 'gather') new Int32Array(buffers[3]?.buffer ?? new ArrayBuffer(8)).set([1, 9])
    if (label === 'add') buffers[1]?.set(new Uint8Array(new Float32Array([2, 3, 4, 5]).buffer))
  }
  await expect(f.run([tensor([9], [1], 'int32')])).rejects.toThrow('webgpu: gather: index 9 is outside an axis of size 4; use 0 to 3')
  expect(await state.read('s')).toEqual(tensor([1, 2, 3, 4]))
  mock.onDispatch = (label, buffers) => {
    if (label === 'add') buffers[1]?.set(new Uint8Array(new Float32Array([2, 3, 4, 5]).buffer))
  }
  mock.calls.length = 0
  await f.run([tensor([1], [1], 'int32')])
  expect(mock.calls.filter((c) => c === 'submit')).toHaveLength(2)
  expect(await state.read('s')).toEqual(tensor([2, 3, 4, 5]))
})

test('what depends only on states that others change runs once, and again when they have', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const state = await backend.createState(start)
  const reader = new GraphBuilder(ops)
  reader.output('y', reader.readState('s', 'buffer', 'float32', [4]).softmax(0).add(reader.input('x', 'float32', [4])))
  const f = await backend.compile(reader.build(), { state })
  expect(f.explain()).toBe('webgpu: 1 dispatches, 1 more when states have changed, 32 bytes of intermediates in 2 buffers (32 without sharing)')
  const dispatches = async (): Promise<readonly string[]> => {
    mock.calls.length = 0
    await f.run([tensor([1, 2, 3, 4])])
    return mock.calls.filter((c) => c.startsWith('dispatch'))
  }
  const [first, second] = [await dispatches(), await dispatches()]
  expect([first, second]).toEqual([['dispatch softmax 1x1x1', 'dispatch add 1x1x1'], ['dispatch add 1x1x1']])
  await state.write('s', tensor([4, 3, 2, 1]))
  const written = await dispatches()
  const writer = new GraphBuilder(ops)
  writer.writeState('s', 'buffer', 'float32', [4], writer.readState('s', 'buffer', 'float32', [4]).softmax(0))
  const g = await backend.compile(writer.build(), { state })
  await g.run([])
  expect([written.length, (await dispatches()).length, (await dispatches()).length]).toEqual([2, 2, 1])
  expect(g.explain()).toContain('webgpu: 1 dispatches, 16 bytes')
})

test('a probe times every form of a convolution once, and is not repeated where its findings are known', async () => {
  const layer = trace((t, w) => conv2d(t, w, { padding: 1 }), { inputs: [{ shape: [1, 32, 12, 12] }, { shape: [32, 32, 3, 3] }] }).graph
  const tuning = new Map<string, string>()
  const run = async (): Promise<readonly string[]> => {
    const mock = mockDevice()
    const backend = await webgpu({ device: mock.device, kernels: 'software', probe: true, tuning })
    const f = await backend.compile(layer)
    expect(f.explain()).toContain(`3x3: ${[...tuning.values()].join()}`)
    f.dispose()
    expect(backend.memory().liveTensors).toBe(0)
    return mock.calls.filter((c) => c.startsWith('dispatch'))
  }
  const first = await run()
  expect([first.filter((c) => c.includes('direct')).length, first.filter((c) => c.includes('winograd output')).length]).toEqual([4, 4])
  expect([...tuning]).toEqual([['mock | forward 1x32x12x12 -> 32x12x12, 3x3 s1,1 p1,1,1,1 d1,1 g1 float32', expect.stringMatching(/^(direct|winograd)$/)]])
  expect(await run()).toEqual([])
})

test('tensors on the device are copied there, and live while a run uses them', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const f = await backend.compile(chain)
  const t = await backend.upload(x)
  mock.calls.length = 0
  const running = f.run([t])
  t.dispose()
  await running
  expect(mock.calls).toEqual(['submit', 'copy 32', 'pass', 'dispatch mul+add+relu 1x1x1', 'copy 32', 'map'])
  await expect(f.run([t])).rejects.toThrow('webgpu: this tensor was disposed')
  const other = await webgpu({ device: mockDevice().device })
  const g = await other.compile(chain)
  await expect(g.run([await backend.upload(x)])).rejects.toThrow('another instance of this backend')
  await expect(g.run([await referenceBackend().upload(x)])).rejects.toThrow('input 0 is a tensor of reference; read() it first')
})

test('everything is freed, and counted', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const state = await backend.createState(start)
  const f = await backend.compile(gatherInto(), { state })
  const t = await backend.upload(x)
  expect(backend.memory().liveTensors).toBe(mock.live.size)
  for (const thing of [state, f, t]) thing.dispose()
  expect([mock.live.size, backend.memory().liveTensors, backend.memory().liveBytes]).toEqual([0, 0, 0])
  await expect(f.run([])).rejects.toThrow('webgpu: this executable was disposed')
  await expect(state.read('s')).rejects.toThrow('webgpu: this state store was disposed')
  await backend.dispose()
  await expect(backend.compile(chain)).rejects.toThrow('webgpu: this backend was disposed')
})

test('what the device reports fails the run', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const f = await backend.compile(chain)
  mock.scopeError = { filter: 'validation', message: 'binding 3 is wrong' }
  await expect(f.run([x])).rejects.toThrow('webgpu: run: binding 3 is wrong')
  mock.scopeError = { filter: 'out-of-memory', message: 'no room' }
  await expect(f.run([x])).rejects.toThrow('webgpu: run: the device has no memory left: no room')
  mock.raise('something else')
  await expect(f.run([x])).rejects.toThrow('webgpu: run: the device reported: something else')
  await f.run([x])
})

test('a lost device is a DeviceLostError; the state that was read stays', async () => {
  const mock = mockDevice()
  const backend = await webgpu({ device: mock.device })
  const state = await backend.createState(start)
  const f = await backend.compile(gatherInto(), { state })
  const kept = await state.read('s')
  mock.lose('unknown', 'the driver crashed')
  await Promise.resolve()
  await expect(f.run([tensor([0], [1], 'int32')])).rejects.toThrow(DeviceLostError)
  await expect(state.read('s')).rejects.toThrow('webgpu: the device is lost (the driver gave it up: the driver crashed)')
  expect(kept).toEqual(tensor([1, 2, 3, 4]))
})

test('limits are named, with what was asked', async () => {
  const small = await webgpu({ device: mockDevice({ limits: { maxStorageBufferBindingSize: 1024 } }).device })
  const wide = trace((t) => t.neg(), { inputs: [{ shape: [300] }] }).graph
  await expect(small.compile(wide)).rejects.toThrow("needs 1200 bytes, the adapter's maxStorageBufferBindingSize is 1024; use a smaller batch or image")
  expect(small.memory().liveBytes).toBe(0)
})

test('a shader that does not compile is quoted', async () => {
  const mock = mockDevice()
  mock.refuse = { text: 'in0', line: 3, message: 'unresolved value' }
  const backend = await webgpu({ device: mock.device })
  const error = await backend.compile(chain).catch((e: Error) => e.message)
  expect(error).toMatchInlineSnapshot(`
    "webgpu: the shader of mul+add+relu does not compile: unresolved value at line 3:
      1 | @group(0) @binding(0) var<storage, read> in0: array<vec4<f32>>;
      2 | @group(0) @binding(1) var<storage, read_write> out0: array<vec4<f32>>;
      3 | fn isNan4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }"
  `)
})

test('inputs and states are checked by name', async () => {
  const backend = await webgpu({ device: mockDevice().device })
  const f = await backend.compile(chain)
  await expect(f.run([])).rejects.toThrow("webgpu: run takes 1 inputs ('input0'), got 0")
  await expect(f.run([tensor([1])])).rejects.toThrow("webgpu: input 'input0' must be float32[8], got [1]")
  await expect(f.run([tensor([1], [1], 'int32')])).rejects.toThrow("webgpu: input 'input0' must be float32[8], got int32")
  await expect(backend.compile(gatherInto())).rejects.toThrow("webgpu: the graph reads the state 's' (of 1); pass { state } from createState")
  await expect(backend.compile(gatherInto(), { state: await referenceBackend().createState(start) })).rejects.toThrow('the state belongs to another backend')
  await expect(backend.createState([...start, ...start])).rejects.toThrow("the state 's' comes twice")
  await expect(backend.compile(trace((t) => t.neg(), { inputs: [{ shape: ['N'] }] }).graph)).rejects.toThrow('has unknown sizes')
})

test('a profile times each dispatch in a pass of its own', async () => {
  const mock = mockDevice({ features: ['timestamp-query'] })
  const backend = await webgpu({ device: mock.device })
  const f = await backend.compile(trace((t) => t.softmax(0).softmax(0).neg(), { inputs: [{ shape: [800] }] }).graph)
  mock.calls.length = 0
  expect(await profile(f, [tensor(Array.from({ length: 800 }, () => 1))])).toEqual([
    { kernel: 'softmax', dispatches: 2, milliseconds: 0.002 },
    { kernel: 'neg', dispatches: 1, milliseconds: 0.001 },
  ])
  expect(mock.calls.filter((c) => c === 'pass')).toHaveLength(3)
  f.dispose()
  expect(mock.live.size).toBe(0)
  const plain = await webgpu({ device: mockDevice().device })
  await expect(profile(await plain.compile(chain), [x])).rejects.toThrow('webgpu: cannot run profile: the adapter has no timestamp-query')
  await expect(profile(await referenceBackend().compile(chain), [x])).rejects.toThrow('made by another backend')
})

test('options that there are not are refused', async () => {
  const start = (options: unknown): Promise<unknown> => webgpu(options as WebGpuOptions)
  await expect(start({ kernels: 'fast' })).rejects.toThrow("webgpu: kernels must be 'software' or 'gpu', got \"fast\"")
  await expect(start({ convolutions: 'fft' })).rejects.toThrow("webgpu: convolutions must be 'plain' or 'direct' or 'tiled' or 'winograd', got \"fft\"")
})
