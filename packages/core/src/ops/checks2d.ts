// Checks and sizes that the ops on images share: convolutions, pools, resampling. Logically NCHW and OIHW. The batch may
// be a name; channels and pixels must be numbers. General checks stand in checks.ts.

import { ShapeError } from '../backend/errors.ts'
import { checkDType } from '../tensor/dtype.ts'
import { type Dim, formatShape, known } from '../tensor/shape.ts'
import type { Padding2d, Size2d } from './attrs.ts'
import { checkInts, floats } from './checks.ts'
import type { ValueType } from './define.ts'

/** A checked [N, C, H, W]. */
export interface Images {
  readonly batch: Dim
  readonly channels: number
  readonly size: Size2d
}

/** How a kernel or window walks over an image. */
export interface Window2d {
  readonly kernelSize: Size2d
  readonly stride: Size2d
  readonly padding: Padding2d
  /** [1, 1] unless given. */
  readonly dilation?: Size2d
}

/** `value` as floating point [N, C, H, W] with at least one channel. @throws ShapeError, DTypeError */
export function checkImages(who: string, what: string, value: ValueType): Images {
  checkDType(who, what, value.dtype, floats)
  const [batch, channels, height, width] = value.shape
  if (value.shape.length !== 4 || batch === undefined) throw new ShapeError(`${who}: ${what} must be [N, C, H, W], got ${formatShape(value.shape)}`)
  const count = known(who, `${what}'s channels`, channels)
  if (count === 0) throw new ShapeError(`${who}: ${what} must have channels, got ${formatShape(value.shape)}`)
  return {
    batch,
    channels: count,
    size: [known(who, `${what}'s height`, height), known(who, `${what}'s width`, width)],
  }
}

/** Throws unless two batches are the same number, or the same name. */
export function checkSameBatch(who: string, a: string, batchA: Dim, b: string, batchB: Dim): void {
  if (batchA !== batchB) throw new ShapeError(`${who}: ${a} has batch ${batchA}, ${b} has batch ${batchB}; they must be equal`)
}

/** Throws unless a size is two positive integers. */
export function checkSize2d(who: string, what: string, size: Size2d): void {
  checkInts(who, what, size, 2, 1)
}

/** Throws unless images of `size` have pixels: what is made of padding alone has no gradient, and is hardly ever meant. */
export function checkPixels(who: string, size: Size2d): void {
  if (size[0] === 0 || size[1] === 0) throw new ShapeError(`${who}: the input has no pixels (${by(size)})`)
}

/** Throws unless kernel, stride and dilation are positive and the padding is not negative. */
export function checkWindow(who: string, window: Window2d): void {
  checkSize2d(who, 'kernelSize', window.kernelSize)
  checkSize2d(who, 'stride', window.stride)
  checkInts(who, 'padding', window.padding, 4, 0)
  if (window.dilation) checkSize2d(who, 'dilation', window.dilation)
}

/**
 * The size of a convolution's or pool's result. Along one axis, with n pixels, k taps, stride s, dilation d and padding
 * a before and b after: the kernel spans d (k - 1) + 1 pixels, so it fits floor((n + a + b - d (k - 1) - 1) / s) + 1 times.
 *
 * @example outputSize('conv2d', [32, 32], { kernelSize: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] }) // [16, 16]
 * @throws ShapeError when the input has no pixels, or the kernel is larger than the padded input
 */
export function outputSize(who: string, inputSize: Size2d, window: Window2d): Size2d {
  checkWindow(who, window)
  checkPixels(who, inputSize)
  const { kernelSize, stride, padding, dilation = [1, 1] } = window
  const padded: Size2d = [inputSize[0] + padding[0] + padding[1], inputSize[1] + padding[2] + padding[3]]
  const span: Size2d = [dilation[0] * (kernelSize[0] - 1) + 1, dilation[1] * (kernelSize[1] - 1) + 1]
  if (span[0] > padded[0] || span[1] > padded[1]) {
    const dilated = dilation[0] === 1 && dilation[1] === 1 ? '' : ` (dilation ${dilation[0] === dilation[1] ? dilation[0] : by(dilation)}: ${by(span)})`
    throw new ShapeError(`${who}: kernel ${by(kernelSize)}${dilated} is larger than the padded input ${by(padded)}`)
  }
  return [Math.floor((padded[0] - span[0]) / stride[0]) + 1, Math.floor((padded[1] - span[1]) / stride[1]) + 1]
}

/** Throws unless `actual`, the pixels of the gradient `what`, is what an input of `inputSize` gives. */
export function checkGradSize(who: string, what: string, actual: Size2d, inputSize: Size2d, expected: Size2d): void {
  if (actual[0] !== expected[0] || actual[1] !== expected[1]) {
    throw new ShapeError(`${who}: ${what} is ${by(actual)}, but an input of ${by(inputSize)} gives ${by(expected)}`)
  }
}

/** `3x5` */
export function by(size: Size2d): string {
  return `${size[0]}x${size[1]}`
}
