import { ShapeError, ValueError } from '@dynconv/core'
import { expect, test } from 'vitest'
import { balancedIndices, balancedSubset, channelStatistics, imageDataset, type ImageDatasetParts, select, split, subset } from './dataset.ts'

// Image i is filled with i; the classes follow 0 1 2 0 1 2 ...
const parts: ImageDatasetParts = {
  name: 'tiny',
  classes: ['a', 'b', 'c'],
  images: Uint8Array.from({ length: 30 * 4 }, (_, i) => Math.floor(i / 4)),
  labels: Uint8Array.from({ length: 30 }, (_, i) => i % 3),
  channels: 1,
  height: 2,
  width: 2,
}
const dataset = imageDataset(parts)
const firstPixels = (d: { readonly images: Uint8Array }) => [...d.images].filter((_, i) => i % 4 === 0)

test('mean and std are those of pixels / 255, channel by channel', () => {
  // Channel 0: 0, 255, 255, 0, 0, 0; channel 1: 51 everywhere.
  const pixels = Uint8Array.of(0, 255, 51, 51, 255, 0, 51, 51, 0, 0, 51, 51)
  const { mean, std } = channelStatistics([pixels.subarray(0, 8), pixels.subarray(8)], 2, 2)
  expect(mean).toEqual([expect.closeTo(1 / 3, 14), expect.closeTo(0.2, 14)])
  expect(std).toEqual([expect.closeTo(Math.sqrt(2) / 3, 14), 0])
})

test('statistics may be given', () => {
  expect(imageDataset({ ...parts, statistics: { mean: [0.5], std: [0.25] } })).toMatchObject({ mean: [0.5], std: [0.25] })
  expect(() => imageDataset({ ...parts, statistics: { mean: [0.5, 1], std: [0.25] } })).toThrow(ValueError)
  expect(() => imageDataset({ ...parts, statistics: { mean: [Number.NaN], std: [0.25] } })).toThrow(ValueError)
  expect(() => imageDataset({ ...parts, statistics: { mean: [0], std: [-1] } })).toThrow(ValueError)
})

test('refuses parts that do not fit each other', () => {
  expect(() => imageDataset({ ...parts, images: parts.images.subarray(1) })).toThrow('tiny: 30 images of [1, 2, 2] need 120 pixels, got 119')
  expect(() => imageDataset({ ...parts, height: 0 })).toThrow(ShapeError)
  expect(() => imageDataset({ ...parts, images: new Uint8Array(0), labels: new Uint8Array(0) })).toThrow('at least one image')
  expect(() => imageDataset({ ...parts, classes: ['a', 'b'] })).toThrow('label 2 of image 2 must be below the number of classes, 2')
})

test('select copies the images at the indices, in their order', () => {
  const chosen = select(dataset, [29, 0, 0])
  expect(chosen).toMatchObject({ count: 3, mean: dataset.mean, std: dataset.std, classes: dataset.classes })
  expect(firstPixels(chosen)).toEqual([29, 0, 0])
  expect([...chosen.labels]).toEqual([2, 0, 0])
  for (const bad of [30, -1, 0.5]) expect(() => select(dataset, [bad])).toThrow(ValueError)
})

test('subset takes the first images', () => {
  const few = subset(dataset, 4)
  expect(firstPixels(few)).toEqual([0, 1, 2, 3])
  expect([...few.labels]).toEqual([0, 1, 2, 0])
  for (const bad of [0, 31, 1.5]) expect(() => subset(dataset, bad)).toThrow(ValueError)
})

test('a balanced subset has equally many of each class, in order, chosen by the seed', () => {
  const few = balancedSubset(dataset, 11, 5)
  expect([0, 1, 2].map((label) => few.labels.filter((l) => l === label).length)).toEqual([4, 4, 3])
  expect([...few.labels]).toEqual(firstPixels(few).map((i) => i % 3))
  const indices = [...balancedIndices(dataset, 11, 5)]
  expect(firstPixels(few)).toEqual(indices)
  expect(indices).toEqual([...new Set(indices)].sort((a, b) => a - b))
  expect([...balancedIndices(dataset, 11, 5)]).toEqual(indices)
  expect([...balancedIndices(dataset, 11, 6)]).not.toEqual(indices)
  expect(() => balancedSubset(select(dataset, [0, 1, 3, 6]), 3, 1)).toThrow('n=3 needs 1 images of class c, tiny has 0')
})

test('split gives two parts that together are the whole', () => {
  const [train, validation] = split(dataset, 24, 1)
  expect([train.count, validation.count]).toEqual([24, 6])
  const all = [...firstPixels(train), ...firstPixels(validation)]
  expect(all.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i))
  expect(firstPixels(split(dataset, 24, 1)[1])).toEqual(firstPixels(validation))
  expect(firstPixels(split(dataset, 24, 2)[1])).not.toEqual(firstPixels(validation))
  expect(() => split(dataset, 30, 1)).toThrow(ValueError)
})
