// A 3x3 convolution with stride 1 of blocked images by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2016,
// arXiv:1509.09308): over tiles of 2x2 outputs, with d the 4x4 window of x that a tile reads,
//
//   y = A^T [sum over input channels of (G w G^T) o (B^T d B)] A,    o element by element,
//
// 16 multiplications a tile, input and output channel instead of 36. For each of the 16 places the sum is a product of
// matrices over [tiles, channels], and that is a blocked 1x1 convolution with the tiles of the whole batch as pixels: one
// convolution with 16 groups, at a rate that the engine's matrix product does not reach.
//
// B^T has two numbers, 1 or -1, in each row, so a place of B^T d B is a depthwise convolution of 2x2 taps with stride 2.
// Images [N, C/b, H, W, b] are turned to [C/b, N, H, W, b] first, so that the batch lies among the pixels afterwards:
//
//   V  [16, C/b, N, H/2, W/2, b]    16 depthwise convolutions of [C/b N, b, H, W]
//   M  [16, O/b, N, H/2, W/2, b]    V by U [16, O/b, C/b, 1, 1, b, b], U = G w G^T
//   Y  [2, 2, O/b, N, H/2, W/2, b]  a product with the Kronecker square of A^T
//   y  [N, O/b, H, W, b]            a transposition (and a cut, where H or W is odd)
//
// It runs in chunks of samples whose V stays in the cache.

import { hostTensor } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { kroneckerSquare } from './kronecker.ts'
import { affine, conv, type Epilogue, filled, pointwise } from './nchwc.ts'
import type { ConvCase } from './support.ts'

/** How many bytes V of one chunk may have. */
const chunkBytes = 16 * 2 ** 20

// Measured on 2 cores with AVX-512, direct against this: 512@7 batch 8 10.4 and 7.7 ms, 256@14 10.1 and 6.0, 128@28 9.6 and
// 8.0; batch 64 512@4 24 and 15, 256@8 23 and 16, 128@16 22 to 27 and 21 to 22, 64@32 25 and 34.
const leastChannels = 256

/**
 * Smaller batches stay direct, although some of them gain too (above): U is held beside the kernels for as long as a program
 * for inference lives, 16/9 of their size again, and where a few images are wanted fast, memory counts.
 */
const leastBatch = 16

/** Below this many tiles, reading U (16/9 of the kernels) costs more than the multiplications that it saves. */
const leastTiles = 96

/** Whether a blocked convolution without groups can take this form, and gains by it. */
export function suitsWinogradConv(c: ConvCase): boolean {
  const same = [c.rows, c.columns].every((a) => a.kernel === 3 && a.stride === 1 && a.dilation === 1 && a.before === 1 && a.input === a.output && a.input > 2)
  return same && c.groups === 1 && Math.min(c.inChannels, c.outChannels) >= leastChannels && c.batch >= leastBatch && c.batch * tilesOf(c) >= leastTiles
}

function tilesOf(c: ConvCase): number {
  return Math.ceil(c.rows.input / 2) * Math.ceil(c.columns.input / 2)
}

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

/** U, from kernels [O, I, 3, 3] in kernel layout: [16 O, I, 1, 1] in kernel layout. */
export function winogradKernels(model: ModelBuilder, weight: string, outChannels: number, inChannels: number, block: number): string {
  const blocks = (outChannels * inChannels) / block ** 2
  const places = model.op('MatMul', [kroneckerSquare(model, kernelTransform), model.reshape(weight, [blocks, 9, block * block])])
  return model.reshape(model.transpose(places, [1, 0, 2]), [16 * outChannels, inChannels, 1, 1])
}

/** The convolution of blocked `x` by `kernels` from `winogradKernels`, blocked. */
export function winogradConv(model: ModelBuilder, c: ConvCase, x: string, kernels: string, block: number, extra: Epilogue = {}): string {
  const samples = Math.max(1, Math.min(c.batch, Math.floor(chunkBytes / (64 * tilesOf(c) * c.inChannels))))
  const parts: string[] = []
  for (let first = 0; first < c.batch; first += samples) {
    const some = { ...c, batch: Math.min(samples, c.batch - first) }
    const part = some.batch === c.batch ? x : model.slice(x, [first], [first + some.batch], [0])
    parts.push(chunk(model, some, part, kernels, block))
  }
  const y = model.concat(parts, 0)
  if (extra.bias === undefined && extra.activation === undefined) return extra.sum === undefined ? y : model.op('Add', [y, extra.sum])
  if (extra.bias === undefined && extra.sum === undefined && extra.activation === 'relu') return model.op('Relu', [y])
  return affine(model, y, c.outChannels, filled(model, 1, [c.outChannels]), extra)
}

function chunk(model: ModelBuilder, c: ConvCase, x: string, kernels: string, block: number): string {
  const { batch, inChannels, outChannels, rows, columns } = c
  const [height, width] = [rows.input, columns.input]
  const [tileRows, tileColumns] = [Math.ceil(height / 2), Math.ceil(width / 2)]
  const inBlocks = inChannels / block
  const outBlocks = outChannels / block
  const byChannels = batch === 1 ? x : model.transpose(model.reshape(x, [batch, inBlocks, height * width * block]), [1, 0, 2])
  const images = model.reshape(byChannels, [inBlocks * batch, block, height, width])
  const places = inputTaps.flatMap((row) =>
    inputTaps.map((column) => {
      // Tile a reads rows 2a - 1 + first and `apart` behind it.
      const pads = [1 - row.first, 1 - column.first, padBehind(row, height), padBehind(column, width)] as const
      const walk = { kernelSize: [2, 2], stride: [2, 2], pads, dilation: [row.apart, column.apart], groups: block } as const
      return model.reshape(conv(model, images, tapKernel(model, row.taps, column.taps, block), walk), [1, batch * inBlocks * tileRows * tileColumns * block])
    }),
  )
  const pixels = [batch * tileRows, tileColumns] as const
  const v = model.reshape(model.concat(places, 0), [1, 16 * inChannels, ...pixels])
  const m = conv(model, v, kernels, { ...pointwise, groups: 16 })
  const tiles = model.op('MatMul', [kroneckerSquare(model, outputTransform), model.reshape(m, [16, outChannels * pixels[0] * pixels[1]])])
  const y = model.transpose(model.reshape(tiles, [2, 2, outBlocks, batch, tileRows, tileColumns, block]), [3, 2, 4, 0, 5, 1, 6])
  const whole = model.reshape(y, [batch, outBlocks, 2 * tileRows, 2 * tileColumns, block])
  const cut = height === 2 * tileRows && width === 2 * tileColumns ? whole : model.slice(whole, [0, 0], [height, width], [2, 3])
  return model.reshape(cut, [batch, outChannels, height, width])
}

// The last tile, ceil(size / 2) - 1, reads up to row 2 (ceil(size / 2) - 1) - 1 + first + apart.
function padBehind({ first, apart }: (typeof inputTaps)[number], size: number): number {
  return Math.max(0, 2 * (Math.ceil(size / 2) - 1) + first + apart - size)
}

// A depthwise kernel [b, 1, 2, 2] in kernel layout, [kh, kw, b]: the same for every channel.
function tapKernel(model: ModelBuilder, rows: readonly number[], columns: readonly number[], block: number): string {
  const taps = rows.flatMap((r) => columns.map((s) => r * s))
  return model.constant(hostTensor('float32', [block, 1, 2, 2], Float32Array.from(taps.flatMap((t) => new Array<number>(block).fill(t)))))
}
