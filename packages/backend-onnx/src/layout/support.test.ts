import type { Conv2dAttrs } from '@dynconv/core'
import { describe, expect, test } from 'vitest'
import { type ConvCase, convCase, forwardWalk, inputGradForm, kindOf, turnedCase } from './support.ts'

const attrs = (change: Partial<Conv2dAttrs> = {}): Conv2dAttrs => ({ stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1, ...change })

function make(batch: number, inChannels: number, outChannels: number, size: number, kernel: number, a: Conv2dAttrs): ConvCase {
  const out = ([before, after]: readonly [number, number]): number => Math.floor((size + before + after - (kernel - 1) * a.dilation[0] - 1) / a.stride[0]) + 1
  const [top, bottom, left, right] = a.padding
  const result = [batch, outChannels, out([top, bottom]), out([left, right])]
  return convCase(a, [batch, inChannels, size, size], [outChannels, inChannels / a.groups, kernel, kernel], result)
}

describe.each([8, 16])('block %i', (b) => {
  const kind = (batch: number, i: number, o: number, groups = 1, dynamic = false) => kindOf(make(batch, i, o, 8, 3, attrs({ groups })), b, dynamic)

  test('whole blocks of every group', () => {
    expect(kind(8, b, 3 * b)).toBe('blocked')
    expect(kind(8, 2 * b, 2 * b, 2)).toBe('blocked')
    expect(kind(8, 2 * b, 2 * b, 2, true)).toBe('blocked')
    expect(kind(8, 2 * b, b, 2)).toBeUndefined()
  })
  test("channels that fill no blocks are refused, though the batch's together would pass the engine's check", () => {
    expect(kind(8, b + b / 2, b)).toBeUndefined()
    expect(kind(8, b + b / 2, b, 1, true)).toBeUndefined()
    expect(kind(8, b, b + b / 2, 1, true)).toBeUndefined()
    expect(kind(8, b + b / 2, b + b / 2)).toBeUndefined()
  })
  test('depthwise', () => {
    expect(kind(2, 2 * b, 2 * b, 2 * b)).toBe('depthwise')
    expect(kind(2, b + 1, b + 1, b + 1)).toBeUndefined()
    expect(kind(2, b, 2 * b, b)).toBeUndefined()
  })
  test('a stem takes few channels; with a kernel for every sample all samples together must be few or fill blocks', () => {
    expect(kind(8, 3, b)).toBe('stem')
    expect(kind(8, 3, b + 1)).toBeUndefined()
    expect(kind(2, 3, b, 1, true)).toBe('stem')
    expect(kind(b, 3, b, 1, true)).toBe('stem')
    expect(kind(b - 1, 3, b, 1, true)).toBeUndefined()
    expect(kind(8, 6, b, 2)).toBeUndefined()
  })
  test('nothing empty', () => {
    expect(kind(0, b, b)).toBeUndefined()
    expect(kindOf(make(1, b, b, 0, 1, attrs()), b, false)).toBeUndefined()
  })
})

test('the forward walk gives the same output size, whatever padding no window reaches', () => {
  for (const padding of [[1, 1, 1, 1], [0, 2, 0, 2], [2, 0, 2, 0]] as const) {
    for (const [size, kernel, stride, dilation] of [[8, 3, 2, 1], [9, 3, 2, 1], [7, 2, 3, 2], [16, 3, 1, 1]] as const) {
      const c = make(1, 16, 16, size, kernel, attrs({ padding, stride: [stride, stride], dilation: [dilation, dilation] }))
      const { pads: p } = forwardWalk(c, 1)
      expect(Math.floor((size + p[0] + p[2] - (kernel - 1) * dilation - 1) / stride) + 1).toBe(c.rows.output)
    }
  }
})

test('the input gradient: turned with stride 1, sparse for a 1x1 that skips, sub-pixel else, or not in blocks', () => {
  const form = (size: number, kernel: number, a: Partial<Conv2dAttrs>) => {
    const c = make(2, 16, 16, size, kernel, attrs(a))
    return inputGradForm(c, kindOf(c, 16, false))
  }
  expect(form(8, 3, {})).toBe('turned')
  expect(form(8, 3, { dilation: [2, 2] })).toBe('turned')
  expect(form(8, 1, { padding: [0, 0, 0, 0], stride: [2, 2] })).toBe('sparse')
  expect(form(8, 3, { stride: [2, 2] })).toBe('subPixel')
  expect(form(7, 3, { stride: [2, 2] })).toBe('subPixel')
  expect(form(8, 3, { stride: [2, 2], dilation: [2, 2] })).toBeUndefined()
  // Padding beyond the kernel would have to be cut away again.
  expect(form(8, 1, { padding: [1, 1, 1, 1] })).toBeUndefined()
  const stem = make(2, 3, 16, 8, 3, attrs())
  expect(inputGradForm(stem, kindOf(stem, 16, false))).toBeUndefined()
})

test('the turned input gradient is a convolution from the output size back to the input size', () => {
  for (const [change, pads] of [[{}, [1, 1, 1, 1]], [{ padding: [0, 0, 0, 0] }, [2, 2, 2, 2]], [{ padding: [2, 0, 0, 1] }, [0, 2, 2, 1]]] as const) {
    const c = make(1, 16, 32, 8, 3, attrs(change))
    const turned = turnedCase(c)
    expect(turned).toMatchObject({ inChannels: 32, outChannels: 16, rows: { input: c.rows.output, output: 8 }, columns: { input: c.columns.output, output: 8 } })
    expect(forwardWalk(turned, 1).pads).toEqual(pads)
  }
})
