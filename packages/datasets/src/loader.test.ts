import { ValueError } from '@dynconv/core'
import { expect, test } from 'vitest'
import { imageDataset, select } from './dataset.ts'
import { type Batch, loader, type LoaderOptions } from './loader.ts'

// Image i: 100 + i in channel 0, its columns 0 1 2 in channel 1.
const COUNT = 23
const dataset = imageDataset({
  name: 'tiny',
  classes: Array.from({ length: COUNT }, (_, i) => `class ${i}`),
  images: Uint8Array.from({ length: COUNT * 18 }, (_, i) => (i % 18 < 9 ? 100 + Math.floor(i / 18) : i % 3)),
  labels: Uint8Array.from({ length: COUNT }, (_, i) => i),
  channels: 2,
  height: 3,
  width: 3,
})

const all = (batches: Iterable<Batch>) => [...batches]
const labelsOf = (batches: Iterable<Batch>) => all(batches).flatMap((b) => [...b.labels.data])
const pixelsOf = (batches: Iterable<Batch>) => all(batches).flatMap((b) => [...b.images.data])
const load = (options: Partial<LoaderOptions> = {}) => loader(dataset, { batchSize: 5, ...options })

test('batches have shapes and dtypes of [B, C, H, W] and [B], the last one what is left', () => {
  const batches = load()
  expect([batches.batches, batches.samples]).toEqual([5, 23])
  const shapes = all(batches).map((b) => [b.images.dtype, b.images.shape, b.labels.dtype, b.labels.shape])
  const full = ['float32', [5, 2, 3, 3], 'int32', [5]]
  expect(shapes).toEqual([full, full, full, full, ['float32', [3, 2, 3, 3], 'int32', [3]]])
  expect(labelsOf(batches)).toEqual([...dataset.labels])
})

test('dropLast leaves out what does not fill a batch', () => {
  const batches = load({ dropLast: true })
  expect([batches.batches, batches.samples]).toEqual([4, 20])
  expect(labelsOf(batches)).toEqual([...dataset.labels].slice(0, 20))
  expect(loader(select(dataset, [0, 1, 2, 3]), { batchSize: 2, dropLast: true })).toMatchObject({ batches: 2, samples: 4 })
})

test('the order is a permutation that depends on seed and epoch only', () => {
  const order = labelsOf(load({ shuffle: 7 }))
  expect(order.toSorted((a, b) => a - b)).toEqual([...dataset.labels])
  expect(order).not.toEqual([...dataset.labels])
  expect(labelsOf(load({ shuffle: 7 }))).toEqual(order)
  expect(labelsOf(load({ shuffle: 7, batchSize: 9 }))).toEqual(order)
  expect(labelsOf(load({ shuffle: 7, augment: { flip: true } }))).toEqual(order)
  expect(labelsOf(load({ shuffle: 7, epoch: 1 }))).not.toEqual(order)
  expect(labelsOf(load({ shuffle: 8 }))).not.toEqual(order)
})

test('the order is the same on every machine', () => {
  expect(labelsOf(load({ shuffle: 7 }))).toEqual([10, 15, 12, 19, 21, 20, 16, 4, 14, 22, 18, 6, 1, 0, 2, 17, 9, 11, 8, 7, 5, 3, 13])
  expect(labelsOf(load({ shuffle: 7, epoch: 1 })).slice(0, 5)).toEqual([0, 19, 9, 2, 21])
})

test('images and labels stay together', () => {
  for (const { images, labels } of load({ shuffle: 3, normalise: false })) {
    labels.data.forEach((label, i) => expect(images.data[i * 18]).toBe(Math.fround((100 + label) / 255)))
  }
})

test('normalises with the mean and std of the set, with given ones, or not at all', () => {
  const raw = [...dataset.images].map((v) => v / 255)
  const channel = (i: number) => Math.floor((i % 18) / 9)
  const with_ = (mean: readonly number[], std: readonly number[]) => raw.map((v, i) => Math.fround((v - mean[channel(i)]!) / std[channel(i)]!))
  expect(pixelsOf(load({ normalise: false }))).toEqual(raw.map(Math.fround))
  expect(pixelsOf(load())).toEqual(with_(dataset.mean, dataset.std))
  expect(pixelsOf(load({ normalise: { mean: [0.5, 0.25], std: [0.5, 2] } }))).toEqual(with_([0.5, 0.25], [0.5, 2]))
  const normalised = pixelsOf(load()).filter((_, i) => channel(i) === 0)
  const mean = normalised.reduce((a, b) => a + b) / normalised.length
  expect(mean).toBeCloseTo(0, 5)
  expect(normalised.reduce((a, b) => a + (b - mean) ** 2, 0) / normalised.length).toBeCloseTo(1, 5)
})

test('a channel without deviation becomes 0, not NaN', () => {
  const flat = imageDataset({ name: 'flat', classes: ['a'], images: new Uint8Array(8).fill(51), labels: new Uint8Array(2), channels: 1, height: 2, width: 2 })
  expect(pixelsOf(loader(flat, { batchSize: 2 }))).toEqual(new Array(8).fill(0))
})

test('augmentation depends on seed, epoch and position only', () => {
  const augment = { crop: { padding: 1 }, flip: true }
  const first = pixelsOf(load({ shuffle: 7, augment }))
  expect(pixelsOf(load({ shuffle: 7, augment, batchSize: 4 }))).toEqual(first)
  expect(pixelsOf(load({ shuffle: 7, augment: { ...augment, seed: 7 } }))).toEqual(first)
  expect(pixelsOf(load({ shuffle: 7, augment: { ...augment, seed: 8 } }))).not.toEqual(first)
  expect(pixelsOf(load({ augment }))).not.toEqual(pixelsOf(load({ augment, epoch: 1 })))
  expect(pixelsOf(load({ augment, epoch: 1 }))).toEqual(pixelsOf(load({ augment, epoch: 1 })))
})

test('a flip mirrors some samples and leaves the others', () => {
  const batches = all(load({ augment: { flip: true }, normalise: false }))
  const rows = batches.flatMap((b) => Array.from({ length: b.labels.data.length }, (_, i) => [...b.images.data.subarray(i * 18 + 9, i * 18 + 12)].map((v) => Math.round(v * 255))))
  const flipped = rows.filter((row) => row[0] === 2)
  expect(flipped.every((row) => row.join() === '2,1,0')).toBe(true)
  expect(rows.filter((row) => row.join() === '0,1,2').length).toBe(COUNT - flipped.length)
  expect(flipped.length).toBeGreaterThan(0)
  expect(flipped.length).toBeLessThan(COUNT)
})

test('goes on in the middle of an epoch as if it had never stopped', () => {
  const options = { shuffle: 2, augment: { crop: { padding: 1 } } }
  const whole = all(load(options))
  expect(all(load(options).from(3))).toEqual(whole.slice(3))
  expect(load(options).batch(4)).toEqual(whole[4])
  expect(all(load(options).from(5))).toEqual([])
  expect(() => load(options).batch(5)).toThrow('batch must be from 0 to 4, got 5')
})

test('batches share no memory', () => {
  const batches = load()
  const first = batches.batch(0)
  const kept = [...first.images.data]
  batches.batch(0).images.data.fill(0)
  expect([...first.images.data]).toEqual(kept)
})

test.each<[string, Partial<LoaderOptions>]>([
  ['batchSize', { batchSize: 0 }],
  ['batchSize', { batchSize: 1.5 }],
  ['epoch', { epoch: -1 }],
  ['shuffle', { shuffle: Number.NaN }],
  ['augment.seed', { augment: { seed: -1 } }],
  ['batchSize=24 with dropLast', { batchSize: 24, dropLast: true }],
  ['normalise', { normalise: { mean: [0], std: [1] } }],
])('refuses a wrong %s', (what, options) => {
  expect(() => load(options)).toThrow(ValueError)
  expect(() => load(options)).toThrow(`loader: ${what}`)
})
