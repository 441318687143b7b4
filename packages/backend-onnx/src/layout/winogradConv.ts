// Which 3x3 convolutions run by Winograd's minimal filtering, and in which of its forms: over rows (winogradRows.ts) or over
// tiles (winogradTiles.ts). Static, or with a kernel for every sample: the transform of kernels is linear, so the bases are
// transformed and then mixed. Where the program only reads them, that happens once (prologue.ts).

import type { ModelBuilder } from '../model.ts'
import { mixedAt, type Mixtures, placeOf } from './convPerSample.ts'
import type { Epilogue } from './nchwc.ts'
import type { ConvCase } from './support.ts'
import { convByRows, rowKernels, rowPlaces } from './winogradRows.ts'
import { convByTiles, convByTilesPerSample, tileKernels, tilePlaces } from './winogradTiles.ts'

/** Over rows: F(4, 3), twice the kernels' numbers; over tiles: F(2x2, 3x3), 16/9 of them. */
export type WinogradForm = 'rows' | 'tiles'

/** What the kernels of a convolution are. */
export interface KernelUse {
  /** A kernel for every sample, mixed from bases. */
  readonly perSample: boolean
  /** Whether the program only reads them, so that they are transformed once and not in every run. */
  readonly onlyRead: boolean
}

// A layer in milliseconds, K = 4, on 2 cores with AVX-512 (of an AMD EPYC; of an Intel Xeon, whose memory is slower beside its
// arithmetic):
//
//                 static: direct    rows      tiles     dynamic: direct     rows       tiles
//   64@56 batch 8         9.8 5.0   7.6 4.7  12.9 9.6             9.9  4.7   7.6  4.6   12.2  7.1
//   128@28                9.4 5.0   6.2 3.6   8.2 4.4             9.5  4.9   6.6  4.1    8.3  5.1
//   256@14                9.3 5.2   7.4 4.2   7.0 3.7            11.0  6.3   9.9  5.9    8.3  5.6
//   512@7                10.8 6.7   8.4 5.5   8.1 4.3            16.6 12.0  24.2 14.4   13.7 11.3
//
// (The dynamic ones by mixing all kernels at once; in pieces, convPerSample.ts, the second machine takes 5.8 at 256@14 and 9.8 at
// 512@7.) Mixed kernels of one place that leave the cache cost more than they save: 512@4 batch 64, 67 MB, direct 64 and tiles
// 91. So do kernels that few tiles use, where a piece of the direct form (64 channels of the result) stays in the cache too: on
// the second machine, direct in pieces and by tiles, 256@8 batch 16 takes 5.2 and 6.7, 512@4 batch 16 takes 12 and 18. At 256@8
// batch 64 a piece has 38 MB, a place 17: there 21 and 22, and on the first machine direct (whole) 35 and tiles 27.
const mostMixedBytes = 16 * 2 ** 20
const leastTilesPerSample = 32
const pieceChannels = 64

// Below four samples, transformed bases take longer to read than they save. And kernels that the program changes must be
// transformed in every run: there only ordinary ones gain (batch 64, direct and tiles: 512@4 24 and 15, 256@8 23 and 16,
// 128@16 22 to 27 and 21 to 22, 64@32 25 and 34; a training step of a 64-128-256 net takes 0.95 of its time with rows where
// tiles do not gain, and 1.04 with mixed kernels in these forms).
const leastBatch = 4
const leastBatchChanging = 16
const leastChannels = { rows: 64, tiles: 256 } as const

/** Below this many tiles, reading U takes longer than the multiplications that it saves. */
const leastTilesChanging = 96

/** The form that a convolution gains by; undefined: none. */
export function winogradForm(c: ConvCase, { perSample, onlyRead }: KernelUse): WinogradForm | undefined {
  const fits = [c.rows, c.columns].every((a) => a.kernel === 3 && a.stride === 1 && a.dilation === 1 && a.before === 1 && a.input === a.output && a.input > 2)
  if (!fits || c.groups !== 1) return undefined
  const channels = Math.min(c.inChannels, c.outChannels)
  const tiles = Math.ceil(c.rows.input / 2) * Math.ceil(c.columns.input / 2)
  if (onlyRead ? c.batch < leastBatch : perSample || c.batch < leastBatchChanging || c.batch * tiles < leastTilesChanging) return undefined
  const form = channels >= leastChannels.tiles ? 'tiles' : channels >= leastChannels.rows ? 'rows' : undefined
  const mixedBytes = 4 * c.batch * c.inChannels * c.outChannels * (form === 'rows' ? 3 : 1)
  const pieceBytes = 4 * c.batch * c.inChannels * 9 * pieceChannels
  const byPieces = form === 'tiles' && tiles < leastTilesPerSample && pieceBytes <= mostMixedBytes
  return perSample && (mixedBytes > mostMixedBytes || byPieces) ? undefined : form
}

/** The convolution of blocked `x` by `kernels` [O, I, 3, 3] in kernel layout, blocked. */
export function winogradConv(model: ModelBuilder, form: WinogradForm, c: ConvCase, x: string, kernels: string, block: number, extra: Epilogue = {}): string {
  if (form === 'tiles') return convByTiles(model, c, x, tileKernels(model, kernels, 1, c, block), block, extra)
  const transformed = rowKernels(model, kernels, 1, c, block)
  return convByRows(model, c, x, (place) => placeOf(model, transformed, place), block, false, extra)
}

/**
 * The same with a kernel for every sample, the mixtures pi [N, K] of bases [K, O, I, 3, 3] in kernel layout; the bias is
 * [N O], the sum and the result blocked [N, O, H, W].
 */
export function winogradConvPerSample(model: ModelBuilder, form: WinogradForm, c: ConvCase, x: string, mixtures: Mixtures, block: number, extra: Epilogue = {}): string {
  const { bases, count } = mixtures
  const transformed = (form === 'tiles' ? tileKernels : rowKernels)(model, bases, count, c, block)
  const [places, numbers] = form === 'tiles' ? [tilePlaces, c.outChannels * c.inChannels] : [rowPlaces, c.outChannels * c.inChannels * 3]
  const kernels = mixedAt(model, { ...mixtures, bases: transformed }, c.batch, places, numbers)
  return form === 'tiles' ? convByTilesPerSample(model, c, x, kernels, block, extra) : convByRows(model, c, x, kernels, block, true, extra)
}
