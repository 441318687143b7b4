// A 3x3 convolution with stride 1 of blocked images by Winograd's minimal filtering in one direction, F(4, 3) over rows
// (Lavin and Gray 2016, arXiv:1509.09308): over tiles of 4 output rows, with d the 6 rows of x that a tile reads and w the 3
// rows of the kernel,
//
//   y = A^T [sum over input channels of (G w) o (B^T d)],
//
// where o, instead of a multiplication, is the convolution of a row of d by a row of w. So 6 convolutions with 1x3 taps make
// 4 rows that would take 12: half of the multiplications. In two directions (winogradTiles.ts) there are no fewer of them with
// tiles of 2x2, but then V and M are 4 times as large as the images; here 1.5 times. Of two directions with tiles of 4x4 the
// kernels would grow fourfold, where here they double.
//
//   V_i  [N, C/b, H/4, W, b]    a depthwise convolution with taps over rows and stride 4
//   M_i  [N, O/b, H/4, W, b]    V_i by U_i [O/b, C/b, 1, 3, b, b], U = G w
//   y_p  [N, O/b, H/4, W, b]    rows 4a + p, sums of the M_i
//   y    [N, O/b, H, W, b]      the four of them in turn (and a cut, where 4 does not divide H)
//
// The rows of A^T, with s = M1 + M2, d = M1 - M2, s' = M3 + M4 and d' = M3 - M4:
//
//   y_0 = M0 + s + s'     y_1 = d + 2 d'     y_2 = s + 4 s'     y_3 = d + 8 d' + M5
//
// M0 and M5 come last: their convolutions add the rest by themselves. A bias goes into M1 alone.

import { hostTensor } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { affine, conv, type Epilogue, filled, finish, tapKernel } from './nchwc.ts'
import type { ConvCase } from './support.ts'

/** How many kernels there are: the rows of G. */
export const rowPlaces = 6
/** Output rows of a tile. */
const step = 4

// The transforms for the points 0, 1, -1, 2, -2 and infinity.
const kernelTransform = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
] // prettier-ignore
// The rows of B^T: the first input row that is read, how far the taps lie apart, and the taps.
const inputTaps = [
  { first: 0, apart: 2, taps: [4, -5, 1] },
  { first: 1, apart: 1, taps: [-4, -4, 1, 1] },
  { first: 1, apart: 1, taps: [4, -4, -1, 1] },
  { first: 1, apart: 1, taps: [-2, -1, 2, 1] },
  { first: 1, apart: 1, taps: [2, -1, -2, 1] },
  // 4, -5, 1 at 1, 3 and 5: begun at 1 so that no row must be cut off.
  { first: 1, apart: 2, taps: [4, -5, 1] },
] as const

/** U of every place, from `count` kernels [O, I, 3, 3] in kernel layout: [6, count O I 3]. */
export function rowKernels(model: ModelBuilder, kernels: string, count: number, c: ConvCase, block: number): string {
  const blocks = (count * c.outChannels * c.inChannels) / block ** 2
  const matrix = model.constant(hostTensor('float32', [rowPlaces, 3], Float32Array.from(kernelTransform.flat())))
  const transformed = model.op('MatMul', [matrix, model.reshape(kernels, [blocks, 3, 3 * block * block])])
  return model.transpose(transformed, [1, 0, 2])
}

/**
 * The convolution of blocked `x` by U of each place, [groups, O I 3] blocked: one kernel for all samples, or a group for each
 * sample, whose bias is [N O] then.
 */
export function convByRows(model: ModelBuilder, c: ConvCase, x: string, kernels: (place: number) => string, block: number, perSample: boolean, extra: Epilogue = {}): string {
  const { batch, inChannels, outChannels, rows, columns } = c
  const tiles = Math.ceil(rows.input / step)
  const images = model.reshape(x, [(batch * inChannels) / block, block, rows.input, columns.input])
  const [samples, groups] = perSample ? [1, batch] : [batch, 1]
  const walk = { kernelSize: [1, 3], stride: [1, 1], pads: [0, 1, 0, 1], dilation: [1, 1], groups } as const
  const product = (place: number, epilogue: Epilogue = {}): string => {
    const v = model.reshape(inputPlace(model, c, images, place, block), [samples, groups * inChannels, tiles, columns.input])
    return conv(model, v, model.reshape(kernels(place), [groups * outChannels, inChannels, 1, 3]), walk, epilogue)
  }
  const all = groups * outChannels
  const scaled = (value: string, factor: number, epilogue: Epilogue): string => affine(model, value, all, filled(model, factor, [all]), epilogue)
  // What a sum adds stands in y's rows, not in those of a tile: then the activation must wait for it.
  const activation = extra.sum === undefined ? extra.activation : undefined

  const [m1, m2] = [product(1, { bias: extra.bias }), product(2)]
  const [s, d] = [model.op('Add', [m1, m2]), model.op('Sub', [m1, m2])]
  const [m3, m4] = [product(3), product(4)]
  const [s2, d2] = [model.op('Add', [m3, m4]), model.op('Sub', [m3, m4])]
  const y = [
    product(0, { sum: model.op('Add', [s, s2]), activation }),
    scaled(d2, 2, { sum: d, activation }),
    scaled(s2, 4, { sum: s, activation }),
    product(5, { sum: scaled(d2, 8, { sum: d }), activation }),
  ]
  const inTurn = model.concat(y.map((name) => model.reshape(name, [(batch * outChannels * tiles) / block, columns.input * block])), 1)
  const whole = model.reshape(inTurn, [batch, outChannels / block, step * tiles, columns.input, block])
  const result = model.reshape(rows.input === step * tiles ? whole : model.slice(whole, [0], [rows.input], [2]), [batch, outChannels, rows.input, columns.input])
  return extra.sum === undefined ? result : finish(model, result, outChannels, extra)
}

// B^T d at one place, of images [.., b, H, W]. Tile a reads rows 4a - 1 + first + apart j, the last one maybe beyond H.
function inputPlace(model: ModelBuilder, { rows }: ConvCase, images: string, place: number, block: number): string {
  const { first, apart, taps } = inputTaps[place] ?? inputTaps[0]
  const last = step * (Math.ceil(rows.input / step) - 1) - 1 + first + apart * (taps.length - 1)
  const pads = [1 - first, 0, Math.max(0, last - (rows.input - 1)), 0] as const
  const walk = { kernelSize: [taps.length, 1], stride: [step, 1], pads, dilation: [apart, 1], groups: block } as const
  return conv(model, images, tapKernel(model, [taps.length, 1], taps, block), walk)
}
