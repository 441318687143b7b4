// Resampling of images [N, C, H, W] to another size, and its gradient. Pixel centres lie at half integers and borders
// repeat: PyTorch's `interpolate` with align_corners=False and no antialiasing. Along one axis, from n to m pixels, output
// pixel j reads
//   nearest    pixel floor(j n / m)
//   bilinear   t = max((j + 1/2) n / m - 1/2, 0), lo = floor(t), hi = min(lo + 1, n - 1), f = t - lo:
//              (1 - f) * pixel lo + f * pixel hi
// first along the height, then along the width. Both are linear: y = A_H x A_W^T with A[j, lo] += 1 - f, A[j, hi] += f.
// So the gradient of x is A_H^T dy A_W (`resizeGrad`: each output pixel's gradient, added to the pixels that it read), and
// the gradient of that by dy is the resize again.

import { ShapeError, ValueError } from '../backend/errors.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'
import { formatShape, type StaticShape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { ResizeMode, Size2d } from './attrs.ts'
import { take } from './checks.ts'
import { checkImages, checkPixels, checkSize2d } from './checks2d.ts'
import { pixels } from './conv.ts'
import { defineOp, type OpTable, type RefTensor } from './define.ts'
import { toSize2d } from './options2d.ts'
import { addAt, at, forEachLine, refTensor } from './refs.ts'

/** How `resize` resamples: to a size, or by a factor (the result's size is rounded down). */
export type ResizeOptions = ({ readonly size: number | Size2d } | { readonly scale: number | Size2d }) & {
  /** nearest unless given. */
  readonly mode?: ResizeMode
}

/**
 * Images `x` [N, C, H, W] resampled to [N, C, ...size].
 *
 * @example resize(x, { scale: 2, mode: 'bilinear' })
 * @throws ShapeError when x has no pixels or the size is not positive; ValueError for a scale that is not positive
 */
export function resize(x: Tensor, options: ResizeOptions): Tensor {
  return only(x.graph.emit('resize', { size: targetSize(x, options), mode: options.mode ?? 'nearest' }, [x]))
}

function targetSize(x: Tensor, options: ResizeOptions): Size2d {
  if ('size' in options) return toSize2d('resize', 'size', options.size)
  const scale = toSize2d('resize', 'scale', options.scale)
  if (!scale.every((s) => s > 0 && s < Number.POSITIVE_INFINITY)) throw new ValueError(`resize: scale ${formatShape(scale)} must be positive`)
  if (x.rank !== 4) throw new ShapeError(`resize: x must be [N, C, H, W], got ${formatShape(x.shape)}`)
  const [height, width] = pixels(x)
  return [Math.floor(height * scale[0]), Math.floor(width * scale[1])]
}

/** The definitions. */
export const resizeOps: Pick<OpTable, 'resize' | 'resizeGrad'> = {
  resize: defineOp({
    name: 'resize',
    infer: ({ size, mode }, inputs) => {
      const [x] = take('resize', inputs, 'x')
      const images = checkImages('resize', 'x', x)
      checkResize('resize', mode, images.size, 'size', size)
      return { dtype: x.dtype, shape: [images.batch, images.channels, ...size] }
    },
    gradient: ({ attrs: { mode }, inputs, grad }) => {
      const [x] = take('resize', inputs, 'x')
      return [only(x.graph.emit('resizeGrad', { inputSize: pixels(x), mode }, [grad]))]
    },
    reference: ({ size, mode }, inputs) => {
      const [x] = take('resize', inputs, 'x')
      return size.reduce((t, target, i) => alongRef(t, 2 + i, target, mode), x)
    },
    decompose: ({ size, mode }, inputs) => {
      const [x] = take('resize', inputs, 'x')
      return [size.reduce((t, target, i) => along(t, 2 + i, target, mode), x)]
    },
  }),

  resizeGrad: defineOp({
    name: 'resizeGrad',
    infer: ({ inputSize, mode }, inputs) => {
      const [dy] = take('resizeGrad', inputs, 'dy')
      const grads = checkImages('resizeGrad', 'dy', dy)
      checkResize('resizeGrad', mode, grads.size, 'inputSize', inputSize)
      return { dtype: dy.dtype, shape: [grads.batch, grads.channels, ...inputSize] }
    },
    gradient: ({ attrs: { mode }, inputs, grad }) => {
      const [dy] = take('resizeGrad', inputs, 'dy')
      return [resize(grad, { size: pixels(dy), mode })]
    },
    reference: ({ inputSize, mode }, inputs) => {
      const [dy] = take('resizeGrad', inputs, 'dy')
      return inputSize.reduceRight((t, source, i) => backAlongRef(t, 2 + i, source, mode), dy)
    },
    decompose: ({ inputSize, mode }, inputs) => {
      const [dy] = take('resizeGrad', inputs, 'dy')
      return [inputSize.reduceRight((t, source, i) => backAlong(t, 2 + i, source, mode), dy)]
    },
  }),
}

function checkResize(who: string, mode: ResizeMode, from: Size2d, what: string, size: Size2d): void {
  if (!Object.hasOwn(readers, mode)) throw new ValueError(`${who}: mode must be nearest or bilinear, got ${String(mode)}`)
  checkSize2d(who, what, size)
  checkPixels(who, from)
}

// The two pixels that an output pixel reads along one axis, and the share of the second. `nearest` reads one.
interface Read {
  readonly lo: number
  readonly hi: number
  readonly fraction: number
}

const readers: { readonly [M in ResizeMode]: (j: number, from: number, to: number) => Read } = {
  // j * from is exact, so that an integral quotient is not rounded below itself.
  nearest: (j, from, to) => {
    const lo = Math.floor((j * from) / to)
    return { lo, hi: lo, fraction: 0 }
  },
  bilinear: (j, from, to) => {
    const t = Math.max(((j + 0.5) * from) / to - 0.5, 0)
    const lo = Math.min(Math.floor(t), from - 1)
    return { lo, hi: Math.min(lo + 1, from - 1), fraction: t - lo }
  },
}

function reads(mode: ResizeMode, from: number, to: number): readonly Read[] {
  return Array.from({ length: to }, (_, j) => readers[mode](j, from, to))
}

// In simpler ops: gathers of all lo and of all hi pixels; backwards the same indices scatter.

function along(x: Tensor, axis: number, to: number, mode: ResizeMode): Tensor {
  const list = reads(mode, Number(x.shape[axis]), to)
  const low = x.gather(indices(x, list, 'lo'), axis)
  if (mode === 'nearest') return low
  const high = x.gather(indices(x, list, 'hi'), axis)
  return low.mul(weights(x, axis, list, (f) => 1 - f)).add(high.mul(weights(x, axis, list, (f) => f)))
}

function backAlong(dy: Tensor, axis: number, from: number, mode: ResizeMode): Tensor {
  const list = reads(mode, from, Number(dy.shape[axis]))
  const lo = indices(dy, list, 'lo')
  if (mode === 'nearest') return dy.scatterAdd(lo, axis, from)
  const low = dy.mul(weights(dy, axis, list, (f) => 1 - f)).scatterAdd(lo, axis, from)
  return low.add(dy.mul(weights(dy, axis, list, (f) => f)).scatterAdd(indices(dy, list, 'hi'), axis, from))
}

function indices(t: Tensor, list: readonly Read[], which: 'lo' | 'hi'): Tensor {
  return t.constant(fromNumbers('int32', [list.length], list.map((r) => r[which])))
}

// A weight for each pixel along `axis`, that broadcasts against `t`.
function weights(t: Tensor, axis: number, list: readonly Read[], weight: (fraction: number) => number): Tensor {
  const shape = t.shape.map((_, i) => (i === axis ? list.length : 1))
  return t.constant(fromNumbers(t.dtype, shape, list.map((r) => weight(r.fraction))))
}

// Reference

function alongRef(x: RefTensor, axis: number, to: number, mode: ResizeMode): RefTensor {
  const list = reads(mode, x.shape[axis] ?? 0, to)
  const y = refTensor(withSize(x.shape, axis, to))
  forEachPair(x.shape, y.shape, axis, (from, into) => {
    list.forEach(({ lo, hi, fraction }, j) => {
      const low = at(x.data, from(lo))
      y.data[into(j)] = mode === 'nearest' ? low : low * (1 - fraction) + at(x.data, from(hi)) * fraction
    })
  })
  return y
}

function backAlongRef(dy: RefTensor, axis: number, from: number, mode: ResizeMode): RefTensor {
  const list = reads(mode, from, dy.shape[axis] ?? 0)
  const dx = refTensor(withSize(dy.shape, axis, from))
  forEachPair(dy.shape, dx.shape, axis, (of, into) => {
    list.forEach(({ lo, hi, fraction }, j) => {
      const g = at(dy.data, of(j))
      if (mode === 'nearest') addAt(dx.data, into(lo), g)
      else {
        addAt(dx.data, into(lo), g * (1 - fraction))
        addAt(dx.data, into(hi), g * fraction)
      }
    })
  })
  return dx
}

// The lines along `axis` of two tensors that differ only there.
function forEachPair(a: StaticShape, b: StaticShape, axis: number, visit: (a: (i: number) => number, b: (i: number) => number) => void): void {
  const lines: ((i: number) => number)[] = []
  forEachLine(a, axis, (flat) => lines.push(flat))
  forEachLine(b, axis, (flat, _size, line) => {
    const other = lines[line]
    if (other) visit(other, flat)
  })
}

function withSize(shape: StaticShape, axis: number, size: number): StaticShape {
  return shape.map((d, i) => (i === axis ? size : d))
}
