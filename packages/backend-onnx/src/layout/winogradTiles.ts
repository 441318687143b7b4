// A 3x3 convolution with stride 1 of blocked images by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2016,
// arXiv:1509.09308): over tiles of 2x2 outputs, with d the 4x4 window of x that a tile reads,
//
//   y = A^T [sum over input channels of (G w G^T) o (B^T d B)] A,    o element by element,
//
// 16 multiplications a tile, input and output channel instead of 36. For each of the 16 places the sum is a product of
// matrices over [tiles, channels], and that is a blocked 1x1 convolution with the tiles as pixels, at a rate that the engine's
// matrix product does not reach: one with 16 groups for all samples (static), or one for each place with a group for each
// sample (a kernel for every sample).
//
// B^T has two numbers, 1 or -1, in each row, so a place of B^T d B is a depthwise convolution of 2x2 taps with stride 2.
//
//                      static                             a kernel for every sample
//   x                  [N, C/b, H, W, b] turned to        as it lies
//                      [C/b, N, H, W, b]
//   V  of a place      [C/b, N, H/2, W/2, b]              [N, C/b, H/2, W/2, b]
//   M  of a place      [O/b, N, H/2, W/2, b]              [N, O/b, H/2, W/2, b]
//   Y                  [2, 2, M of a place], a product of M [16, ..] with the Kronecker square of A^T
//   y                  [N, O/b, H, W, b], a transposition (and a cut, where H or W is odd)
//
// Static, it runs in chunks of samples whose V stays in the cache. With a kernel for every sample, what must stay in the
// cache are the mixed kernels U_n = sum_k pi_nk U_k (G w G^T is linear in w): they are mixed place by place, and used before
// the next place is mixed, because the engine runs what one input of Concat needs before what the next one does.
//
// A bias goes in at place (1, 1) alone: A^T E A is 1 everywhere when E is 1 there and 0 elsewhere.

import type { ModelBuilder } from '../model.ts'
import { kroneckerSquare } from './kronecker.ts'
import { conv, type Epilogue, filled, finish, pointwise, tapKernel } from './nchwc.ts'
import type { ConvCase } from './support.ts'

/** How many bytes V of one chunk may have. */
const chunkBytes = 16 * 2 ** 20

/** Rows of the kernel's transform: [16] places, (1, 1) is the sixth. */
export const tilePlaces = 16
const biasPlace = 5

// The 1-D transforms of F(2, 3).
const kernelTransform = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]] // prettier-ignore
const outputTransform = [[1, 1, 1, 0], [0, 1, -1, -1]] // prettier-ignore
// The rows of B^T: where the first number stands, how far behind it the second one, and both.
const inputTaps = [
  { first: 0, apart: 2, taps: [1, -1] },
  { first: 1, apart: 1, taps: [1, 1] },
  { first: 1, apart: 1, taps: [-1, 1] },
  { first: 1, apart: 2, taps: [1, -1] },
] as const

/** U of every place, from `count` kernels [O, I, 3, 3] in kernel layout: [16, count O I]. */
export function tileKernels(model: ModelBuilder, kernels: string, count: number, c: ConvCase, block: number): string {
  const blocks = (count * c.outChannels * c.inChannels) / block ** 2
  const transformed = model.op('MatMul', [kroneckerSquare(model, kernelTransform), model.reshape(kernels, [blocks, 9, block * block])])
  return model.transpose(transformed, [1, 0, 2])
}

/** The convolution of blocked `x` by U from `tileKernels` of one kernel, blocked. */
export function convByTiles(model: ModelBuilder, c: ConvCase, x: string, kernels: string, block: number, extra: Epilogue = {}): string {
  const samples = Math.max(1, Math.min(c.batch, Math.floor(chunkBytes / (4 * tilePlaces * tilesOf(c) * c.inChannels))))
  const weight = model.reshape(kernels, [tilePlaces * c.outChannels, c.inChannels, 1, 1])
  const bias = extra.bias === undefined ? undefined : biasOfPlaces(model, extra.bias, c.outChannels)
  const parts: string[] = []
  for (let first = 0; first < c.batch; first += samples) {
    const some = { ...c, batch: Math.min(samples, c.batch - first) }
    const part = some.batch === c.batch ? x : model.slice(x, [first], [first + some.batch], [0])
    parts.push(chunk(model, some, part, weight, block, bias))
  }
  return finish(model, model.concat(parts, 0), c.outChannels, extra)
}

/**
 * The same with a kernel for every sample: `kernels` gives U of a place as [N, O I], blocked; the bias is [N O], the sum
 * and the result blocked [N, O, H, W].
 */
export function convByTilesPerSample(model: ModelBuilder, c: ConvCase, x: string, kernels: (place: number) => string, block: number, extra: Epilogue = {}): string {
  const { batch, inChannels, outChannels } = c
  const [tileRows, tileColumns] = tilesAlong(c)
  const images = model.reshape(x, [(batch * inChannels) / block, block, c.rows.input, c.columns.input])
  const products = Array.from({ length: tilePlaces }, (_, place) => {
    const v = model.reshape(inputPlace(model, c, images, place, block), [1, batch * inChannels, tileRows, tileColumns])
    const weight = model.reshape(kernels(place), [batch * outChannels, inChannels, 1, 1])
    return conv(model, v, weight, { ...pointwise, groups: batch }, { bias: place === biasPlace ? extra.bias : undefined })
  })
  const y = outputs(model, c, model.concat(products, 0), [batch, outChannels / block], [0, 1], block)
  return finish(model, y, outChannels, extra)
}

function biasOfPlaces(model: ModelBuilder, bias: string, channels: number): string {
  return model.concat([filled(model, 0, [biasPlace * channels]), bias, filled(model, 0, [(tilePlaces - biasPlace - 1) * channels])], 0)
}

function chunk(model: ModelBuilder, c: ConvCase, x: string, weight: string, block: number, bias: string | undefined): string {
  const { batch, inChannels, outChannels, rows, columns } = c
  const inBlocks = inChannels / block
  const [tileRows, tileColumns] = tilesAlong(c)
  const byChannels = batch === 1 ? x : model.transpose(model.reshape(x, [batch, inBlocks, rows.input * columns.input * block]), [1, 0, 2])
  const images = model.reshape(byChannels, [inBlocks * batch, block, rows.input, columns.input])
  const transformed = Array.from({ length: tilePlaces }, (_, place) =>
    model.reshape(inputPlace(model, c, images, place, block), [1, batch * inBlocks * tileRows * tileColumns * block]),
  )
  const v = model.reshape(model.concat(transformed, 0), [1, tilePlaces * inChannels, batch * tileRows, tileColumns])
  const m = conv(model, v, weight, { ...pointwise, groups: tilePlaces }, { bias })
  return outputs(model, c, m, [outChannels / block, batch], [1, 0], block)
}

// B^T d B at one place, of images [.., b, H, W].
function inputPlace(model: ModelBuilder, { rows, columns }: ConvCase, images: string, place: number, block: number): string {
  const [row, column] = [inputTaps[place >> 2] ?? inputTaps[0], inputTaps[place & 3] ?? inputTaps[0]]
  // Tile a reads rows 2a - 1 + first and `apart` behind it.
  const pads = [1 - row.first, 1 - column.first, padBehind(row, rows.input), padBehind(column, columns.input)] as const
  const walk = { kernelSize: [2, 2], stride: [2, 2], pads, dilation: [row.apart, column.apart], groups: block } as const
  const taps = row.taps.flatMap((r) => column.taps.map((s) => r * s))
  return conv(model, images, tapKernel(model, [2, 2], taps, block), walk)
}

// y from M [16, leading axes, H/2, W/2, b]; `order` says where among the leading axes the samples and the channels stand.
function outputs(model: ModelBuilder, c: ConvCase, m: string, leading: readonly [number, number], order: readonly [number, number], block: number): string {
  const { batch, outChannels, rows, columns } = c
  const [tileRows, tileColumns] = tilesAlong(c)
  const tiles = model.op('MatMul', [kroneckerSquare(model, outputTransform), model.reshape(m, [tilePlaces, batch * outChannels * tileRows * tileColumns])])
  const y = model.transpose(model.reshape(tiles, [2, 2, ...leading, tileRows, tileColumns, block]), [2 + order[0], 2 + order[1], 4, 0, 5, 1, 6])
  const whole = model.reshape(y, [batch, outChannels / block, 2 * tileRows, 2 * tileColumns, block])
  const isWhole = rows.input === 2 * tileRows && columns.input === 2 * tileColumns
  return model.reshape(isWhole ? whole : model.slice(whole, [0, 0], [rows.input, columns.input], [2, 3]), [batch, outChannels, rows.input, columns.input])
}

function tilesAlong(c: ConvCase): readonly [rows: number, columns: number] {
  return [Math.ceil(c.rows.input / 2), Math.ceil(c.columns.input / 2)]
}

function tilesOf(c: ConvCase): number {
  const [rows, columns] = tilesAlong(c)
  return rows * columns
}

// The last tile, ceil(size / 2) - 1, reads up to row 2 (ceil(size / 2) - 1) - 1 + first + apart.
function padBehind({ first, apart }: (typeof inputTaps)[number], size: number): number {
  return Math.max(0, 2 * (Math.ceil(size / 2) - 1) + first + apart - size)
}
