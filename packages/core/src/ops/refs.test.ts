import { expect, test } from 'vitest'
import { addAt, at, blocks, broadcastIndexer, forEachIndex, forEachLine, ravel, refOf, refTensor, toInt32, unravel, wrapTo } from './refs.ts'

test('flat indices and coordinates are each other', () => {
  const seen: (readonly number[])[] = []
  forEachIndex([2, 1, 3], (index, flat) => {
    seen.push([...index, flat])
    expect(ravel([3, 3, 1], index)).toBe(flat)
  })
  expect(seen).toEqual([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 2, 2], [1, 0, 0, 3], [1, 0, 1, 4], [1, 0, 2, 5]])
  expect(unravel([], 0)).toEqual([])
  forEachIndex([2, 0], () => expect.unreachable())
})

test('a broadcast reads each element of the smaller tensor where it stands', () => {
  const all = (from: number[], to: number[], size: number): number[] => Array.from({ length: size }, (_, flat) => broadcastIndexer(from, to)(flat))
  expect(all([2, 1], [2, 3], 6)).toEqual([0, 0, 0, 1, 1, 1])
  expect(all([2, 2], [2, 2], 4)).toEqual([0, 1, 2, 3])
  expect(all([3], [2, 3], 6)).toEqual([0, 1, 2, 0, 1, 2])
  expect(all([], [2, 2], 4)).toEqual([0, 0, 0, 0])
  expect(all([2, 1, 2], [2, 2, 2], 8)).toEqual([0, 1, 0, 1, 2, 3, 2, 3])
})

test('lines along an axis', () => {
  expect(blocks([2, 3, 4], 1)).toEqual({ outer: 2, size: 3, inner: 4 })
  const lines: number[][] = []
  forEachLine([2, 3, 2], 1, (flat, size, line) => {
    lines[line] = Array.from({ length: size }, (_, i) => flat(i))
  })
  expect(lines).toEqual([[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]])
})

test('an element outside is refused, never read as undefined', () => {
  const x = refOf([2], [1, 2])
  expect(at(x.data, 1)).toBe(2)
  expect(() => at(x.data, 2)).toThrow('reference: index 2 is outside 2 elements')
  expect(() => at(x.data, -1)).toThrow(RangeError)
  expect(() => refOf([3], [1, 2])).toThrow('reference: shape [3] needs 3 elements, got 2')
  const y = refTensor([2, 2], 5)
  addAt(y.data, 3, 2)
  expect([...y.data]).toEqual([5, 5, 5, 7])
})

test('int32: truncation saturates, arithmetic wraps', () => {
  expect([1.9, -1.9, 1e10, -1e10, Number.NaN, -0.5].map(toInt32)).toEqual([1, -1, 2 ** 31 - 1, -(2 ** 31), 0, 0])
  expect(wrapTo('int32')(2 ** 31)).toBe(-(2 ** 31))
  expect(wrapTo('float32')(2 ** 31 + 0.5)).toBe(2 ** 31 + 0.5)
})
