// What a user may write for strides, paddings and sizes of an image operation, and the one form in which attributes hold
// it. Pure normalisers, shared by ops and layers; the ranges are checked by each op's `infer` (checks2d.ts).

import { ValueError } from '../backend/errors.ts'
import type { Padding2d, Size2d } from './attrs.ts'

/**
 * Padding as a user may give it: one number for all sides, [vertical, horizontal], or [top, bottom, left, right];
 * 'valid' is none; 'same' keeps the size (stride 1 only), the odd pixel of an even kernel at the bottom and right.
 */
export type Padding = number | Size2d | Padding2d | 'same' | 'valid'

/** What 'same' depends on. */
export interface SameWindow {
  readonly kernelSize: Size2d
  readonly stride: Size2d
  readonly dilation: Size2d
}

/**
 * [height, width] from one number for both, or from both.
 *
 * @example toSize2d('conv2d', 'stride', 2) // [2, 2]
 * @throws ValueError for anything else
 */
export function toSize2d(who: string, what: string, value: number | Size2d): Size2d {
  if (typeof value === 'number') return [value, value]
  if (Array.isArray(value) && value.length === 2) return [value[0], value[1]]
  throw new ValueError(`${who}: ${what} must be a number or [height, width], got ${format(value)}`)
}

/**
 * [top, bottom, left, right] from any way to give a padding.
 *
 * @example toPadding2d('conv2d', [1, 2], window) // [1, 1, 2, 2]
 * @throws ValueError for anything else, and for 'same' with a stride
 */
export function toPadding2d(who: string, padding: Padding, window: SameWindow): Padding2d {
  if (padding === 'valid') return [0, 0, 0, 0]
  if (padding === 'same') return samePadding(who, window)
  if (typeof padding === 'number') return [padding, padding, padding, padding]
  if (Array.isArray(padding)) {
    const [a, b, c, d] = padding as readonly number[]
    if (padding.length === 2 && a !== undefined && b !== undefined) return [a, a, b, b]
    if (padding.length === 4 && a !== undefined && b !== undefined && c !== undefined && d !== undefined) return [a, b, c, d]
  }
  throw new ValueError(
    `${who}: padding must be a number, [vertical, horizontal], [top, bottom, left, right], 'same' or 'valid', got ${format(padding)}`,
  )
}

// A kernel of k taps with dilation d spans d (k - 1) + 1 pixels: d (k - 1) pixels of padding keep the size.
function samePadding(who: string, { kernelSize, stride, dilation }: SameWindow): Padding2d {
  if (stride[0] !== 1 || stride[1] !== 1) {
    throw new ValueError(`${who}: padding 'same' needs stride 1, got stride ${format(stride)}; give the padding in pixels`)
  }
  const vertical = dilation[0] * (kernelSize[0] - 1)
  const horizontal = dilation[1] * (kernelSize[1] - 1)
  const [top, left] = [Math.floor(vertical / 2), Math.floor(horizontal / 2)]
  return [top, vertical - top, left, horizontal - left]
}

function format(value: unknown): string {
  return Array.isArray(value) ? `[${value.join(', ')}]` : String(value)
}
