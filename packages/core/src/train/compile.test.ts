import { expect, test } from 'vitest'
import type { Backend } from '../backend/contract.ts'
import { DynamicConv2d } from '../dynamic/dynamicConv2d.ts'
import { BatchNorm2d, Linear, Sequential } from '../nn/layers.ts'
import { referenceBackend } from '../reference/backend.ts'
import { type HostTensor, tensor, zeros } from '../tensor/hostTensor.ts'
import { changedBackend } from '../testing/changedBackend.ts'
import { compile } from './compile.ts'

const geometry = { inChannels: 2, outChannels: 3, kernelSize: 3, padding: 1, numBases: 2 } as const

test('a function compiles', async () => {
  const f = await compile((x, y) => ({ sum: x.add(y), product: x.mul(y) }), { backend: referenceBackend(), inputs: [{ shape: [2] }, { shape: [2] }] })
  expect(f.outputs).toEqual(['sum', 'product'])
  const [sum, product] = await f.run([tensor([1, 2]), tensor([3, 4])])
  expect([sum?.data, product?.data]).toEqual([Float32Array.of(4, 6), Float32Array.of(3, 8)])
})

test('a named size compiles once for each size that comes', async () => {
  const f = await compile(new DynamicConv2d(geometry), { backend: referenceBackend(), inputs: [{ shape: ['N', 2, 4, 4] }] })
  expect((await f.run([zeros([2, 2, 4, 4])]))[0]?.shape).toEqual([2, 3, 4, 4])
  expect((await f.run([zeros([5, 2, 4, 4])]))[0]?.shape).toEqual([5, 3, 4, 4])
  expect(f.explain().match(/dynamicConv2d/g)?.length).toBe(2)
})

test('runs that start together share the program that both wait for', async () => {
  const { backend, made, disposed } = counting()
  const f = await compile((x) => x.neg(), { backend, inputs: [{ shape: ['N'] }] })
  const results = await Promise.all([f.run([tensor([1])]), f.run([tensor([2])]), f.run([tensor([1, 2])])])
  expect(results.map(([y]) => [...(y?.data ?? [])])).toEqual([[-1], [-2], [-1, -2]])
  expect(made()).toBe(2)
  f.dispose()
  expect(disposed()).toBe(2)
})

test('a program that is ready only after dispose is freed', async () => {
  const { backend, made, disposed } = counting()
  const f = await compile((x) => x.neg(), { backend, inputs: [{ shape: ['N'] }] })
  const running = f.run([tensor([1])])
  f.dispose()
  await expect(running).rejects.toThrow('this compiled module was disposed')
  expect([made(), disposed()]).toEqual([1, 1])
})

// The reference, which counts the programs it makes and those that are disposed.
function counting(): { readonly backend: Backend; readonly made: () => number; readonly disposed: () => number } {
  let [made, disposed] = [0, 0]
  const backend = changedBackend(referenceBackend(), (f) => {
    made++
    return {
      dispose: () => {
        disposed++
        f.dispose()
      },
    }
  })
  return { backend, made: () => made, disposed: () => disposed }
}

test('inputs that do not fit are refused', async () => {
  const f = await compile((x, y) => x.add(y), { backend: referenceBackend(), inputs: [{ shape: ['N', 2] }, { shape: ['N', 2], name: 'other' }] })
  await expect(f.run([zeros([3, 2])])).rejects.toThrow('run: expected 2 inputs (input0, other), got 1')
  await expect(f.run([zeros([3, 2]), zeros([4, 2])])).rejects.toThrow("run: input 'other' must be float32[N, 2], got [4, 2]")
  await expect(f.run([zeros([3, 2]), zeros([3, 2], 'int32')])).rejects.toThrow("run: input 'other' must be float32[N, 2], got int32")
})

test('what is no tensor is refused, with what to do', async () => {
  const f = await compile((x) => x, { backend: referenceBackend(), inputs: [{ shape: ['N', 2] }] })
  // What JavaScript lets through.
  const run = async (inputs: unknown): Promise<unknown> => f.run(inputs as readonly HostTensor[])
  await expect(run(zeros([1, 2]))).rejects.toThrow('run: the inputs must be a list, also where there is one: run([x])')
  await expect(run([undefined])).rejects.toThrow("run: input 'input0' must be a host tensor, got undefined; make one with tensor(values, shape)")
  await expect(run([new Float32Array(2)])).rejects.toThrow('must be a host tensor, got Float32Array')
  await expect(run([{ dtype: 'float64', shape: [1, 2], data: new Float64Array(2) }])).rejects.toThrow("input 'input0' has dtype float64, which is none of float32, float16, int32, bool")
  await expect(run([{ dtype: 'float32', shape: [1, 2], data: new Float64Array(2) }])).rejects.toThrow("input 'input0': float32 data must be a Float32Array, got Float64Array")
  await expect(run([{ dtype: 'float32', shape: [2, 2], data: new Float32Array(2) }])).rejects.toThrow("input 'input0': shape [2, 2] needs 4 elements, got 2")
})

test('runs at the same time compile a program once', async () => {
  const backend = referenceBackend()
  const f = await compile(new DynamicConv2d(geometry), { backend, inputs: [{ shape: ['N', 2, 4, 4] }] })
  const sizes = await Promise.all([2, 3, 2, 3].map(async (n) => (await f.run([zeros([n, 2, 4, 4])]))[0]?.shape[0]))
  expect(sizes).toEqual([2, 3, 2, 3])
  expect(f.explain().match(/dynamicConv2d/g)?.length).toBe(2)
  f.dispose()
  expect(backend.memory().liveTensors).toBe(0)
})

test('inference uses running statistics and leaves the modes of the parts alone', async () => {
  const net = new Sequential(new BatchNorm2d(1), new BatchNorm2d(1))
  net[0]?.eval()
  const f = await compile(net, { backend: referenceBackend(), inputs: [{ shape: [1, 1, 1, 1] }] })
  expect((await f.run([tensor([2], [1, 1, 1, 1])]))[0]?.data[0]).toBeCloseTo(2, 4)
  expect([net.training, net[0]?.training, net[1]?.training]).toEqual([true, false, true])
})

test('taps bring out what layers record', async () => {
  const f = await compile(new Sequential(new DynamicConv2d(geometry)), { backend: referenceBackend(), inputs: [{ shape: [2, 2, 4, 4] }], taps: true })
  expect(f.outputs).toEqual(['output0', 'tap:0.routing.pi'])
  expect((await f.run([zeros([2, 2, 4, 4])]))[1]?.shape).toEqual([2, 2])
})

test('nothing is left alive after dispose', async () => {
  const backend = referenceBackend()
  const f = await compile(new Linear({ inFeatures: 2, outFeatures: 3 }), { backend, inputs: [{ shape: [1, 2] }] })
  await f.run([zeros([1, 2])])
  expect(backend.memory().liveTensors).toBe(2)
  f.dispose()
  f.dispose()
  expect(backend.memory().liveTensors).toBe(0)
  await expect(f.run([zeros([1, 2])])).rejects.toThrow('was disposed')
})
