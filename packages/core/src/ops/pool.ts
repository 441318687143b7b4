// Pools of images x [N, C, H, W] over windows of kh x kw pixels, and their gradients. The window of output pixel (p, q)
// covers rows p sh - top + [0, kh) and columns q sw - left + [0, kw). Each padding is smaller than the kernel, so that no
// window lies wholly outside the image. Semantics as in PyTorch (ceil_mode=False).
//
// maxPool2d: padding counts as -infinity; NaN is larger than every number, so it propagates. Its gradient goes whole to
// the first largest element m(p, q) of each window, in row-major order; where windows overlap, gradients add:
//   dx[n, c, h, w] = sum over (p, q) with m(p, q) = (h, w) of dy[n, c, p, q].
// That is linear in dy, so with g the gradient that flows into dx, the gradient of dy is g read at m: sum g dx =
// sum over (p, q) of dy[p, q] g[m(p, q)]. m is a step function of x: no gradient goes there.
//
// avgPool2d: y = (sum over the window) / count, where count is kh kw, or only the pixels inside the image with
// countIncludePad = false. It is a convolution of each channel with ones, divided by a constant map, so its gradient
// is the transposed convolution of dy / count, and the gradient of that is the pool again.

import { ShapeError } from '../backend/errors.ts'
import { formatShape, known, sameShape, type StaticShape, sizeOf } from '../tensor/shape.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { Pool2dAttrs, Size2d } from './attrs.ts'
import { checkFlag, sameDType, take } from './checks.ts'
import { by, checkGradSize, checkImages, checkSize2d, type Images, outputSize } from './checks2d.ts'
import { conv2d, conv2dInputGrad, pixels } from './conv.ts'
import { defineOp, type OpTable, type RefTensor, type ValueType } from './define.ts'
import { type Padding, toPadding2d, toSize2d } from './options2d.ts'
import { addAtFirstMax, maxOfTaps, readAtFirstMax } from './poolTaps.ts'
import { addAt, at, refTensor } from './refs.ts'

/** How a pool walks. */
export interface Pool2dOptions {
  readonly kernelSize: number | Size2d
  /** The kernel size unless given: windows side by side. */
  readonly stride?: number | Size2d
  /** 0 unless given. */
  readonly padding?: Padding
}

/** How `avgPool2d` walks and counts. */
export interface AvgPool2dOptions extends Pool2dOptions {
  /** Whether pixels of the padding count as zeros of the mean (true unless given) or not at all. */
  readonly countIncludePad?: boolean
}

/**
 * The largest element of each window: from [N, C, H, W] to [N, C, OH, OW]. NaN where the window holds one.
 *
 * @example maxPool2d(x, { kernelSize: 3, stride: 2, padding: 1 })
 * @throws ShapeError when the window does not fit, or a padding is not smaller than it
 */
export function maxPool2d(x: Tensor, options: Pool2dOptions): Tensor {
  return only(x.graph.emit('maxPool2d', poolAttrs('maxPool2d', options), [x]))
}

/**
 * The mean of each window: from [N, C, H, W] to [N, C, OH, OW].
 *
 * @example avgPool2d(x, { kernelSize: 2 })
 * @throws ShapeError when the window does not fit, or a padding is not smaller than it
 */
export function avgPool2d(x: Tensor, options: AvgPool2dOptions): Tensor {
  const attrs = { ...poolAttrs('avgPool2d', options), countIncludePad: options.countIncludePad ?? true }
  return only(x.graph.emit('avgPool2d', attrs, [x]))
}

/** The mean of each channel's pixels: from [N, C, H, W] to [N, C, 1, 1]. @throws ShapeError for another rank */
export function globalAvgPool2d(x: Tensor): Tensor {
  if (x.rank !== 4) throw new ShapeError(`globalAvgPool2d: x must be [N, C, H, W], got ${formatShape(x.shape)}`)
  return x.mean([2, 3], true)
}

function poolAttrs(who: string, options: Pool2dOptions): Pool2dAttrs {
  const kernelSize = toSize2d(who, 'kernelSize', options.kernelSize)
  const stride = toSize2d(who, 'stride', options.stride ?? kernelSize)
  return { kernelSize, stride, padding: toPadding2d(who, options.padding ?? 0, { kernelSize, stride, dilation: [1, 1] }) }
}

type PoolName = 'maxPool2d' | 'maxPool2dGrad' | 'avgPool2d' | 'avgPool2dGrad'
type AvgAttrs = Pool2dAttrs & { readonly countIncludePad: boolean }

/** The definitions. */
export const poolOps: Pick<OpTable, PoolName> = {
  maxPool2d: defineOp({
    name: 'maxPool2d',
    infer: (attrs, inputs) => {
      const [x] = take('maxPool2d', inputs, 'x')
      return inferPool('maxPool2d', attrs, x)
    },
    gradient: ({ attrs, inputs, grad }) => {
      const [x] = take('maxPool2d', inputs, 'x')
      return [only(x.graph.emit('maxPool2dGrad', attrs, [x, grad]))]
    },
    reference: (attrs, [x], [output]) => {
      if (!x || !output) throw new RangeError('maxPool2d: the reference needs x and the output type')
      const y = refTensor(output.shape)
      forEachWindow(attrs, x.shape, output.shape, (window, p) => {
        y.data[p] = at(x.data, firstMax(x, window))
      })
      return y
    },
    decompose: (attrs, inputs) => {
      const [x] = take('maxPool2d', inputs, 'x')
      return [maxOfTaps(x, attrs)]
    },
  }),

  maxPool2dGrad: defineOp({
    name: 'maxPool2dGrad',
    // x [N, C, H, W], dy [N, C, P, Q]
    infer: (attrs, inputs) => {
      const who = 'maxPool2dGrad'
      const [x, dy] = take(who, inputs, 'x', 'dy')
      const dtype = sameDType(who, ['x', 'dy'], inputs)
      const y = inferPool(who, attrs, x)
      if (!sameShape(dy.shape, y.shape)) throw new ShapeError(`${who}: dy must be ${formatShape(y.shape)}, got ${formatShape(dy.shape)}`)
      return { dtype, shape: x.shape }
    },
    gradient: ({ attrs, inputs, grad, needs }) => {
      const [x] = take('maxPool2dGrad', inputs.slice(0, 1), 'x')
      return [undefined, needs[1] ? readAtFirstMax(x, grad, attrs) : undefined]
    },
    reference: (attrs, [x, dy], [output]) => {
      if (!x || !dy || !output) throw new RangeError('maxPool2dGrad: the reference needs x, dy and the output type')
      const dx = refTensor(output.shape)
      forEachWindow(attrs, x.shape, dy.shape, (window, p) => {
        addAt(dx.data, firstMax(x, window), at(dy.data, p))
      })
      return dx
    },
    decompose: (attrs, inputs) => {
      const [x, dy] = take('maxPool2dGrad', inputs, 'x', 'dy')
      return [addAtFirstMax(x, dy, attrs)]
    },
  }),

  avgPool2d: defineOp({
    name: 'avgPool2d',
    infer: (attrs, inputs) => {
      const [x] = take('avgPool2d', inputs, 'x')
      checkFlag('avgPool2d', 'countIncludePad', attrs.countIncludePad)
      return inferPool('avgPool2d', attrs, x)
    },
    gradient: ({ attrs, inputs, grad }) => {
      const [x] = take('avgPool2d', inputs, 'x')
      return [only(x.graph.emit('avgPool2dGrad', { ...attrs, inputSize: pixels(x) }, [grad]))]
    },
    reference: (attrs, [x], [output]) => {
      if (!x || !output) throw new RangeError('avgPool2d: the reference needs x and the output type')
      const y = refTensor(output.shape)
      forEachWindow(attrs, x.shape, output.shape, (window, p) => {
        let sum = 0
        forEachPixel(window, (i) => {
          sum += at(x.data, i)
        })
        y.data[p] = sum / countOf(attrs, window)
      })
      return y
    },
    decompose: (attrs, inputs) => {
      const [x] = take('avgPool2d', inputs, 'x')
      const { ones, walk } = depthwiseOnes(x, attrs)
      return [divideByCount(conv2d(x, ones, walk), attrs, pixels(x))]
    },
  }),

  avgPool2dGrad: defineOp({
    name: 'avgPool2dGrad',
    // dy [N, C, P, Q]
    infer: (attrs, inputs) => {
      const who = 'avgPool2dGrad'
      const [dy] = take(who, inputs, 'dy')
      const grads = checkImages(who, 'dy', dy)
      checkFlag(who, 'countIncludePad', attrs.countIncludePad)
      checkSize2d(who, 'inputSize', attrs.inputSize)
      checkGradSize(who, 'dy', grads.size, attrs.inputSize, pooledSize(who, attrs, attrs.inputSize))
      return { dtype: dy.dtype, shape: [grads.batch, grads.channels, ...attrs.inputSize] }
    },
    gradient: ({ attrs: { kernelSize, stride, padding, countIncludePad }, grad }) => [avgPool2d(grad, { kernelSize, stride, padding, countIncludePad })],
    reference: (attrs, [dy], [output]) => {
      if (!dy || !output) throw new RangeError('avgPool2dGrad: the reference needs dy and the output type')
      const dx = refTensor(output.shape)
      forEachWindow(attrs, output.shape, dy.shape, (window, p) => {
        const share = at(dy.data, p) / countOf(attrs, window)
        forEachPixel(window, (i) => {
          addAt(dx.data, i, share)
        })
      })
      return dx
    },
    decompose: (attrs, inputs) => {
      const [dy] = take('avgPool2dGrad', inputs, 'dy')
      const { ones, walk } = depthwiseOnes(dy, attrs)
      return [conv2dInputGrad(divideByCount(dy, attrs, attrs.inputSize), ones, { ...walk, inputSize: attrs.inputSize })]
    },
  }),
}

function inferPool(who: PoolName, attrs: Pool2dAttrs, x: ValueType): ValueType {
  const { batch, channels, size }: Images = checkImages(who, 'x', x)
  return { dtype: x.dtype, shape: [batch, channels, ...pooledSize(who, attrs, size)] }
}

// A window starts above the image by at most its padding and ends below by at most the other: with both smaller than the
// kernel it holds at least one pixel.
function pooledSize(who: PoolName, attrs: Pool2dAttrs, inputSize: Size2d): Size2d {
  const size = outputSize(who, inputSize, attrs)
  const [top, bottom, left, right] = attrs.padding
  if (Math.max(top, bottom) >= attrs.kernelSize[0] || Math.max(left, right) >= attrs.kernelSize[1]) {
    throw new ShapeError(`${who}: padding ${formatShape(attrs.padding)} must be smaller than the kernel ${by(attrs.kernelSize)}, or a window would hold no pixel`)
  }
  return size
}

// Reference: windows, clipped to the image.

interface Window {
  /** Flat index of the plane's first pixel. */
  readonly plane: number
  readonly width: number
  readonly rows: readonly [from: number, to: number]
  readonly columns: readonly [from: number, to: number]
}

function forEachWindow(attrs: Pool2dAttrs, x: StaticShape, y: StaticShape, visit: (window: Window, p: number) => void): void {
  const [batch = 0, channels = 0, height = 0, width = 0] = x
  const [, , outHeight = 0, outWidth = 0] = y
  for (let plane = 0; plane < batch * channels; plane++) {
    for (let p = 0; p < outHeight; p++) {
      const top = p * attrs.stride[0] - attrs.padding[0]
      for (let q = 0; q < outWidth; q++) {
        const left = q * attrs.stride[1] - attrs.padding[2]
        const window: Window = {
          plane: plane * height * width,
          width,
          rows: [Math.max(top, 0), Math.min(top + attrs.kernelSize[0], height)],
          columns: [Math.max(left, 0), Math.min(left + attrs.kernelSize[1], width)],
        }
        visit(window, (plane * outHeight + p) * outWidth + q)
      }
    }
  }
}

function forEachPixel({ plane, width, rows, columns }: Window, visit: (flat: number) => void): void {
  for (let h = rows[0]; h < rows[1]; h++) {
    for (let w = columns[0]; w < columns[1]; w++) visit(plane + h * width + w)
  }
}

// Flat index of the first largest pixel; a NaN is larger than every number.
function firstMax(x: RefTensor, window: Window): number {
  let best = -1
  forEachPixel(window, (i) => {
    if (best < 0 || isLarger(at(x.data, i), at(x.data, best))) best = i
  })
  return best
}

function isLarger(a: number, b: number): boolean {
  return a > b || (Number.isNaN(a) && !Number.isNaN(b))
}

function countOf(attrs: AvgAttrs, { rows, columns }: Window): number {
  return attrs.countIncludePad ? sizeOf(attrs.kernelSize) : (rows[1] - rows[0]) * (columns[1] - columns[0])
}

// Mean in simpler ops.

function depthwiseOnes(images: Tensor, { kernelSize, stride, padding }: Pool2dAttrs) {
  const channels = known('avgPool2d', 'channels', images.shape[1])
  return { ones: images.full(1, [channels, 1, ...kernelSize]), walk: { stride, padding, dilation: [1, 1] as const, groups: channels } }
}

function divideByCount(sums: Tensor, attrs: AvgAttrs, inputSize: Size2d): Tensor {
  if (attrs.countIncludePad || attrs.padding.every((p) => p === 0)) return sums.div(sizeOf(attrs.kernelSize))
  const shape = [1, 1, ...outputSize('avgPool2d', inputSize, attrs)]
  const counts = new Float64Array(sizeOf(shape))
  forEachWindow(attrs, [1, 1, ...inputSize], shape, (window, p) => {
    counts[p] = countOf(attrs, window)
  })
  return sums.div(sums.constant(fromNumbers(sums.dtype, shape, counts)))
}
