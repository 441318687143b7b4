// Convolution and its two gradients on plain NCHW values (the formulas: core's ops/conv.ts).

import { type Conv2dAttrs, type Shape, type Size2d, sizeOf, type StaticShape } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import { product } from './matmul.ts'
import { input, output, pads, range, size } from './shared.ts'

type ConvName = 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad'

export const convKernels: Pick<KernelTable, ConvName> = {
  conv2d: (node, l) => {
    const bias = node.inputs[2]
    return conv(l, l.get(input(node, 0)), l.get(input(node, 1)), node.attrs, bias === undefined ? '' : l.get(bias))
  },

  conv2dInputGrad: (node, l) => {
    const [dy, weight] = [input(node, 0), input(node, 1)]
    const { attrs } = node
    const { shape } = l.type(weight)
    const kernelSize: Size2d = [size(shape[2]), size(shape[3])]
    const padding = flippedPadding(attrs, kernelSize)
    if (padding && prefersFlip(attrs.inputSize)) {
      const flipped = flipKernels(l, l.get(weight), [], shape, attrs.groups)
      return conv(l, l.get(dy), flipped, { ...attrs, padding })
    }
    return convTranspose(l, l.get(dy), l.get(weight), { ...attrs, kernelSize }, l.shape(dy))
  },

  conv2dFilterGrad: (node, l) => {
    const [x, dy] = [input(node, 0), input(node, 1)]
    if (l.isEmpty(x) || l.isEmpty(dy)) return l.filled(output(node), 0)
    return filterGrad(l, { name: l.get(x), shape: l.type(x).shape }, { name: l.get(dy), shape: l.type(dy).shape }, node.attrs)
  },
}

/** x [N, I, H, W], weight [O, I/g, kh, kw] -> [N, O, P, Q]. */
export function conv(l: Lowering, x: string, weight: string, attrs: Conv2dAttrs, bias: string = ''): string {
  const { stride, padding, dilation, groups } = attrs
  return l.model.op('Conv', [x, weight, bias], { strides: stride, pads: pads(padding), dilations: dilation, group: groups })
}

/**
 * The input gradient as a transposed convolution. Along one axis, the P gradients reach rows up to
 * s (P - 1) + d (k - 1) + 1 of the padded input, which has a + H + b rows; the r = H + a + b - that number rows behind
 * (less than one stride) that no kernel reached are `output_padding`.
 */
export function convTranspose(
  l: Lowering,
  dy: string,
  weight: string,
  attrs: Conv2dAttrs & { readonly inputSize: Size2d; readonly kernelSize: Size2d },
  dyShape: Shape,
): string {
  const { stride, padding, dilation, groups, inputSize, kernelSize } = attrs
  const rest = [0, 1].map((i) => {
    const reached = size(stride[i]) * (size(dyShape[2 + i]) - 1) + size(dilation[i]) * (size(kernelSize[i]) - 1) + 1
    return size(inputSize[i]) + size(padding[2 * i]) + size(padding[2 * i + 1]) - reached
  })
  return l.model.op('ConvTranspose', [dy, weight], {
    strides: stride,
    pads: pads(padding),
    dilations: dilation,
    group: groups,
    output_padding: rest.some((r) => r > 0) ? rest : undefined,
  })
}

/**
 * With stride 1 the input gradient is an ordinary convolution of dY with the kernels turned round (both axes reversed,
 * input and output channels exchanged): dX[h] = sum_r W[r] dY[h + a - r d] = sum_r' W[k-1-r'] dY[h - (d (k-1) - a) + r' d].
 * Its padding is d (k - 1) less the forward one; undefined where that is negative, or with another stride.
 */
export function flippedPadding({ stride, padding, dilation }: Conv2dAttrs, kernelSize: Size2d): Conv2dAttrs['padding'] | undefined {
  if (stride[0] !== 1 || stride[1] !== 1) return undefined
  const reach = [dilation[0] * (kernelSize[0] - 1), dilation[1] * (kernelSize[1] - 1)] as const
  const flipped = [reach[0] - padding[0], reach[0] - padding[1], reach[1] - padding[2], reach[1] - padding[3]] as const
  return flipped.every((p) => p >= 0) ? flipped : undefined
}

/**
 * Which of the two is faster depends on the image: measured, the flipped convolution takes 0.5 to 0.8 of the transposed
 * one's time from 16x16 pixels on, and more than it below.
 */
export function prefersFlip(inputSize: Size2d): boolean {
  return inputSize[0] * inputSize[1] >= 256
}

/**
 * Kernels turned round, in front of them any `lead` axes: [.., g O', I', kh, kw] -> [.., g I', O', kh, kw], both kernel
 * axes reversed (O', I' per group).
 */
export function flipKernels(l: Lowering, weight: string, lead: readonly number[], shape: StaticShape, groups: number): string {
  const [outChannels = 0, inPerGroup = 0, height = 0, width = 0] = shape
  const share = outChannels / groups
  const taps = height * width
  const n = lead.length
  const split = l.model.reshape(weight, [...lead, groups, share, inPerGroup, taps])
  const exchanged = share === 1 && inPerGroup === 1 ? split : l.model.transpose(split, [...range(n), n, n + 2, n + 1, n + 3])
  const reversed = taps === 1 ? exchanged : l.model.op('Gather', [exchanged, l.model.ints(range(taps).toReversed())], { axis: n + 3 })
  return l.model.reshape(reversed, [...lead, groups * inPerGroup, share, height, width])
}

/** A value with its shape. */
export interface Shaped {
  readonly name: string
  readonly shape: StaticShape
}

/** An operand of a product of more than about this many elements per sample is not worth summing over samples afterwards. */
const maxPartialElements = 1 << 24

/**
 * x [N, I, H, W], dy [N, O, P, Q] -> dW [O, I/g, kh, kw], as products of matrices. With T = kh kw taps and the pixels that
 * tap t meets, col[n, i, t, (p, q)] = x[n, i, p sh - top + r dh, q sw - left + s dw]:
 *
 *   dW[o, i, t] = sum over n and (p, q) of col[n, i, t, (p, q)] dy[n, o, (p, q)]
 *
 * - by sample: [N, g, I' T, P Q] x [N, g, P Q, O'], summed over n. Good where P Q is large.
 * - at once: with the samples moved behind the channels, [g, I' T, N P Q] x [g, N P Q, O']. No result per sample, so
 *   good where the kernels are large and the images small.
 * The wide side (col) is never transposed: the engine's product copies a transposed left side slowly.
 */
export function filterGrad(l: Lowering, x: Shaped, dy: Shaped, attrs: Conv2dAttrs & { readonly kernelSize: Size2d }): string {
  const [batch = 0] = x.shape
  const [, outChannels = 0, p = 0, q = 0] = dy.shape
  const [height, width] = attrs.kernelSize
  const inPerGroup = size(x.shape[1]) / attrs.groups
  const share = outChannels / attrs.groups
  const taps = height * width
  const bySample = batch > 1 && p * q >= 256 && batch * outChannels * inPerGroup * taps <= maxPartialElements
  const { model } = l
  // Images before channels, or behind them.
  const order = bySample ? [0, 1, 2, 3] : [1, 0, 2, 3]
  const lead = bySample ? [batch, attrs.groups] : [attrs.groups]
  const pixels = bySample ? p * q : batch * p * q
  const col = model.reshape(columns(l, x, [p, q], attrs, order), [...lead, inPerGroup * taps, pixels])
  const grads = model.reshape(permuted(l, dy, order), [...lead, share, pixels])
  const perGroup = product(l, { name: col, rank: lead.length + 2 }, { name: grads, rank: lead.length + 2 }, { transposeB: true })
  // [.., g, I' T, O'] -> [g, O', I' T]
  const summed = bySample ? model.sum(perGroup, [0], false) : perGroup
  return model.reshape(model.transpose(summed, [0, 2, 1]), [outChannels, inPerGroup, height, width])
}

// With `order` [0, 1, 2, 3] or [1, 0, 2, 3]. A batch of one needs no move.
function permuted(l: Lowering, x: Shaped, order: readonly number[]): string {
  if (order[0] === 0) return x.name
  const [a = 0, b = 0, h = 0, w = 0] = x.shape
  return a === 1 || b === 1 ? l.model.reshape(x.name, [b, a, h, w]) : l.model.transpose(x.name, order)
}

// col: [N, I, T, P Q], or with the batch behind the channels [I, T, N, P Q]. Each tap is a strided slice of the padded image.
function columns(l: Lowering, x: Shaped, [p, q]: Size2d, attrs: Conv2dAttrs & { readonly kernelSize: Size2d }, order: readonly number[]): string {
  const { stride, padding, dilation, kernelSize } = attrs
  const [top, bottom, left, right] = padding
  const [batch = 0, channels = 0, height = 0, width = 0] = x.shape
  const images = permuted(l, x, order)
  const { model } = l
  const taps = sizeOf(kernelSize)
  const whole = taps === 1 && sizeOf(stride) === 1 && padding.every((n) => n === 0)
  if (whole) return images
  const bordered = padding.some((n) => n > 0) ? model.op('Pad', [images, model.ints([0, 0, top, left, 0, 0, bottom, right]), model.float(0)]) : images
  const outer = order[0] === 0 ? [batch, channels] : [channels]
  const inner = order[0] === 0 ? p * q : batch * p * q
  const parts = range(taps).map((t) => {
    const [r, s] = [Math.floor(t / kernelSize[1]) * dilation[0], (t % kernelSize[1]) * dilation[1]]
    const [endRow, endColumn] = [r + (p - 1) * stride[0] + 1, s + (q - 1) * stride[1] + 1]
    const untouched = r === 0 && s === 0 && endRow === height + top + bottom && endColumn === width + left + right && sizeOf(stride) === 1
    const tap = untouched ? bordered : model.slice(bordered, [r, s], [endRow, endColumn], [2, 3], stride)
    return model.reshape(tap, [...outer, 1, inner])
  })
  return model.concat(parts, outer.length)
}
