// The max pool and its gradients in simpler ops, for backends without a kernel of their own and for derivatives of any
// order (pool.ts defines them). Each tap (r, s) of the window, for all windows at once, is a strided slice of the padded
// image: row p of tap r is padded row p sh + r, that is row p sh + r - top of the image. Batch and channels must be known.

import { sameShape, staticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Pool2dAttrs, Size2d } from './attrs.ts'
import { outputSize } from './checks2d.ts'
import { pixels } from './conv.ts'

/** The largest of each window's taps: maxPool2d. */
export function maxOfTaps(x: Tensor, attrs: Pool2dAttrs): Tensor {
  return largest(taps(x, attrs, Number.NEGATIVE_INFINITY))
}

/**
 * `g` [N, C, H, W] at the first largest element of each window of x: the gradient of maxPool2dGrad by dy. From the last tap
 * to the first: each largest overwrites what a later one gave, so that the first stays.
 */
export function readAtFirstMax(x: Tensor, g: Tensor, attrs: Pool2dAttrs): Tensor {
  const grads = taps(g, attrs, 0)
  const none = g.full(0, grads[0]?.shape)
  return choices(x, attrs).reduceRight((rest, choose, i) => choose(grads[i] ?? none, rest), none)
}

/**
 * `dy` [N, C, P, Q] added up at the first largest element of each window of x: maxPool2dGrad. From the first tap to the
 * last: the first largest takes dy, and leaves zero for later ones.
 */
export function addAtFirstMax(x: Tensor, dy: Tensor, attrs: Pool2dAttrs): Tensor {
  const none = dy.full(0)
  const [height, width] = pixels(x)
  const [top, bottom, left, right] = attrs.padding
  let rest = dy
  const parts = choices(x, attrs).map((choose, i, all) => {
    const part = choose(rest, none)
    if (i < all.length - 1) rest = choose(none, rest)
    return place(part, attrs, i, [height + top + bottom, width + left + right])
  })
  const padded = parts.reduce((a, b) => a.add(b))
  const [batch = 0, channels = 0] = staticShape('maxPool2dGrad', x.shape)
  return sameShape(padded.shape, x.shape) ? padded : padded.slice([0, 0, top, left], [batch, channels, height, width])
}

function taps(x: Tensor, attrs: Pool2dAttrs, border: number): readonly Tensor[] {
  const [top, bottom, left, right] = attrs.padding
  const padded = attrs.padding.some((p) => p > 0) ? x.pad([0, 0, top, left], [0, 0, bottom, right], border) : x
  const [batch = 0, channels = 0] = staticShape('maxPool2d', x.shape)
  const sizes = [batch, channels, ...outputSize('maxPool2d', pixels(x), attrs)]
  return tapsOf(attrs).map(([r, s]) => padded.slice([0, 0, r, s], sizes, [1, 1, ...attrs.stride]))
}

function tapsOf({ kernelSize: [height, width] }: Pool2dAttrs): readonly Size2d[] {
  return Array.from({ length: height * width }, (_, i): Size2d => [Math.floor(i / width), i % width])
}

function largest(values: readonly Tensor[]): Tensor {
  return values.reduce((a, b) => a.max(b))
}

// For each tap: (yes, no) => `yes` where the tap holds its window's largest element or, if that is NaN, a NaN; else `no`.
// The padding never does, though it equals the largest where that is -infinity.
type Choice = (yes: Tensor, no: Tensor) => Tensor

function choices(x: Tensor, attrs: Pool2dAttrs): readonly Choice[] {
  const values = taps(x, attrs, Number.NEGATIVE_INFINITY)
  const max = largest(values)
  const size = pixels(x)
  const insides = tapsOf(attrs).map((tap) => insideOf(x, attrs, tap, size))
  return values.map((value, i): Choice => {
    const [isMax, isNaN, inside] = [value.equal(max), value.compare('notEqual', value), insides[i]]
    return (yes, no) => {
      const chosen = isMax.select(yes, isNaN.select(yes, no))
      return inside ? inside.select(chosen, no) : chosen
    }
  })
}

// Which windows' tap lies inside the image, [1, 1, P, Q]; undefined: all.
function insideOf(x: Tensor, attrs: Pool2dAttrs, tap: Size2d, size: Size2d): Tensor | undefined {
  const [outHeight, outWidth] = outputSize('maxPool2d', size, attrs)
  const origin = [attrs.padding[0], attrs.padding[2]] as const
  const isInside = (axis: 0 | 1, p: number): boolean => {
    const pixel = p * attrs.stride[axis] + tap[axis] - origin[axis]
    return pixel >= 0 && pixel < size[axis]
  }
  const map = Uint8Array.from({ length: outHeight * outWidth }, (_, i) => Number(isInside(0, Math.floor(i / outWidth)) && isInside(1, i % outWidth)))
  return map.includes(0) ? x.constant({ dtype: 'bool', shape: [1, 1, outHeight, outWidth], data: map }) : undefined
}

// The inverse of a tap's slice: a padded image of zeros with `part`'s row p in row p sh + r. Rows are spread by giving
// each (sh - 1) zero rows behind it; the (P - 1) sh + 1 rows up to the last true one are kept, and moved down by r.
function place(part: Tensor, { stride, kernelSize }: Pool2dAttrs, tap: number, padded: Size2d): Tensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = staticShape('maxPool2dGrad', part.shape)
  const [r, s] = [Math.floor(tap / kernelSize[1]), tap % kernelSize[1]]
  const kept: Size2d = [(height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1]
  const spread =
    stride[0] === 1 && stride[1] === 1
      ? part
      : part
          .reshape([batch, channels, height, 1, width, 1])
          .pad([0, 0, 0, 0, 0, 0], [0, 0, 0, stride[0] - 1, 0, stride[1] - 1])
          .reshape([batch, channels, height * stride[0], width * stride[1]])
          .slice([0, 0, 0, 0], [batch, channels, ...kept])
  return spread.pad([0, 0, r, s], [0, 0, padded[0] - r - kept[0], padded[1] - s - kept[1]])
}
