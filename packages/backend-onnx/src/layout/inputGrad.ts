// Gradients of blocked convolutions by their images (the derivations stand in indices.ts and support.ts).
//
// The weight must be turned: its channels exchanged, its taps reversed. In kernel layout (order io) that is a permutation
// of b x b blocks, one Gather, and a transposition inside each, a product with the identity (transA): 2.6 ms for
// 512x512x3x3, where a Transpose of the seven axes takes 8.6. (Exact for finite weights; a weight that is not finite makes
// its whole block NaN, as it makes the whole result.) Of bases and mixed kernels those are turned that are fewer.

import { hostTensor, sizeOf } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { type KernelBlocks, blockCount, type GatherIndex, residueBlocks, residues, turnedBlocks } from './indices.ts'
import { conv, filled, indices, microsoftDomain, pointwise } from './nchwc.ts'
import type { ConvCase, InputGradForm } from './support.ts'

/** A gradient's kernels, ready for its convolution (mixed per sample first, if there are bases). */
export interface TurnedKernels {
  /** [count, length] */
  readonly name: string
  /** Numbers of one kernel. */
  readonly length: number
}

/**
 * Kernels `weight` (kernel layout; `count` of them: bases, or 1) turned for `form`: one of each, or in sub-pixel form one for
 * each residue of the rows and columns.
 */
export function turnKernels(model: ModelBuilder, weight: string, count: number, c: ConvCase, form: InputGradForm, block: number): readonly TurnedKernels[] {
  const taps = c.rows.kernel * c.columns.kernel
  if (c.groups > 1 && c.inChannels === c.groups) {
    // Depthwise, [C/b, kh, kw, b]: nothing but the taps turns.
    const length = c.inChannels * taps
    const reversed = Int32Array.from({ length: (count * length) / block }, (_, i) => i - (i % taps) + taps - 1 - (i % taps))
    const rows = model.reshape(weight, [(count * length) / block, block])
    return [{ name: model.reshape(taps === 1 ? rows : model.op('Gather', [rows, indices(model, reversed)], { axis: 0 }), [count, length]), length }]
  }
  const blocks: KernelBlocks = {
    count,
    groups: c.groups,
    outBlocks: c.outChannels / c.groups / block,
    inBlocks: c.inChannels / c.groups / block,
    kernelSize: [c.rows.kernel, c.columns.kernel],
  }
  const turn = (order: GatherIndex): TurnedKernels => {
    const name = transposeBlocks(model, gatherBlocks(model, weight, order, blockCount(blocks), block), order.length, block)
    const length = (order.length * block * block) / count
    return { name: model.reshape(name, [count, length]), length }
  }
  if (form !== 'subPixel') return [turn(turnedBlocks(blocks))]
  return residues(c.rows).flatMap((r) => residues(c.columns).map((s) => turn(residueBlocks(blocks, r, s))))
}

function gatherBlocks(model: ModelBuilder, weight: string, order: GatherIndex, count: number, block: number): string {
  const rows = model.reshape(weight, [count, block * block])
  const data = order.includes(count) ? model.concat([rows, filled(model, 0, [1, block * block])], 0) : rows
  const inOrder = order.length === count && order.every((v, i) => v === i)
  return inOrder ? rows : model.op('Gather', [data, indices(model, order)], { axis: 0 })
}

function transposeBlocks(model: ModelBuilder, blocks: string, count: number, block: number): string {
  const identity = hostTensor('float32', [block, block], Float32Array.from({ length: block * block }, (_, i) => Number(i % (block + 1) === 0)))
  const inputs = [model.reshape(blocks, [count, block, block]), model.constant(identity)]
  return model.op('FusedMatMul', inputs, { transA: 1 }, { domain: microsoftDomain })
}

/** What the input gradient of a convolution starts from. */
export interface InputGrad {
  readonly case: ConvCase
  readonly form: Exclude<InputGradForm, 'turned'>
  readonly block: number
  /** Blocked [N, O, P, Q]. */
  readonly dy: string
  /** As from `turnKernels`: each [1, length], or [N, length] with a kernel for every sample. */
  readonly kernels: readonly string[]
  readonly perSample: boolean
  /** A value to add per channel: [I], or with a kernel for every sample [N, I]. */
  readonly bias?: string | undefined
  /** Blocked [N, I, H, W], to add. */
  readonly sum?: string | undefined
}

/** dX, blocked [N, I, H, W], where it is no convolution by the turned kernel. With a kernel for every sample the samples stand side by side as groups of channels. */
export function inputGrad(model: ModelBuilder, g: InputGrad): string {
  const { case: c, form } = g
  const samples = g.perSample ? c.batch : 1
  const groups = samples * c.groups
  const { rows, columns } = c
  const [height, width] = [rows.input, columns.input]
  const dy = g.perSample ? model.reshape(g.dy, [1, c.batch * c.outChannels, rows.output, columns.output]) : g.dy
  const shape = [c.batch, c.inChannels, height, width]
  const outPerGroup = c.outChannels / c.groups
  const [first = ''] = g.kernels
  if (form === 'sparse') {
    const weight = model.reshape(first, [samples * c.inChannels, outPerGroup, 1, 1])
    const dx = spread(model, conv(model, dy, weight, { ...pointwise, groups }), c, g.block)
    return finish(model, dx, g, shape)
  }
  const [alongRows, alongColumns] = [residues(rows), residues(columns)]
  const bias = g.bias === undefined ? undefined : model.reshape(g.bias, [samples * c.inChannels])
  const cells = [c.batch, c.inChannels / g.block, Math.ceil(height / rows.stride), Math.ceil(width / columns.stride)] as const
  const parts = alongRows.flatMap((r, i) =>
    alongColumns.map((s, j) => {
      const kernelSize = [r.taps.length, s.taps.length] as const
      const weight = model.reshape(g.kernels[i * alongColumns.length + j] ?? '', [samples * c.inChannels, outPerGroup, ...kernelSize])
      const walk = { kernelSize, stride: [1, 1], pads: [r.pads[0], s.pads[0], r.pads[1], s.pads[1]], dilation: [1, 1], groups } as const
      return model.reshape(conv(model, dy, weight, walk, { bias }), [1, sizeOf(cells) * g.block])
    }),
  )
  // [residue rows, residue columns, N, I/b, H/s, W/s, b] -> [N, I/b, H/s, residue, W/s, residue, b]
  const view = model.reshape(model.concat(parts, 0), [rows.stride, columns.stride, ...cells, g.block])
  const [n, channelBlocks, cellRows, cellColumns] = cells
  const whole = model.reshape(model.transpose(view, [2, 3, 4, 0, 5, 1, 6]), [n, channelBlocks, cellRows * rows.stride, cellColumns * columns.stride, g.block])
  const isCut = cellRows * rows.stride !== height || cellColumns * columns.stride !== width
  const dx = model.reshape(isCut ? model.slice(whole, [0, 0], [height, width], [2, 3]) : whole, shape)
  return finish(model, dx, { ...g, bias: undefined }, shape)
}

// Every value at the first pixel of its stride's cell, zeros elsewhere: [M, P, Q, b] -> [M, P, sh, Q, sw, b]. A Concat with
// zeros along the columns, then along the rows; Pad does the same on a single thread. (The zeros are as large as images, so
// the engine makes them when it loads the model, instead of the file holding them.)
function spread(model: ModelBuilder, t: string, c: ConvCase, block: number): string {
  const [p, q, sh, sw] = [c.rows.output, c.columns.output, c.rows.stride, c.columns.stride]
  const images = (c.batch * c.inChannels) / block
  const behind = (x: string, rows: number, length: number, times: number): string => {
    if (times === 0) return x
    const zeros = model.op('Expand', [model.float(0), model.ints([rows, times * length])])
    return model.concat([model.reshape(x, [rows, length]), zeros], 1)
  }
  const columns = behind(t, images * p * q, block, sw - 1)
  return model.reshape(behind(columns, images * p, q * sw * block, sh - 1), [c.batch, c.inChannels, c.rows.input, c.columns.input])
}

// What a convolution could not add by itself.
function finish(model: ModelBuilder, dx: string, g: InputGrad, shape: readonly number[]): string {
  let result = dx
  if (g.bias !== undefined) {
    const [n = 1, channels = 1, height = 1, width = 1] = shape
    const view = [n, channels / g.block, height * width, g.block]
    const bias = model.reshape(g.bias, [g.perSample ? n : 1, channels / g.block, 1, g.block])
    result = model.reshape(model.op('Add', [model.reshape(result, view), bias]), shape)
  }
  return g.sum === undefined ? result : model.op('Add', [result, g.sum])
}
