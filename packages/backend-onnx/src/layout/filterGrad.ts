// Gradients of blocked convolutions by their filters, in four forms. In all, dW[o, i, u, v] is the sum over samples and
// output pixels (p, q) of x[i, p sh + u dh - top, q sw + v dw - left] dy[o, p, q].
//
// - split: put the row shifts on x and the column shifts on dY, then one product gives every tap:
//     A[(i, u), (p, c)] = x[i, p sh + u dh - top, c],   D[(p, c), (v, o)] = dy[o, p, q] where q sw + v dw - left = c,
//   zero outside. kh I + kw O numbers a pixel are copied instead of kh kw I + O, and the product is kh I x kw O, wide
//   enough for the matrix kernels. K is P W, so with a stride along the row most of D is zeros: then
// - im2col: A[(u, v, i), (p, q)] by one Gather, times dY.
// - Winograd F(3x3, 2x2) (Lavin and Gray 2016, arXiv:1509.09308), for wide static layers: over tiles of 2x2 outputs
//     dW = G^T [sum over tiles of (A dY A^T) o (B^T x B)] G,    2.25 times fewer multiplications,
//   in chunks of samples whose transformed maps stay in the cache.
// Per sample the first product is batched; a static gradient sums over the batch, or takes it into K on small maps.

import { hostTensor, sizeOf } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { columnShifts, type GatherIndex, im2colPixels, rowShiftPixels, rowShifts, winogradGrad, winogradInput } from './indices.ts'
import { filled, indices, microsoftDomain } from './nchwc.ts'
import type { ConvCase } from './support.ts'
import { kernelOrder } from './views.ts'

/** The images of one convolution, in the orders that the forms read; each is made when it is first asked for. */
export interface FilterGradSources {
  /** x as plain [N, I, H, W]. */
  xPlain(): string
  /** x as [N, H, W, I]. */
  xLast(): string
  /** dY as [N, P, Q, O]. */
  dyLast(): string
}

/** The order in which a form delivers the axes of dW. */
export type TapOrder = 'iuvo' | 'uivo' | 'uvio'

/** A filter gradient: [samples or 1, numbers of one kernel], its axes in `order`. */
export interface FilterGrad {
  readonly name: string
  readonly order: TapOrder
}

/** From this height on each sample has its own product in a static gradient; below, the batch joins the sum's axis. */
const leastHeightPerSample = 16
/** How many bytes of a transformed map a Winograd chunk may have: it should stay in the cache. */
const winogradChunkBytes = 2 * 2 ** 20

/** A kernel gradient for every sample: [N, O I kh kw]. */
export function filterGradPerSample(model: ModelBuilder, c: ConvCase, from: FilterGradSources): FilterGrad {
  const [rows, columns] = [c.rows, c.columns]
  const length = c.inChannels * c.outChannels * rows.kernel * columns.kernel
  if (columns.stride > 1) {
    const name = fused(model, im2col(model, c, from), images(model, from.dyLast(), c.batch, rows.output * columns.output, c.outChannels))
    return { name: model.reshape(name, [c.batch, length]), order: 'uvio' }
  }
  const name = model.op('MatMul', [shiftedRows(model, c, from), shiftedGrads(model, c, from)])
  return { name: model.reshape(name, [c.batch, length]), order: 'iuvo' }
}

/** The filter gradient of the whole batch: [1, O I kh kw]. */
export function filterGrad(model: ModelBuilder, c: ConvCase, from: FilterGradSources): FilterGrad {
  const [rows, columns] = [c.rows, c.columns]
  const length = c.inChannels * c.outChannels * rows.kernel * columns.kernel
  if (suitsWinograd(c)) return { name: winograd(model, c, from), order: 'uvio' }
  if (rows.output >= leastHeightPerSample || c.inChannels < 8) {
    const { name, order } = filterGradPerSample(model, c, from)
    return { name: model.sum(name, [0], true), order }
  }
  const [pixels, tail]: readonly [number, { readonly a: string; readonly d: string; readonly order: TapOrder }] =
    columns.stride > 1
      ? [rows.output * columns.output, { a: im2col(model, c, from), d: from.dyLast(), order: 'uvio' }]
      : [rows.output * columns.input, { a: shiftedPixels(model, c, from), d: shiftedGrads(model, c, from), order: 'uivo' }]
  const k = c.batch * pixels
  const [m, n] = columns.stride > 1 ? [rows.kernel * columns.kernel * c.inChannels, c.outChannels] : [rows.kernel * c.inChannels, columns.kernel * c.outChannels]
  const name = model.op('Gemm', [model.reshape(tail.a, [k, m]), model.reshape(tail.d, [k, n])], { transA: 1 })
  return { name: model.reshape(name, [1, length]), order: tail.order }
}

/** Kernels [count, ...] in `order` to kernel layout, [count, length] still. */
export function tapsToKernel(model: ModelBuilder, name: string, count: number, order: TapOrder, c: ConvCase, block: number): string {
  const { split, perm } = tapView(c, count, order, block)
  return model.reshape(model.transpose(model.reshape(name, split), perm), [count, sizeOf(split) / count])
}

/** Kernels in kernel layout to [count, ...] in `order`: the inverse of `tapsToKernel`. */
export function kernelToTaps(model: ModelBuilder, name: string, count: number, order: TapOrder, c: ConvCase, block: number): string {
  const { split, perm } = tapView(c, count, order, block)
  const physical = perm.map((p) => split[p] ?? 1)
  const inverse = perm.map((_, axis) => perm.indexOf(axis))
  return model.reshape(model.transpose(model.reshape(name, physical), inverse), [count, sizeOf(split) / count])
}

// [count, axes in `order`] with channels cut into blocks, and the permutation to [count, O/b, I/bi, kh, kw, bi, b].
function tapView(c: ConvCase, count: number, order: TapOrder, block: number): { readonly split: readonly number[]; readonly perm: readonly number[] } {
  const [kh, kw] = [c.rows.kernel, c.columns.kernel]
  const blockIn = kernelOrder([c.outChannels, c.inChannels, kh, kw], block) === 'io' ? block : 1
  const sizes = { u: { u: kh }, v: { v: kw }, i: { I: c.inChannels / blockIn, i: blockIn }, o: { O: c.outChannels / block, o: block } }
  const axes = [...order].flatMap((axis) => Object.entries(sizes[axis as keyof typeof sizes]))
  const names = axes.map(([name]) => name)
  return {
    split: [count, ...axes.map(([, size]) => size)],
    perm: [0, ...['O', 'I', 'u', 'v', 'i', 'o'].map((name) => names.indexOf(name) + 1)],
  }
}

// The operands of the products.

// A of the split form, per sample: plain x by whole rows, [N, I kh, P W].
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

// D of the split form: [N, P W, kw O].
function shiftedGrads(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const pixels = c.rows.output * c.columns.output
  const dy = images(model, from.dyLast(), c.batch, pixels, c.outChannels)
  const taken = take(model, dy, [c.batch, pixels, c.outChannels], columnShifts(c.rows, c.columns))
  return model.reshape(taken, [c.batch, c.rows.output * c.columns.input, c.columns.kernel * c.outChannels])
}

// A of im2col: [N, P Q, kh kw I].
function im2col(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const pixels = c.rows.input * c.columns.input
  const x = images(model, from.xLast(), c.batch, pixels, c.inChannels)
  const taken = take(model, x, [c.batch, pixels, c.inChannels], im2colPixels(c.rows, c.columns))
  return model.reshape(taken, [c.batch, c.rows.output * c.columns.output, c.rows.kernel * c.columns.kernel * c.inChannels])
}

function images(model: ModelBuilder, name: string, batch: number, pixels: number, channels: number): string {
  return model.reshape(name, [batch, pixels, channels])
}

// Gather along axis 1 of `data` [A, rows, C], to which a zero row is appended where an index asks for it. Concat for that:
// Pad runs on one thread.
function take(model: ModelBuilder, data: string, shape: readonly [number, number, number], index: GatherIndex): string {
  const [outer, rows, inner] = shape
  if (index.length === rows && index.every((v, i) => v === i)) return data
  const padded = index.includes(rows) ? model.concat([data, filled(model, 0, [outer, 1, inner])], 1) : data
  return model.op('Gather', [padded, indices(model, index)], { axis: 1 })
}

// a^T b, batched.
function fused(model: ModelBuilder, a: string, b: string): string {
  return model.op('FusedMatMul', [a, b], { transA: 1 }, { domain: microsoftDomain })
}

// Winograd

function suitsWinograd(c: ConvCase): boolean {
  const axes = [c.rows, c.columns]
  const same = axes.every((a) => a.kernel === 3 && a.stride === 1 && a.dilation === 1 && a.before === 1 && a.input === a.output && a.input % 2 === 0)
  return same && c.inChannels >= 64 && c.outChannels >= 64
}

// B^T x B on 4x4 windows of x, A dY A^T on 2x2 tiles of dY, G^T [..] G on the sums: each a product with one matrix, the
// Kronecker square of the 1-D transform, with the window's places as rows. The 1-D transforms are those of F(2, 3) with
// the roles of filter and output exchanged.
const inputTransform = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]] // prettier-ignore
const gradTransform = [[1, 0], [1, 1], [1, -1], [0, -1]]
const resultTransform = [[1, 0.5, 0.5, 0], [0, 0.5, -0.5, 0], [0, 0.5, 0.5, 1]] // prettier-ignore

function kroneckerSquare(model: ModelBuilder, m: readonly (readonly number[])[]): string {
  const values = m.flatMap((a) => m.map((b) => a.flatMap((x) => b.map((y) => x * y)))).flat()
  const rows = m.length ** 2
  return model.constant(hostTensor('float32', [rows, values.length / rows], Float32Array.from(values)))
}

function winograd(model: ModelBuilder, c: ConvCase, from: FilterGradSources): string {
  const [height, width, inChannels, outChannels] = [c.rows.input, c.columns.input, c.inChannels, c.outChannels]
  const tiles = (height * width) / 4
  const perSample = 16 * tiles * Math.max(inChannels, outChannels) * 4
  const chunk = Math.max(1, Math.min(c.batch, Math.floor(winogradChunkBytes / perSample)))
  const padded = model.concat([images(model, from.xLast(), c.batch, height * width, inChannels), filled(model, 0, [c.batch, 1, inChannels])], 1)
  const x = model.reshape(padded, [c.batch * (height * width + 1), inChannels])
  const dy = model.reshape(from.dyLast(), [c.batch * height * width, outChannels])
  let sum: string | undefined
  for (let first = 0; first < c.batch; first += chunk) {
    const samples = Math.min(chunk, c.batch - first)
    const transform = (data: string, index: GatherIndex, places: number, channels: number, matrix: readonly (readonly number[])[]): string => {
      const windows = model.reshape(model.op('Gather', [data, indices(model, index)], { axis: 0 }), [places, samples * tiles * channels])
      return model.reshape(model.op('MatMul', [kroneckerSquare(model, matrix), windows]), [16, samples * tiles, channels])
    }
    const v = transform(x, winogradInput(height, width, samples, first), 16, inChannels, inputTransform)
    const e = transform(dy, winogradGrad(height, width, samples, first), 4, outChannels, gradTransform)
    const part = fused(model, v, e)
    sum = sum === undefined ? part : model.op('Add', [sum, part])
  }
  const result = model.op('MatMul', [kroneckerSquare(model, resultTransform), model.reshape(sum ?? '', [16, inChannels * outChannels])])
  return model.reshape(result, [1, 9 * inChannels * outChannels])
}
