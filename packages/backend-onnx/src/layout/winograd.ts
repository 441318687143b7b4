// The filter gradient of a 3x3 convolution with stride 1 by Winograd's minimal filtering F(3x3, 2x2) (Lavin and Gray 2016,
// arXiv:1509.09308), with the roles of filter and output exchanged: over tiles of 2x2 outputs
//
//   dW = G^T [sum over tiles of (A dY A^T) o (B^T x B)] G,    o element by element for each pair of channels,
//
// 16 multiplications a tile instead of 36. For each of the 16 places the sum over tiles is a matrix product [I, tiles] x
// [tiles, O]. It runs in chunks of samples whose transformed maps stay in the cache.
//
// In vain: the 16 products as a blocked 1x1 convolution with the tiles as channels (as winogradConv.ts has its products). It
// takes 0.8 of their time, but the rows to gather are then one block of channels long, and a Gather of such short rows takes
// four times that of whole ones: 1033 instead of 860 ms for a step of a 64-128-256 net.

import type { ModelBuilder } from '../model.ts'
import { type GatherIndex, winogradGrad, winogradInput } from './indices.ts'
import { kroneckerSquare } from './kronecker.ts'
import { filled, indices, microsoftDomain } from './nchwc.ts'
import type { ConvCase } from './support.ts'

/** How many bytes of a transformed map a Winograd chunk may have: it should stay in the cache. */
const winogradChunkBytes = 2 * 2 ** 20

/** The index tables take 80 bytes a tile: of more tiles than this, megabytes of constants. */
const mostTiles = 50_000

/** Whether a filter gradient can take this form, and gains by it: enough channels pay for the transforms. */
export function suitsWinograd(c: ConvCase): boolean {
  const axes = [c.rows, c.columns]
  const same = axes.every((a) => a.kernel === 3 && a.stride === 1 && a.dilation === 1 && a.before === 1 && a.input === a.output && a.input % 2 === 0)
  const tiles = (c.batch * c.rows.input * c.columns.input) / 4
  return same && c.inChannels >= 64 && c.outChannels >= 64 && tiles <= mostTiles
}

// B^T x B on 4x4 windows of x, A dY A^T on 2x2 tiles of dY, G^T [..] G on the sums: each a product with one matrix, the
// Kronecker square of the 1-D transform, with the window's places as rows. The 1-D transforms are those of F(2, 3) with
// the roles of filter and output exchanged.
const inputTransform = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]] // prettier-ignore
const gradTransform = [[1, 0], [1, 1], [1, -1], [0, -1]]
const resultTransform = [[1, 0.5, 0.5, 0], [0, 0.5, -0.5, 0], [0, 0.5, 0.5, 1]] // prettier-ignore

/** The filter gradient [1, 9 I O], in the order u, v, i, o, from `x` [N, H, W, I] and `dy` [N, H, W, O]. */
export function winograd(model: ModelBuilder, c: ConvCase, x: string, dy: string): string {
  const [height, width, inChannels, outChannels] = [c.rows.input, c.columns.input, c.inChannels, c.outChannels]
  const tiles = (height * width) / 4
  const perSample = 16 * tiles * Math.max(inChannels, outChannels) * 4
  const chunk = Math.max(1, Math.min(c.batch, Math.floor(winogradChunkBytes / perSample)))
  const padded = model.concat([model.reshape(x, [c.batch, height * width, inChannels]), filled(model, 0, [c.batch, 1, inChannels])], 1)
  const xRows = model.reshape(padded, [c.batch * (height * width + 1), inChannels])
  const dyRows = model.reshape(dy, [c.batch * height * width, outChannels])
  let sum: string | undefined
  for (let first = 0; first < c.batch; first += chunk) {
    const samples = Math.min(chunk, c.batch - first)
    const transform = (data: string, index: GatherIndex, places: number, channels: number, matrix: readonly (readonly number[])[]): string => {
      const windows = model.reshape(model.op('Gather', [data, indices(model, index)], { axis: 0 }), [places, samples * tiles * channels])
      return model.reshape(model.op('MatMul', [kroneckerSquare(model, matrix), windows]), [16, samples * tiles, channels])
    }
    const v = transform(xRows, winogradInput(height, width, samples, first), 16, inChannels, inputTransform)
    const e = transform(dyRows, winogradGrad(height, width, samples, first), 4, outChannels, gradTransform)
    const part = model.op('FusedMatMul', [v, e], { transA: 1 }, { domain: microsoftDomain })
    sum = sum === undefined ? part : model.op('Add', [sum, part])
  }
  const result = model.op('MatMul', [kroneckerSquare(model, resultTransform), model.reshape(sum ?? '', [16, inChannels * outChannels])])
  return model.reshape(result, [1, 9 * inChannels * outChannels])
}
