// Convolution and its two gradients on NCHW values (the formulas: core's ops/conv.ts). TensorFlow's own kernels take what
// they can: one group without stride and dilation at once, or one input channel a group. The rest are products of matrices
// over columns: with T = kh kw taps, and I', O' the channels of a group,
//
//   col[n, g, (i, t), (p, q)] = x[n, g I' + i, p sh - top + r dh, q sw - left + s dw],   t = r kw + s
//   y   = W col        [g, O', I' T] x [N, g, I' T, P Q]
//   dcol = W^T dy      and dx adds each tap of dcol up where col read it
//   dW  = sum over n of dy col^T

import type { Conv2dAttrs, Size2d } from '@dynconv/core'
import type { Primitives, Value } from '../primitives.ts'
import { filled, type Kernels, nth, product, range } from './shared.ts'

type ConvName = 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad'

const toNhwc = [0, 2, 3, 1]
const toNchw = [0, 3, 1, 2]
const oihwToHwio = [2, 3, 1, 0]
const hwioToOihw = [3, 2, 0, 1]

/** The kernels over `p`. */
export function convKernels<V extends Value>(p: Primitives<V>): Kernels<V, ConvName> {
  return {
    conv2d: (attrs, inputs, outputs) => {
      const [x, weight, bias] = [nth(inputs, 0), nth(inputs, 1), inputs[2]]
      const { shape } = nth(outputs, 0)
      const y = conv(p, x, weight, attrs, shape)
      return bias ? p.binary('add', y, p.reshape(bias, [1, nth(shape, 1), 1, 1])) : y
    },
    conv2dInputGrad: (attrs, inputs, outputs) => inputGrad(p, nth(inputs, 0), nth(inputs, 1), attrs, nth(outputs, 0).shape),
    conv2dFilterGrad: (attrs, inputs, outputs) => {
      const [x, dy] = [nth(inputs, 0), nth(inputs, 1)]
      const { dtype, shape } = nth(outputs, 0)
      return product(x.shape) === 0 || product(dy.shape) === 0 ? filled(p, 0, shape, dtype) : filterGrad(p, x, dy, attrs, shape)
    },
  }
}

function conv<V extends Value>(p: Primitives<V>, x: V, weight: V, attrs: Conv2dAttrs, shape: readonly number[]): V {
  const { stride, dilation, groups } = attrs
  const [outChannels, inPerGroup, height, width] = four(weight.shape)
  const simple = isOne(stride) || isOne(dilation)
  if (simple && groups === 1) {
    const y = p.conv2d(padded(p, p.transpose(x, toNhwc), attrs, 'last'), p.transpose(weight, oihwToHwio), stride, dilation)
    return p.transpose(y, toNchw)
  }
  // Some of the engines' depthwise kernels refuse dilation.
  if (isOne(dilation) && inPerGroup === 1 && stride[0] === stride[1]) {
    // [C m, 1, kh, kw] as [kh, kw, C, m]
    const filter = p.transpose(p.reshape(weight, [groups, outChannels / groups, height, width]), [2, 3, 0, 1])
    const y = p.depthwiseConv2d(padded(p, p.transpose(x, toNhwc), attrs, 'last'), filter, stride, dilation)
    return p.transpose(y, toNchw)
  }
  const col = columns(p, x, attrs, [height, width], [nth(shape, 2), nth(shape, 3)])
  return p.reshape(p.matmul(rowsOf(p, weight, groups), col, false, false), shape)
}

function inputGrad<V extends Value>(p: Primitives<V>, dy: V, weight: V, attrs: Conv2dAttrs, shape: readonly number[]): V {
  const { stride, dilation, groups, padding } = attrs
  const [batch, channels, rows, cols] = four(shape)
  const [, inPerGroup, height, width] = four(weight.shape)
  const [top, bottom, left, right] = padding
  if (groups === 1 && isOne(dilation)) {
    const whole = [batch, rows + top + bottom, cols + left + right, channels]
    const dx = p.conv2dInputGrad(p.transpose(dy, toNhwc), p.transpose(weight, oihwToHwio), whole, stride)
    const inner = padding.every((n) => n === 0) ? dx : p.slice(dx, [0, top, left, 0], [batch, rows, cols, channels])
    return p.transpose(inner, toNchw)
  }
  const [, outChannels, outRows, outCols] = four(dy.shape)
  const grads = p.reshape(dy, [batch, groups, outChannels / groups, outRows * outCols])
  const dcol = p.matmul(rowsOf(p, weight, groups), grads, true, false)
  const taps = p.reshape(dcol, [batch, groups * inPerGroup, height * width, outRows * outCols])
  const size: Size2d = [rows + top + bottom, cols + left + right]
  const parts = range(height * width).map((t) => {
    const part = p.reshape(p.slice(taps, [0, 0, t, 0], [batch, channels, 1, outRows * outCols]), [batch, channels, outRows, outCols])
    return spread(p, part, stride, [Math.floor(t / width) * dilation[0], (t % width) * dilation[1]], size)
  })
  const sum = parts.reduce((a, b) => p.binary('add', a, b))
  return padding.every((n) => n === 0) ? sum : p.slice(sum, [0, 0, top, left], [batch, channels, rows, cols])
}

function filterGrad<V extends Value>(p: Primitives<V>, x: V, dy: V, attrs: Conv2dAttrs & { readonly kernelSize: Size2d }, shape: readonly number[]): V {
  const { stride, dilation, groups, kernelSize } = attrs
  const [outChannels, inPerGroup] = four(shape)
  // oneDNN's kernel for filters of one tap and unequal strides writes beyond its memory (TensorFlow 2.15.1).
  if (groups === 1 && isOne(dilation) && stride[0] === stride[1] && p.conv2dFilterGrad) {
    const filter = [...kernelSize, inPerGroup, outChannels]
    const images = padded(p, p.transpose(x, toNhwc), attrs, 'last')
    return p.transpose(p.conv2dFilterGrad(images, p.transpose(dy, toNhwc), filter, stride), hwioToOihw)
  }
  const [batch, , outRows, outCols] = four(dy.shape)
  const col = columns(p, x, attrs, kernelSize, [outRows, outCols])
  const grads = p.reshape(dy, [batch, groups, outChannels / groups, outRows * outCols])
  const bySample = p.matmul(grads, col, false, true)
  return p.reshape(batch === 1 ? bySample : p.sum(bySample, [0], false), shape)
}

// [O, I', kh, kw] as [g, O', I' T].
function rowsOf<V extends Value>(p: Primitives<V>, weight: V, groups: number): V {
  const [outChannels, ...rest] = weight.shape
  return p.reshape(weight, [1, groups, Number(outChannels) / groups, product(rest)])
}

// col: [N, g, I' T, P Q].
function columns<V extends Value>(p: Primitives<V>, x: V, attrs: Conv2dAttrs, [height, width]: Size2d, [outRows, outCols]: Size2d): V {
  const { stride, dilation, groups } = attrs
  const [batch, channels] = four(x.shape)
  const image = padded(p, x, attrs, 'first')
  const sizes = [batch, channels, outRows, outCols]
  const steps = [1, 1, ...stride]
  const taps = range(height * width).map((t) => {
    const starts = [0, 0, Math.floor(t / width) * dilation[0], (t % width) * dilation[1]]
    const tap = isOne(stride) ? p.slice(image, starts, sizes) : p.stridedSlice(image, starts, sizes, steps)
    return p.reshape(tap, [batch, channels, 1, outRows * outCols])
  })
  const all = taps.length === 1 ? nth(taps, 0) : p.concat(taps, 2)
  return p.reshape(all, [batch, groups, (channels / groups) * height * width, outRows * outCols])
}

/**
 * The inverse of a tap's slice: zeros of `size` pixels with row i of `part` in row from + i * stride. Rows are spread by
 * giving each stride - 1 zero rows behind it, of which the last ones are cut off.
 */
function spread<V extends Value>(p: Primitives<V>, part: V, stride: Size2d, from: Size2d, size: Size2d): V {
  const [batch, channels, rows, cols] = four(part.shape)
  const kept: Size2d = [(rows - 1) * stride[0] + 1, (cols - 1) * stride[1] + 1]
  let wide = part
  if (!isOne(stride)) {
    const apart = p.pad(p.reshape(part, [batch * channels, rows, 1, cols, 1]), [0, 0, 0, 0, 0], [0, 0, stride[0] - 1, 0, stride[1] - 1], 0)
    wide = p.slice(p.reshape(apart, [batch, channels, rows * stride[0], cols * stride[1]]), [0, 0, 0, 0], [batch, channels, ...kept])
  }
  const after = [0, 0, size[0] - from[0] - kept[0], size[1] - from[1] - kept[1]]
  return [...from, ...after].every((n) => n === 0) ? wide : p.pad(wide, [0, 0, ...from], after, 0)
}

// The image inside its padding; channels first or last.
function padded<V extends Value>(p: Primitives<V>, x: V, { padding }: Conv2dAttrs, channels: 'first' | 'last'): V {
  if (padding.every((n) => n === 0)) return x
  const [top, bottom, left, right] = padding
  return channels === 'first' ? p.pad(x, [0, 0, top, left], [0, 0, bottom, right], 0) : p.pad(x, [0, top, left, 0], [0, bottom, right, 0], 0)
}

function isOne([a, b]: Size2d): boolean {
  return a === 1 && b === 1
}

function four(shape: readonly number[]): readonly [number, number, number, number] {
  return [nth(shape, 0), nth(shape, 1), nth(shape, 2), nth(shape, 3)]
}
