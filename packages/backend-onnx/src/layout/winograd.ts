// The filter gradient of a 3x3 convolution with stride 1 by Winograd's minimal filtering F(3x3, 2x2) (Lavin and Gray 2016,
// arXiv:1509.09308), with the roles of filter and output exchanged: over tiles of 2x2 outputs
//
//   dW = G^T [sum over tiles of (A dY A^T) o (B^T x B)] G,    o element by element for each pair of channels,
//
// 16 multiplications a tile instead of 36. For each of the 16 places the sum over tiles t is a product of matrices, and that
// is a blocked 1x1 convolution with t as input channels, at a rate that the engine's matrix product does not reach:
//
//   V = B^T x B    [16, I/b, t/b, b of t, b of i], a kernel [I, t] as it lies: rows of b channels, gathered from blocked x
//   E = A dY A^T   [16, t/b, O, b of t], images of t channels and O pixels: pixels of dY, gathered, then reordered as if t
//                  were their channels (before the transform, which only adds places)
//   sum            [16, I/b, O, b of i], carried from chunk to chunk by the convolution itself
//
// It runs in chunks of samples whose transformed maps stay in the cache.

import { hostTensor } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { type GatherIndex, winogradGrad, winogradInput } from './indices.ts'
import { transposeBlocks } from './inputGrad.ts'
import { kroneckerSquare } from './kronecker.ts'
import { conv, indices, pointwise, reorderInput } from './nchwc.ts'
import type { ConvCase } from './support.ts'

/** How many bytes of a transformed map a Winograd chunk may have: it should stay in the cache. */
const winogradChunkBytes = 2 * 2 ** 20

/** Of more tiles than this the chunks would be hundreds of nodes. */
const mostTiles = 50_000

/** Whether a filter gradient (of whole blocks of channels) can take this form, and gains by it: enough channels pay for the transforms. */
export function suitsWinograd(c: ConvCase, block: number): boolean {
  const axes = [c.rows, c.columns]
  const same = axes.every((a) => a.kernel === 3 && a.stride === 1 && a.dilation === 1 && a.before === 1 && a.input === a.output && a.input % 2 === 0)
  const tiles = c.batch * tilesOf(c)
  const wide = Math.min(c.inChannels, c.outChannels) >= 64 && c.inChannels % block === 0 && c.outChannels % block === 0
  return same && wide && tiles <= mostTiles && tiles % block === 0
}

function tilesOf(c: ConvCase): number {
  return (c.rows.input * c.columns.input) / 4
}

// B^T x B on 4x4 windows of x, A dY A^T on 2x2 tiles of dY, G^T [..] G on the sums: each a product with one matrix, the
// Kronecker square of the 1-D transform, with the window's places as rows. The 1-D transforms are those of F(2, 3) with
// the roles of filter and output exchanged.
const inputTransform = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]] // prettier-ignore
const gradTransform = [[1, 0], [1, 1], [1, -1], [0, -1]]
const resultTransform = [[1, 0.5, 0.5, 0], [0, 0.5, -0.5, 0], [0, 0.5, 0.5, 1]] // prettier-ignore

/** The filter gradient [1, 9 I O], in the order u, v, I, O, i, o, from blocked `x` [N, I, H, W] and `dy` [N, O, H, W]. */
export function winograd(model: ModelBuilder, c: ConvCase, x: string, dy: string, block: number): string {
  const [height, width, inChannels, outChannels] = [c.rows.input, c.columns.input, c.inChannels, c.outChannels]
  const tiles = tilesOf(c)
  const samples = samplesOf(c, block)
  let sum: string | undefined
  for (let first = 0; first < c.batch; first += samples) {
    const some = Math.min(samples, c.batch - first)
    const part = (name: string): string => (some === c.batch ? name : model.slice(name, [first], [first + some], [0]))
    const rows = (name: string, channels: number): string => model.reshape(name, [(some * channels * height * width) / block, block])
    const take = (data: string, index: GatherIndex): string => model.op('Gather', [data, indices(model, index)], { axis: 0 })
    const transform = (matrix: readonly (readonly number[])[], name: string, channels: number): string =>
      model.op('MatMul', [kroneckerSquare(model, matrix), model.reshape(name, [matrix[0]?.length === 4 ? 16 : 4, some * tiles * channels])])
    const bordered = model.concat([rows(part(x), inChannels), zeroRow(model, block)], 0)
    const v = transform(inputTransform, take(bordered, winogradInput(height, width, some, inChannels / block)), inChannels)
    const pixels = take(rows(part(dy), outChannels), winogradGrad(height, width, some, outChannels / block))
    const byTile = reorderInput(model, model.reshape(pixels, [4, some * tiles, 1, outChannels]))
    const e = model.reshape(transform(gradTransform, byTile, outChannels), [1, 16 * some * tiles, 1, outChannels])
    sum = conv(model, e, model.reshape(v, [16 * inChannels, some * tiles, 1, 1]), { ...pointwise, groups: 16 }, { sum })
  }
  const taps = model.op('MatMul', [kroneckerSquare(model, resultTransform), model.reshape(sum ?? '', [16, inChannels * outChannels])])
  // [9, I/b, O/b, b of o, b of i]
  const count = (9 * inChannels * outChannels) / block ** 2
  return model.reshape(transposeBlocks(model, taps, count, block), [1, 9 * inChannels * outChannels])
}

// Samples of a chunk: as many as the cache holds, and a whole number of blocks of tiles.
function samplesOf(c: ConvCase, block: number): number {
  const perSample = 16 * tilesOf(c) * Math.max(c.inChannels, c.outChannels) * 4
  let unit = 1
  while ((unit * tilesOf(c)) % block !== 0) unit++
  return Math.max(1, Math.floor(winogradChunkBytes / perSample / unit)) * unit
}

function zeroRow(model: ModelBuilder, block: number): string {
  return model.constant(hostTensor('float32', [1, block], new Float32Array(block)))
}
