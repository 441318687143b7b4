import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compile, type DynamicConvLayer, DynamicConv2d, dynamicConv2d, planDynamicConv, trace } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { onnx } from '../backend.ts'
import { probeNchwc } from '../layout/probe.ts'
import { loadEngine } from '../session.ts'
import { compare, randn } from '../testing/compare.ts'
import { cachedRates, keyOf } from './cache.ts'
import { measureRates } from './measureRates.ts'
import { costOf, flatten, type Rates, typicalRates } from './rates.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-'))
})
afterAll(() => rm(folder, { recursive: true }))

const key = { version: 1, processor: 'p', engine: 'e', threads: 2, layout: 'l' }
const other: Rates = { ...typicalRates, summing: 1 }

test('rates are measured once for each key, and a broken file is measured anew', async () => {
  let measured = 0
  const measure = async (): Promise<Rates> => (measured++, other)
  expect(await cachedRates(folder, key, measure)).toEqual(other)
  expect(await cachedRates(folder, key, measure)).toEqual(other)
  expect(measured).toBe(1)
  await cachedRates(folder, { ...key, threads: 1 }, measure)
  expect(measured).toBe(2)
  expect(await readdir(folder)).toHaveLength(2)
  for (const text of ['{"key":', JSON.stringify({ key, rates: { ...other, summing: -1 } }), JSON.stringify({ key: {}, rates: other }), 'null']) {
    for (const name of await readdir(folder)) await writeFile(join(folder, name), text)
    expect(await cachedRates(folder, key, measure)).toEqual(other)
  }
  expect(measured).toBe(6)
  const texts = await Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name), 'utf8')))
  expect(texts.filter((text) => text !== 'null').map((text) => JSON.parse(text))).toEqual([{ key, rates: other }])
})

test('without a folder, or with one that cannot be made, rates are measured each time', async () => {
  let measured = 0
  const measure = async (): Promise<Rates> => (measured++, other)
  await cachedRates(undefined, key, measure)
  await cachedRates(join(folder, (await readdir(folder))[0] ?? '', 'under a file'), key, measure)
  expect(measured).toBe(2)
})

test('what is measured is a rate', async () => {
  const engine = await loadEngine(1)
  for (const nchwc of [undefined, await probeNchwc(engine)]) {
    const rates = flatten(await measureRates(engine, nchwc))
    expect(rates).toHaveLength(7)
    expect(rates.every((r) => Number.isFinite(r) && r > 0)).toBe(true)
  }
})

test('the key tells engines, layouts and thread counts apart', async () => {
  const engine = await loadEngine(1)
  expect(keyOf(engine, 'NCHW')).toMatchObject({ threads: 1, layout: 'NCHW', engine: engine.version })
})

test('typical rates choose kernels for images, and outputs where the kernels are large and the image is a pixel', () => {
  const formOf = (batch: number, channels: number, size: number, kernel: number): string => {
    const { graph } = trace((x, w, pi) => dynamicConv2d(x, w, pi, { padding: (kernel - 1) / 2 }), {
      inputs: [{ shape: [batch, channels, size, size] }, { shape: [4, channels, channels, kernel, kernel] }, { shape: [batch, 4] }],
    })
    return planDynamicConv(graph, { cost: costOf(typicalRates) }).choices[0]?.form ?? ''
  }
  expect(formOf(8, 64, 56, 3)).toBe('kernels')
  expect(formOf(8, 512, 7, 3)).toBe('kernels')
  expect(formOf(64, 512, 1, 1)).toBe('outputs')
})

test('a cost is never negative', () => {
  const layer = { op: 'dynamicConv2d', batch: 8, numBases: 4, inChannels: 64, outChannels: 64, kernelSize: [1, 1], inputSize: [1, 1], outputSize: [1, 1], groups: 1, macs: { kernels: 0, outputs: 0 }, extraBytes: { kernels: 0, outputs: 0 } } as const
  expect(costOf(typicalRates).estimate(layer as unknown as DynamicConvLayer, 'kernels')).toBe(0)
})

test('whichever form is chosen, the result is the same', async () => {
  const layer = new DynamicConv2d({ inChannels: 32, outChannels: 32, kernelSize: 3, padding: 1 })
  const x = randn([2, 32, 6, 6])
  const results = []
  for (const planner of ['static', 'probe'] as const) {
    const backend = await onnx({ threads: 1, planner, cache: false })
    const program = await compile(layer, { backend, inputs: [{ shape: x.shape }] })
    expect(program.explain()).toMatch(/form (kernels|outputs) \(kernels .* seconds\)/)
    results.push((await program.run([x]))[0])
    await backend.dispose()
  }
  const [first, second] = results
  expect(first && second && compare(first, { shape: second.shape, data: Float64Array.from(second.data) }, 9 * 32 * 8)).toBeUndefined()
})
