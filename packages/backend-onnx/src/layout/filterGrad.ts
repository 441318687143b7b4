// Gradients of blocked convolutions by their filters, in four forms. In all, dW[o, i, u, v] is the sum over samples and
// output pixels (p, q) of x[i, p sh + u dh - top, q sw + v dw - left] dy[o, p, q].
//
// - split: put the row shifts on x and the column shifts on dY, and one product for each v gives kh taps:
//     A[(p, c), (u, i)] = x[i, p sh + u dh - top, c],   D_v[(p, c), o] = dy[o, p, q] where q sw + v dw - left = c,
//   zero outside. The product over pixels is itself a blocked 1x1 convolution, with the K = P W pixels as input channels
//   and a group for every sample: D_v, blocked over o with pixels in order, is its kernel [O/b, K/b, b, b] as it lies, and
//   its images are A blocked over pixels, [K/b, (u, i), b]. D_v is a depthwise convolution of dY with a single 1. That
//   beats the engine's matrix product by a fifth, and moves kh I + kw O numbers a pixel instead of kh kw I + O.
// - im2col, with a stride along the row, where most of D_v would be zeros: dY as plain rows times col[(p, q), (u, v, i)].
// - on small maps the batch joins the pixels in a single matrix product, from channels-last x and dY.
// - Winograd, for wide static layers (winograd.ts).
// The engine's product copies a transposed operand slowly, so a wide one is never transposed. Zero rows come by Concat: Pad
// runs on one thread.

import { hostTensor, sizeOf } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { columnShifts, type GatherIndex, im2colPixels, pixelBlocks, pixelRuns, rowShiftPixels, rowShifts, shiftWalk } from './indices.ts'
import { type BlockedConv, conv, filled, indices, pointwise, reorderInput } from './nchwc.ts'
import type { ConvCase } from './support.ts'
import { kernelOrder } from './views.ts'
import { suitsWinograd, winograd } from './winograd.ts'

/** The images of one convolution, in the orders that the forms read; each is made when it is first asked for. */
export interface FilterGradSources {
  /** x as plain [N, I, H, W]. */
  xPlain(): string
  /** x blocked; undefined where it is plain (a stem's). */
  xBlocked(): string | undefined
  /** x as [N, H, W, I]. */
  xLast(): string
  /** dY as plain [N, O, P, Q]. */
  dyPlain(): string
  /** dY as [N, P, Q, O]. */
  dyLast(): string
  /** dY blocked. */
  dyBlocked(): string
}

/** The order of the axes of a filter gradient: taps u, v; channels in blocks (O, I) and within one (o, i). */
export type TapOrder = 'IiuvOo' | 'uIivOo' | 'uvIiOo' | 'OouvIi' | 'vOuIio'

/** A filter gradient, its axes in `order`, cut along the first of them where there are several pieces. */
export interface FilterGrad {
  /** Each [samples or 1, numbers of one kernel / pieces]. */
  readonly pieces: readonly string[]
  readonly order: TapOrder
}

/** From this height on each sample has its own product in a static gradient; below, the batch joins the pixels. */
const leastHeightPerSample = 16

/**
 * A kernel gradient for every sample: pieces [N, ...]. (`c` has no groups: they are samples. See `withoutGroups`.)
 */
export function filterGradPerSample(model: ModelBuilder, c: ConvCase, from: FilterGradSources, block: number): FilterGrad {
  const { batch, inChannels, outChannels, rows, columns } = c
  const length = inChannels * outChannels * rows.kernel * columns.kernel
  if (columns.stride > 1) {
    const dy = model.reshape(from.dyPlain(), [batch, outChannels, rows.output * columns.output])
    return { pieces: [model.reshape(model.op('MatMul', [dy, im2col(model, c, from)]), [batch, length])], order: 'OouvIi' }
  }
  const pixels = rows.output * columns.input
  if (pixels % block !== 0) {
    const product = model.op('MatMul', [shiftedRows(model, c, from), shiftedGrads(model, c, from)])
    return { pieces: [model.reshape(product, [batch, length])], order: 'IiuvOo' }
  }
  const a = model.reshape(pixelBlockedImages(model, c, from, block), [1, batch * pixels, 1, rows.kernel * inChannels])
  const pieces = Array.from({ length: columns.kernel }, (_, v) => {
    const d = model.reshape(shiftedBlocks(model, c, from.dyBlocked(), v, block), [batch * outChannels, pixels, 1, 1])
    return model.reshape(conv(model, a, d, { ...pointwise, groups: batch }), [batch, length / columns.kernel])
  })
  return { pieces, order: 'vOuIio' }
}

/** The filter gradient of the whole batch: pieces [1, ...]. */
export function filterGrad(model: ModelBuilder, c: ConvCase, from: FilterGradSources, block: number): FilterGrad {
  const { batch, inChannels, outChannels, rows, columns } = c
  if (suitsWinograd(c)) return { pieces: [winograd(model, c, from.xLast(), from.dyLast())], order: 'uvIiOo' }
  if (rows.output >= leastHeightPerSample || inChannels < block) {
    const { pieces, order } = filterGradPerSample(model, c, from, block)
    return { pieces: pieces.map((piece) => model.sum(piece, [0], true)), order }
  }
  const length = inChannels * outChannels * rows.kernel * columns.kernel
  const together = (name: string, pixels: number, width: number): string => model.reshape(name, [batch * pixels, width])
  const gemm = (a: string, d: string): string => model.reshape(model.op('Gemm', [a, d], { transA: 1 }), [1, length])
  if (columns.stride > 1) {
    const pixels = rows.output * columns.output
    const a = together(im2col(model, c, from), pixels, rows.kernel * columns.kernel * inChannels)
    return { pieces: [gemm(a, together(from.dyLast(), pixels, outChannels))], order: 'uvIiOo' }
  }
  const pixels = rows.output * columns.input
  const a = together(shiftedPixels(model, c, from), pixels, rows.kernel * inChannels)
  return { pieces: [gemm(a, together(shiftedGrads(model, c, from), pixels, columns.kernel * outChannels))], order: 'uIivOo' }
}

/** The kernel gradient of a depthwise convolution for every sample, in kernel layout: [N, C kh kw]. */
export function depthwiseFilterGrad(model: ModelBuilder, c: ConvCase, walk: Omit<BlockedConv, 'groups'>, x: string, dy: string): string {
  const { batch, inChannels: channels, rows, columns } = c
  const groups = batch * channels
  const images = model.reshape(x, [1, groups, rows.input, columns.input])
  const kernels = model.reshape(dy, [groups, 1, rows.output, columns.output])
  return model.reshape(conv(model, images, kernels, { ...walk, groups }), [batch, channels * rows.kernel * columns.kernel])
}

/** A filter gradient (of `count` kernels) in kernel layout: [count, numbers of one kernel]. */
export function tapsToKernel(model: ModelBuilder, { pieces, order }: FilterGrad, count: number, c: ConvCase, block: number): string {
  const { sizes, kernel } = axesOf(c, count, block)
  const cut = pieces.map((piece) => model.reshape(piece, [count, 1, sizeOf(sizes(order.split(''))) / pieces.length]))
  const axes = ['n', ...order.split('')]
  const whole = model.reshape(model.concat(cut, 1), sizes(axes))
  return model.reshape(model.transpose(whole, kernel.map((axis) => axes.indexOf(axis))), [count, sizeOf(sizes(order.split('')))])
}

/** Kernels in kernel layout, in the order and the pieces of `like`: each [count, ...]. */
export function kernelToTaps(model: ModelBuilder, name: string, like: FilterGrad, count: number, c: ConvCase, block: number): readonly string[] {
  const { sizes, kernel } = axesOf(c, count, block)
  const parts = like.pieces.length
  const [first = '', ...rest] = like.order.split('')
  const axes = parts > 1 ? [first, 'n', ...rest] : ['n', first, ...rest]
  const taps = model.transpose(model.reshape(name, sizes(kernel)), axes.map((axis) => kernel.indexOf(axis)))
  const length = sizeOf(sizes(like.order.split(''))) / parts
  if (parts === 1) return [model.reshape(taps, [count, length])]
  return model.ops('Split', [model.reshape(taps, [parts * count, length])], { axis: 0 }, parts)
}

// The axes of kernels: their sizes by letter (n counts kernels), and their order in kernel layout.
function axesOf(c: ConvCase, count: number, block: number): { readonly sizes: (axes: readonly string[]) => readonly number[]; readonly kernel: readonly string[] } {
  const [kh, kw] = [c.rows.kernel, c.columns.kernel]
  const blockIn = kernelOrder([c.outChannels, c.inChannels, kh, kw], block) === 'io' ? block : 1
  const table: Readonly<Record<string, number>> = { n: count, u: kh, v: kw, I: c.inChannels / blockIn, i: blockIn, O: c.outChannels / block, o: block }
  return { sizes: (axes) => axes.map((axis) => table[axis] ?? 1), kernel: ['n', 'O', 'I', 'u', 'v', 'i', 'o'] }
}

// The operands of the products.

// A of the split form, blocked over pixels: [N, K/b, (u, i), b].
function pixelBlockedImages(model: ModelBuilder, c: ConvCase, from: FilterGradSources, block: number): string {
  const { batch, inChannels, rows, columns } = c
  const pixels = rows.input * columns.input
  const x = from.xBlocked()
  if (x !== undefined && columns.input % block === 0) {
    // A block of channels of the image, [pixels, b], reordered as if the pixels were channels: [pixels/b, b of I, b pixels].
    const images = (batch * inChannels) / block
    const turned = reorderInput(model, model.reshape(x, [images, pixels, 1, block]))
    const tiles = (inChannels * pixels) / block ** 2
    return take(model, model.reshape(turned, [batch, tiles, block * block]), [batch, tiles, block * block], pixelBlocks(rows, columns, inChannels / block, block))
  }
  // Runs of pixels that stay together in rows and in blocks.
  const run = greatestCommonDivisor(columns.input, block)
  const runs = (inChannels * pixels) / run
  return take(model, model.reshape(from.xPlain(), [batch, runs, run]), [batch, runs, run], pixelRuns(rows, columns, inChannels, block, run))
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

// A of the split form for a matrix product, per sample: plain x by whole rows, [N, I kh, P W].
function shiftedRows(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const [rows, width] = [c.rows, c.columns.input]
  const x = model.reshape(from.xPlain(), [c.batch * c.inChannels, rows.input, width])
  const taken = take(model, x, [c.batch * c.inChannels, rows.input, width], rowShifts(rows))
  return model.reshape(taken, [c.batch, c.inChannels * rows.kernel, rows.output * width])
}

// A of the split form with pixels first: [N, P W, kh I].
function shiftedPixels(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const pixels = c.rows.input * c.columns.input
  const x = images(model, from.xLast(), c.batch, pixels, c.inChannels)
  const taken = take(model, x, [c.batch, pixels, c.inChannels], rowShiftPixels(c.rows, c.columns))
  return model.reshape(taken, [c.batch, c.rows.output * c.columns.input, c.rows.kernel * c.inChannels])
}

// D_v, blocked [N, O, P, W].
function shiftedBlocks(model: ModelBuilder, c: ConvCase, dy: string, v: number, block: number): string {
  const { taps, at, before, after } = shiftWalk(c.columns, v)
  if (taps === 1 && before === 0 && after === 0) return dy
  // Depthwise kernels [O/b, 1, taps, b], the same for every channel: 1 at tap `at`.
  const one = Float32Array.from({ length: c.outChannels * taps }, (_, i) => Number(Math.floor(i / block) % taps === at))
  const weight = model.constant(hostTensor('float32', [c.outChannels, 1, 1, taps], one))
  return conv(model, dy, weight, { kernelSize: [1, taps], stride: [1, 1], pads: [0, before, 0, after], dilation: [1, 1], groups: c.outChannels })
}

// D of the split form for a matrix product: [N, P W, kw O].
function shiftedGrads(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const pixels = c.rows.output * c.columns.output
  const dy = images(model, from.dyLast(), c.batch, pixels, c.outChannels)
  const taken = take(model, dy, [c.batch, pixels, c.outChannels], columnShifts(c.rows, c.columns))
  return model.reshape(taken, [c.batch, c.rows.output * c.columns.input, c.columns.kernel * c.outChannels])
}

// col of im2col: [N, P Q, kh kw I].
function im2col(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const pixels = c.rows.input * c.columns.input
  const x = images(model, from.xLast(), c.batch, pixels, c.inChannels)
  const taken = take(model, x, [c.batch, pixels, c.inChannels], im2colPixels(c.rows, c.columns))
  return model.reshape(taken, [c.batch, c.rows.output * c.columns.output, c.rows.kernel * c.columns.kernel * c.inChannels])
}

function images(model: ModelBuilder, name: string, batch: number, pixels: number, channels: number): string {
  return model.reshape(name, [batch, pixels, channels])
}

// Gather along axis 1 of `data` [A, rows, C], to which a zero row is appended where an index asks for it.
function take(model: ModelBuilder, data: string, shape: readonly [number, number, number], index: GatherIndex): string {
  const [outer, rows, inner] = shape
  if (index.length === rows && index.every((v, i) => v === i)) return data
  const padded = index.includes(rows) ? model.concat([data, filled(model, 0, [outer, 1, inner])], 1) : data
  return model.op('Gather', [padded, indices(model, index)], { axis: 1 })
}
