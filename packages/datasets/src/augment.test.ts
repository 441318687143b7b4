import { Random, ValueError } from '@dynconv/core'
import { expect, test } from 'vitest'
import { type Augmentation, augmenter, type Placement } from './augment.ts'

// Two channels of 2 rows and 3 columns.
const size = { channels: 2, height: 2, width: 3 }
const pixels = Uint8Array.of(99, 1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16)
const table = Float32Array.from({ length: 512 }, (_, i) => (i < 256 ? i : (i - 256) * 10))

function place(augmentation: Augmentation, placement: Placement): number[] {
  const target = new Float32Array(13).fill(-1)
  augmenter(augmentation, size).write(target, 1, pixels, 1, table, placement)
  expect(target[0]).toBe(-1)
  return [...target.subarray(1)]
}

test('a window at the padding is the image itself, each channel through its own table', () => {
  const expected = [1, 2, 3, 4, 5, 6, 110, 120, 130, 140, 150, 160]
  expect(place({}, { top: 0, left: 0, flip: false })).toEqual(expected)
  expect(place({ crop: { padding: 4 } }, { top: 4, left: 4, flip: false })).toEqual(expected)
  expect(place({ crop: { padding: 1, fill: 'reflect' } }, { top: 1, left: 1, flip: false })).toEqual(expected)
})

test('a flip mirrors each row', () => {
  expect(place({ flip: true }, { top: 0, left: 0, flip: true })).toEqual([3, 2, 1, 6, 5, 4, 130, 120, 110, 160, 150, 140])
})

test('a crop fills with black', () => {
  const crop: Augmentation = { crop: { padding: 1 } }
  expect(place(crop, { top: 0, left: 0, flip: false })).toEqual([0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 110, 120])
  expect(place(crop, { top: 2, left: 2, flip: false })).toEqual([5, 6, 0, 0, 0, 0, 150, 160, 0, 0, 0, 0])
  // The window is cut first, then mirrored.
  expect(place(crop, { top: 2, left: 2, flip: true })).toEqual([0, 6, 5, 0, 0, 0, 0, 160, 150, 0, 0, 0])
})

test('black is what the table makes of pixel 0', () => {
  const target = new Float32Array(12)
  const shifted = table.map((v, i) => v - (i < 256 ? 1 : 2))
  augmenter({ crop: { padding: 2 } }, size).write(target, 0, pixels, 1, shifted, { top: 0, left: 2, flip: false })
  expect([...target]).toEqual([-1, -1, -1, -1, -1, -1, -2, -2, -2, -2, -2, -2])
})

test('a crop reflects at the border pixel', () => {
  const crop: Augmentation = { crop: { padding: 1, fill: 'reflect' } }
  // The padded image of channel 0 is  5 4 5 6 5 / 2 1 2 3 2 / 5 4 5 6 5 / 2 1 2 3 2.
  expect(place(crop, { top: 0, left: 0, flip: false }).slice(0, 6)).toEqual([5, 4, 5, 2, 1, 2])
  expect(place(crop, { top: 2, left: 2, flip: false }).slice(0, 6)).toEqual([5, 6, 5, 2, 3, 2])
  expect(place(crop, { top: 2, left: 2, flip: true }).slice(6)).toEqual([150, 160, 150, 120, 130, 120])
})

test('draws every window, and about as many flips as not', () => {
  const drawer = augmenter({ crop: { padding: 2 }, flip: true }, size)
  const seen = new Map<string, number>()
  let flips = 0
  for (let i = 0; i < 2000; i++) {
    const { top, left, flip } = drawer.draw(new Random(3, i))
    seen.set(`${top},${left}`, (seen.get(`${top},${left}`) ?? 0) + 1)
    if (flip) flips++
  }
  // 25 windows, 80 of each expected; six standard deviations are 53. Of 2000 flips six standard deviations are 134.
  expect(seen.size).toBe(25)
  for (const n of seen.values()) expect(Math.abs(n - 80)).toBeLessThan(53)
  expect(Math.abs(flips - 1000)).toBeLessThan(134)
  expect(augmenter({ flip: true }, size).draw(new Random(1))).toMatchObject({ top: 0, left: 0 })
  expect(augmenter({ crop: { padding: 2 } }, size).draw(new Random(1)).flip).toBe(false)
})

test('refuses a padding that it cannot make', () => {
  expect(() => augmenter({ crop: { padding: -1 } }, size)).toThrow(ValueError)
  expect(() => augmenter({ crop: { padding: 1.5 } }, size)).toThrow(ValueError)
  expect(() => augmenter({ crop: { padding: 2, fill: 'reflect' } }, size)).toThrow("padding=2 must be below the image's sides, 2 x 3")
})
