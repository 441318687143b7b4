import { hostTensor, ShapeError, sizeOf } from '@dynconv/core'
import { describe, expect, test } from 'vitest'
import { fromKernelLayout, toKernelLayout } from './host.ts'
import { kernelOrder, viewOf } from './views.ts'

const numbered = (shape: readonly number[]) => hostTensor('float32', shape, Float32Array.from({ length: sizeOf(shape) }, (_, i) => i))

// The order that views.ts describes, read off element by element.
function byView(shape: readonly number[], block: number): number[] {
  const { split, perm, physical } = viewOf(shape, 'kernel', block)
  const strides = split.map((_, i) => sizeOf(split.slice(i + 1)))
  return Array.from({ length: sizeOf(shape) }, (_, flat) => {
    let rest = flat
    return physical.reduceRight((at, size, axis) => {
      const position = rest % size
      rest = Math.floor(rest / size)
      return at + position * (strides[perm[axis] ?? 0] ?? 0)
    }, 0)
  })
}

describe.each([8, 16])('block %i', (b) => {
  const shapes = [
    [b, b, 1, 1],
    [2 * b, 3 * b, 3, 3],
    [3, b, 2 * b, 3, 2],
    [2 * b, 3, 3, 3],
    [2, b, 1, 5, 5],
    [2 * b, b - 1, 1, 2],
  ]
  test.each(shapes.map((shape) => ({ shape })))('$shape is stored in the order of the views, and comes back', ({ shape }) => {
    const plain = numbered(shape)
    const stored = toKernelLayout(plain, b)
    expect(stored.shape).toEqual(shape)
    expect(Array.from(stored.data)).toEqual(byView(shape, b))
    expect(fromKernelLayout(stored, b)).toEqual(plain)
    const own = numbered(shape)
    expect(toKernelLayout(own, b, true)).toEqual(stored)
    expect(own.data).toEqual(stored.data)
    fromKernelLayout(own, b, true)
    expect(own).toEqual(plain)
  })

  test('channels that do not fit are refused', () => {
    for (const shape of [[b + 1, b, 3, 3], [b, b + 1, 3, 3], [b, b], [0, b, 3, 3]]) {
      expect(kernelOrder(shape, b)).toBeUndefined()
      expect(() => toKernelLayout(numbered(shape), b)).toThrow(ShapeError)
    }
  })

  test('other element types are moved alike', () => {
    const halves = { dtype: 'float16', shape: [b, b, 1, 1], data: Uint16Array.from({ length: b * b }, (_, i) => i) } as const
    const stored = toKernelLayout(halves, b)
    expect(stored.dtype).toBe('float16')
    expect(Array.from(stored.data)).toEqual(Array.from(toKernelLayout(numbered([b, b, 1, 1]), b).data))
  })
})
