import { expect, test } from 'vitest'
import { ValueError } from '../backend/errors.ts'
import { outputSize } from './checks2d.ts'
import { type Padding, toPadding2d, toSize2d } from './options2d.ts'

const window = { kernelSize: [3, 4], stride: [1, 1], dilation: [2, 1] } as const

test('sizes: one number for both, or both', () => {
  expect(toSize2d('conv2d', 'stride', 2)).toEqual([2, 2])
  expect(toSize2d('conv2d', 'stride', [1, 2])).toEqual([1, 2])
  expect(() => toSize2d('conv2d', 'stride', [1, 2, 3] as unknown as number)).toThrow(new ValueError('conv2d: stride must be a number or [height, width], got [1, 2, 3]'))
  expect(() => toSize2d('conv2d', 'stride', '2' as unknown as number)).toThrow('conv2d: stride must be a number or [height, width], got 2')
})

test('padding: all sides, two axes, four sides, or by name', () => {
  expect(toPadding2d('conv2d', 1, window)).toEqual([1, 1, 1, 1])
  expect(toPadding2d('conv2d', [1, 2], window)).toEqual([1, 1, 2, 2])
  expect(toPadding2d('conv2d', [1, 2, 3, 4], window)).toEqual([1, 2, 3, 4])
  expect(toPadding2d('conv2d', 'valid', window)).toEqual([0, 0, 0, 0])
  expect(() => toPadding2d('conv2d', [1, 2, 3] as unknown as Padding, window)).toThrow(ValueError)
  expect(() => toPadding2d('conv2d', 'full' as Padding, window)).toThrow("[top, bottom, left, right], 'same' or 'valid', got full")
})

test("'same' keeps the size, with the odd pixel at the bottom and right", () => {
  const padding = toPadding2d('conv2d', 'same', window)
  expect(padding).toEqual([2, 2, 1, 2])
  expect(outputSize('conv2d', [5, 7], { ...window, padding })).toEqual([5, 7])
  expect(() => toPadding2d('conv2d', 'same', { ...window, stride: [2, 1] })).toThrow(
    new ValueError("conv2d: padding 'same' needs stride 1, got stride [2, 1]; give the padding in pixels"),
  )
})

test('the size of a result: how often the dilated kernel fits', () => {
  expect(outputSize('conv2d', [32, 32], { kernelSize: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] })).toEqual([16, 16])
  expect(outputSize('conv2d', [7, 8], { kernelSize: [2, 3], stride: [3, 4], padding: [0, 0, 0, 0] })).toEqual([2, 2])
  expect(outputSize('conv2d', [7, 9], { kernelSize: [3, 2], stride: [1, 3], padding: [0, 1, 2, 0], dilation: [2, 4] })).toEqual([4, 3])
})
