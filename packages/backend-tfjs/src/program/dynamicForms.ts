// The forms of dynamic convolution and of its gradients in NHWC (the formulas: core's ops/dynamicConv.ts; which one is taken:
// forms.ts). With taps T = kh kw and V_b = sum_k pi_bk W_k as [T I, O]:
//
//   grouped   c samples side by side: x [B, H, W, I] -> [B / c, H, W, c I], V -> [B / c, kh, kw, I, c O]; TensorFlow takes c I
//             channels over filters of I as c groups
//   columns   y_b = col_b V_b,   col_b [P Q, T I];   dV_b = col_b^T dY_b
//   columns   dcol_b = dY_b V_b^T [P Q, T I], and with stride 1, tap (r, s) of pixel (p, q) read x at (p - top + r, q - left + s):
//             dx[h, w] = sum over (r, s) of dcol[h + top - r, w + left - s, (r, s)]
//   taps      with stride 1, y_b = sum over t of x_b, moved by tap t, [P Q, I] times V_b's tap t [I, O]: each tap's kernels
//             are mixed just before they are used, so that they never leave the cache
//   flipped   dx = conv(dY with zeros between its pixels, V turned round), padded as forms.ts derives: V turned round is linear
//             in V, so the K bases are turned round instead of the B kernels
//   turned    the same with stride 1 as a product over columns of dY: dx_b = dcol_b U_b, dcol_b [H W, T O], U_b [T O, I] the
//             kernels turned round; and then dU_b = dcol_b^T x_b, over the same columns
//   rows      with stride 1, X_b = the kw shifts of a padded row side by side [(H' Q), kw I], Y_b = dY_b moved down by 0 to
//             kh - 1 rows in H' rows, side by side [(H' Q), kh O]: dV_b = X_b^T Y_b [kw I, kh O]

import type { Size2d } from '@dynconv/core'
import { nth, product, range } from '../kernels/shared.ts'
import { apart, sideBySide } from './beside.ts'
import { four, isOne, padded, paddingOf } from './conv.ts'
import { type DynamicLayer, flippedPadding, type Form, type ForwardForm, type InputGradForm, type KernelGradForm } from './forms.ts'
import { attr, type TfValue } from './graph.ts'
import type { ProgramPrimitives } from './primitives.ts'

/** What the kernels of a layer are made of. */
export interface KernelParts {
  /** V [B, T I O], made once for the convolution and the gradient of its images. */
  readonly mixed: () => TfValue
  /** [K, kh, kw, I, O] */
  readonly bases: () => TfValue
  /** [kh, kw, K, I, O] */
  readonly taps: () => TfValue
  /** [B, K] */
  readonly pi: () => TfValue
}

const one: Size2d = [1, 1]

/** y [B, P, Q, O] */
export const forwardForms: { readonly [F in ForwardForm]: (p: ProgramPrimitives, layer: DynamicLayer, x: TfValue, parts: KernelParts, form: Form) => TfValue } = {
  loop: (p, layer, x, { mixed }) => {
    const { batch, inChannels, outChannels, stride, kernelSize } = layer
    const padding = paddingOf({ ...layer, dilation: one }, kernelSize)
    const filters = p.unpack(p.reshape(mixed(), [batch, ...kernelSize, inChannels, outChannels]))
    const samples = p.split(padding ? x : padded(p, x, layer), batch)
    return p.concat(filters.map((filter, b) => p.conv2d(nth(samples, b), filter, stride, one, padding ?? 'VALID')), 0)
  },
  grouped: (p, layer, x, { mixed }, { together = layer.batch }) => {
    const padding = paddingOf({ ...layer, dilation: one }, layer.kernelSize)
    const filters = sideBySideKernels(p, mixed(), together, [...layer.kernelSize, layer.inChannels], layer.outChannels)
    return grouped(p, channelsBeside(p, x, together), padding ? undefined : layer, filters, layer.stride, padding ?? 'VALID')
  },
  columns: (p, layer, x, { mixed }) => {
    const { batch, inChannels, outChannels, outputSize, kernelSize } = layer
    const y = p.matmul(columns(p, layer, x), p.reshape(mixed(), [batch, product(kernelSize) * inChannels, outChannels]), false, false)
    return p.reshape(y, [batch, ...outputSize, outChannels])
  },
  taps: (p, layer, x, { taps, pi }) => {
    const { batch, inChannels, outChannels, outputSize, kernelSize, numBases } = layer
    const image = padded(p, x, layer)
    const count = product(kernelSize)
    const bases = p.split(p.reshape(taps(), [count, numBases, inChannels * outChannels]), count)
    const sums: TfValue[] = []
    bases.forEach((tap, t) => {
      const V = p.matmul(pi(), p.reshape(tap, [numBases, inChannels * outChannels]), false, false)
      // Two taps at a time: more would push each other's kernels out of the cache.
      const before = sums[t - 2]
      if (before) V.node.after.push(before.node)
      const moved = p.slice(image, [0, Math.floor(t / kernelSize[1]), t % kernelSize[1], 0], [batch, ...outputSize, inChannels])
      sums.push(p.matmul(p.reshape(moved, [batch, product(outputSize), inChannels]), p.reshape(V, [batch, inChannels, outChannels]), false, false))
    })
    return p.reshape(p.addAll(sums), [batch, ...outputSize, outChannels])
  },
}

/** dx [B, H, W, I] */
export const inputGradForms: { readonly [F in InputGradForm]: (p: ProgramPrimitives, layer: DynamicLayer, dy: TfValue, parts: KernelParts, form: Form) => TfValue } = {
  loop: (p, layer, dy, { mixed }) => {
    const { batch, inChannels, outChannels, inputSize, stride, kernelSize } = layer
    const whole = wholeSize(layer)
    const filters = p.unpack(p.reshape(mixed(), [batch, ...kernelSize, inChannels, outChannels]))
    const samples = p.split(dy, batch)
    const dx = p.concat(filters.map((filter, b) => p.conv2dInputGrad(nth(samples, b), filter, [1, ...whole.size, inChannels], stride, whole.padding)), 0)
    return p.slice(dx, [0, ...whole.start, 0], [batch, ...inputSize, inChannels])
  },
  grouped: (p, layer, dy, { mixed }, { together = layer.batch }) => {
    const { batch, inChannels, outChannels, inputSize, stride, kernelSize } = layer
    const whole = wholeSize(layer)
    const filters = p.unpack(sideBySideKernels(p, mixed(), together, [...kernelSize, inChannels], outChannels))
    const samples = p.split(channelsBeside(p, dy, together), batch / together)
    const dx = p.concat(filters.map((filter, g) => p.conv2dInputGrad(nth(samples, g), filter, [1, ...whole.size, together * inChannels], stride, whole.padding)), 0)
    return channelsApart(p, p.slice(dx, [0, ...whole.start, 0], [batch / together, ...inputSize, together * inChannels]), together)
  },
  columns: (p, layer, dy, { mixed }) => {
    const { batch, inChannels, outChannels, inputSize, outputSize, padding, kernelSize } = layer
    const [height, width] = kernelSize
    const [top, bottom, left, right] = padding
    const rows = p.reshape(dy, [batch, product(outputSize), outChannels])
    const dcol = p.matmul(rows, p.reshape(mixed(), [batch, height * width * inChannels, outChannels]), false, true)
    const images = p.reshape(dcol, [batch, ...outputSize, height * width * inChannels])
    const margin = (reach: number, border: number): number => Math.max(0, reach - 1 - border)
    const [above, before] = [margin(height, top), margin(width, left)]
    const wide = p.pad(images, [0, above, before, 0], [0, margin(height, bottom), margin(width, right), 0], 0)
    const shifted = range(height * width).map((t) => {
      const [r, s] = [Math.floor(t / width), t % width]
      return p.slice(wide, [0, above + top - r, before + left - s, t * inChannels], [batch, ...inputSize, inChannels])
    })
    return p.addAll(shifted)
  },
  turned: (p, layer, dy, { bases, pi }) => {
    const { batch, inChannels, outChannels, inputSize, kernelSize, numBases } = layer
    const size = product(kernelSize) * outChannels
    const U = p.matmul(pi(), p.reshape(turnRound(p, bases()), [numBases, size * inChannels]), false, false)
    const dx = p.matmul(columns(p, overGradient(layer), dy), p.reshape(U, [batch, size, inChannels]), false, false)
    return p.reshape(dx, [batch, ...inputSize, inChannels])
  },
  flipped: (p, layer, dy, { bases, pi }, { together = layer.batch }) => {
    const { batch, inChannels, outChannels, outputSize, stride, kernelSize, numBases } = layer
    const [height, width] = kernelSize
    const V = p.matmul(pi(), p.reshape(turnRound(p, bases()), [numBases, height * width * inChannels * outChannels]), false, false)
    const [rows, columns] = outputSize
    // Zeros between the gradient's pixels, whichever samples share one.
    const beside = channelsBeside(p, dy, together)
    const [groups, across] = [batch / together, together * outChannels]
    const apart = isOne(stride) ? beside : p.pad(p.reshape(beside, [groups, rows, 1, columns, 1, across]), [0, 0, 0, 0, 0, 0], [0, 0, stride[0] - 1, 0, stride[1] - 1, 0], 0)
    const spread = p.reshape(apart, [groups, rows * stride[0], columns * stride[1], across])
    const around = { stride: one, dilation: one, padding: flippedPadding(layer) }
    const named = paddingOf(around, kernelSize)
    const filters = sideBySideKernels(p, V, together, [...kernelSize, outChannels], inChannels)
    return grouped(p, spread, named ? undefined : around, filters, one, named ?? 'VALID')
  },
}

/** dV [B, T I O], in the order of `kernelGradOrders`. */
export const kernelGradForms: { readonly [F in KernelGradForm]: (p: ProgramPrimitives, layer: DynamicLayer, x: TfValue, dy: TfValue, form: Form) => TfValue } = {
  loop: (p, layer, x, dy, form) => {
    const { batch, inChannels, outChannels, stride, kernelSize } = layer
    // See the filter gradient in conv.ts.
    if (stride[0] !== stride[1]) return kernelGradForms.columns(p, layer, x, dy, form)
    const padding = paddingOf({ ...layer, dilation: one }, kernelSize)
    const images = p.split(padding ? x : padded(p, x, layer), batch)
    const grads = p.split(dy, batch)
    const filterShape = [...kernelSize, inChannels, outChannels]
    const all = images.map((image, b) => p.conv2dFilterGrad(image, nth(grads, b), filterShape, stride, padding ?? 'VALID'))
    return p.reshape(p.pack(all), [batch, product(filterShape)])
  },
  grouped: (p, layer, x, dy, form) => {
    const { batch, inChannels, outChannels, stride, kernelSize } = layer
    if (stride[0] !== stride[1]) return kernelGradForms.columns(p, layer, x, dy, form)
    const { together = batch } = form
    const padding = paddingOf({ ...layer, dilation: one }, kernelSize)
    const beside = channelsBeside(p, x, together)
    const images = p.split(padding ? beside : padded(p, beside, layer), batch / together)
    const grads = p.split(channelsBeside(p, dy, together), batch / together)
    const filterShape = [...kernelSize, inChannels, together * outChannels]
    const all = p.pack(images.map((image, g) => p.conv2dFilterGrad(image, nth(grads, g), filterShape, stride, padding ?? 'VALID')))
    const lead = product(kernelSize) * inChannels
    return p.reshape(p.transpose(p.reshape(all, [batch / together, lead, together, outChannels]), [0, 2, 1, 3]), [batch, lead * outChannels])
  },
  columns: (p, layer, x, dy) => {
    const { batch, inChannels, outChannels, outputSize, kernelSize } = layer
    const rows = p.reshape(dy, [batch, product(outputSize), outChannels])
    return p.reshape(p.matmul(columns(p, layer, x), rows, true, false), [batch, product(kernelSize) * inChannels * outChannels])
  },
  turned: (p, layer, x, dy) => {
    const { batch, inChannels, outChannels, inputSize, kernelSize } = layer
    const rows = p.reshape(x, [batch, product(inputSize), inChannels])
    return p.reshape(p.matmul(columns(p, overGradient(layer), dy), rows, true, false), [batch, product(kernelSize) * outChannels * inChannels])
  },
  rows: (p, layer, x, dy) => {
    const { batch, inChannels, outChannels, outputSize, kernelSize } = layer
    const [height, width] = kernelSize
    const image = padded(p, x, layer)
    const tall = nth(image.shape, 1)
    const pixels = tall * outputSize[1]
    const shifts = range(width).map((s) => p.slice(image, [0, 0, s, 0], [batch, tall, outputSize[1], inChannels]))
    const moved = range(height).map((r) => p.pad(dy, [0, r, 0, 0], [0, height - 1 - r, 0, 0], 0))
    const X = p.reshape(p.concat(shifts, 3), [batch, pixels, width * inChannels])
    const Y = p.reshape(p.concat(moved, 3), [batch, pixels, height * outChannels])
    return p.reshape(p.matmul(X, Y, true, false), [batch, width * inChannels * height * outChannels])
  },
}

/** An order of the bases: from [K, kh, kw, I, O], and back. */
export interface BasesOrder {
  readonly to: (p: ProgramPrimitives, bases: TfValue) => TfValue
  readonly from: (p: ProgramPrimitives, bases: TfValue) => TfValue
}

const asTheyAre: BasesOrder = { to: (_, bases) => bases, from: (_, bases) => bases }

/** In which order each form gives the gradients of kernels. */
export const kernelGradOrders: { readonly [F in KernelGradForm]: BasesOrder } = {
  loop: asTheyAre,
  grouped: asTheyAre,
  columns: asTheyAre,
  // [K, kw, I, kh, O]
  rows: { to: (p, bases) => p.transpose(bases, [0, 2, 3, 1, 4]), from: (p, bases) => p.transpose(bases, [0, 3, 1, 2, 4]) },
  turned: { to: turnRound, from: turnRound },
}

// [K, kh, kw, I, O] turned round, [K, kh, kw, O, I], and back.
function turnRound(p: ProgramPrimitives, bases: TfValue): TfValue {
  return p.transpose(p.reverse(bases, [1, 2]), [0, 1, 2, 4, 3])
}

// The convolution of dY, with kernels turned round, that gives dx.
function overGradient(layer: DynamicLayer): DynamicLayer {
  const { inChannels, outChannels, inputSize, outputSize } = layer
  return { ...layer, inChannels: outChannels, outChannels: inChannels, inputSize: outputSize, outputSize: inputSize, stride: one, padding: flippedPadding(layer) }
}

// The images whose gradient TensorFlow gives: as they are where it has a name for their padding, or inside it.
function wholeSize({ inputSize, stride, padding, kernelSize }: DynamicLayer): { readonly size: Size2d; readonly start: Size2d; readonly padding: 'VALID' | 'SAME' } {
  const [top, bottom, left, right] = padding
  const named = paddingOf({ stride, padding, dilation: one }, kernelSize)
  if (named) return { size: inputSize, start: [0, 0], padding: named }
  return { size: [inputSize[0] + top + bottom, inputSize[1] + left + right], start: [top, left], padding: 'VALID' }
}

// col [B, P Q, T I]. With steps TensorFlow's own patches are faster than strided slices.
function columns(p: ProgramPrimitives, layer: DynamicLayer, x: TfValue): TfValue {
  const { batch, inChannels, outputSize, stride, kernelSize } = layer
  const [height, width] = kernelSize
  const image = padded(p, x, layer)
  const shape = [batch, product(outputSize), height * width * inChannels]
  if (!isOne(stride)) {
    const patchAttrs = {
      T: attr.type('float32'),
      ksizes: attr.ints([1, ...kernelSize, 1]),
      strides: attr.ints([1, ...stride, 1]),
      rates: attr.ints([1, 1, 1, 1]),
      padding: attr.string('VALID'),
    }
    return p.reshape(p.graph.one('ExtractImagePatches', [image], patchAttrs, 'float32', [batch, ...outputSize, height * width * inChannels]), shape)
  }
  const taps = range(height * width).map((t) => p.slice(image, [0, Math.floor(t / width), t % width, 0], [batch, ...outputSize, inChannels]))
  return p.reshape(p.concat(taps, 3), shape)
}

// One convolution for every c samples of x [B / c, H, W, c I], over filters [B / c, kh, kw, I, c O].
function grouped(p: ProgramPrimitives, x: TfValue, around: Pick<DynamicLayer, 'padding'> | undefined, filters: TfValue, stride: Size2d, padding: 'VALID' | 'SAME'): TfValue {
  const images = p.split(around ? padded(p, x, around) : x, nth(x.shape, 0))
  const together = nth(x.shape, 3) / nth(filters.shape, 3)
  return channelsApart(p, p.concat(p.unpack(filters).map((filter, g) => p.conv2d(nth(images, g), filter, stride, one, padding)), 0), together)
}

// [B, H, W, C] as [B / c, H, W, c C], and back.
function channelsBeside(p: ProgramPrimitives, x: TfValue, together: number): TfValue {
  const [batch, height, width, channels] = four(x.shape)
  return p.reshape(sideBySide(p, x, together), [batch / together, height, width, together * channels])
}

function channelsApart(p: ProgramPrimitives, y: TfValue, together: number): TfValue {
  const [groups, height, width, channels] = four(y.shape)
  return apart(p, p.reshape(y, [groups, height, width * together, channels / together]), together)
}

// V [B, T I O] as filters [B / c, kh, kw, I, c O].
function sideBySideKernels(p: ProgramPrimitives, V: TfValue, together: number, lead: readonly number[], channels: number): TfValue {
  const groups = nth(V.shape, 0) / together
  const apart = p.reshape(V, [groups, together, product(lead), channels])
  return p.reshape(p.transpose(apart, [0, 2, 1, 3]), [groups, ...lead, together * channels])
}
