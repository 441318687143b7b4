// Which convolutions the blocked kernels can take: the guards. ONNX Runtime's own checks are too weak (24 channels at
// batch 8 pass them and give wrong numbers), so nothing reaches nchwc.ts without one of these.

import type { Conv2dAttrs, StaticShape } from '@dynconv/core'
import type { Axis } from './indices.ts'
import type { BlockedConv } from './nchwc.ts'

/**
 * How the channels lie: 'blocked': each group's inputs and outputs fill whole blocks; 'depthwise': one input and one
 * output a group; 'stem': fewer inputs than a block, taken from plain images.
 */
export type ConvKind = 'blocked' | 'depthwise' | 'stem'

/** A convolution by numbers. */
export interface ConvCase {
  readonly batch: number
  readonly inChannels: number
  readonly outChannels: number
  readonly groups: number
  readonly rows: Axis
  readonly columns: Axis
}

/** The convolution of `x` [N, I, H, W] with weights [.., O, I/g, kh, kw] to `y` [N, O, P, Q]. */
export function convCase(attrs: Conv2dAttrs, x: StaticShape, weight: StaticShape, y: StaticShape): ConvCase {
  const [batch = 0, inChannels = 0, height = 0, width = 0] = x
  const [outChannels = 0, , kh = 0, kw = 0] = weight.slice(-4)
  const [, , p = 0, q = 0] = y
  const [top, , left] = attrs.padding
  return {
    batch,
    inChannels,
    outChannels,
    groups: attrs.groups,
    rows: { input: height, output: p, kernel: kh, stride: attrs.stride[0], dilation: attrs.dilation[0], before: top },
    columns: { input: width, output: q, kernel: kw, stride: attrs.stride[1], dilation: attrs.dilation[1], before: left },
  }
}

/** How a convolution's channels lie; undefined: not in blocks. `dynamic`: a kernel for every sample. */
export function kindOf(c: ConvCase, block: number, dynamic: boolean): ConvKind | undefined {
  if (Math.min(c.batch, c.rows.input, c.columns.input, c.rows.output, c.columns.output) < 1) return undefined
  const [i, o] = [c.inChannels / c.groups, c.outChannels / c.groups]
  if (i % block === 0 && o % block === 0) return 'blocked'
  if (i === 1 && o === 1 && c.outChannels % block === 0) return 'depthwise'
  if (c.groups !== 1 || i >= block || o % block !== 0) return undefined
  // With a kernel per sample the samples stand side by side as channels, which must be few or fill whole blocks.
  const together = dynamic ? c.batch * i : i
  return together < block || together % block === 0 ? 'stem' : undefined
}

/** The walk of the forward convolution. */
export function forwardWalk(c: ConvCase, groups: number): BlockedConv {
  return {
    kernelSize: [c.rows.kernel, c.columns.kernel],
    stride: [c.rows.stride, c.columns.stride],
    pads: [c.rows.before, c.columns.before, after(c.rows), after(c.columns)],
    dilation: [c.rows.dilation, c.columns.dilation],
    groups,
  }
}

// Padding after the last element, as far as a window reaches it: P = floor((H + before + after - reach) / s) + 1, and any
// `after` within one stride gives the same P.
function after(axis: Axis): number {
  return Math.max(0, behind(axis))
}

/** How far the last window reaches beyond the input (negative: how much it leaves). */
function behind(axis: Axis): number {
  return (axis.output - 1) * axis.stride + reach(axis) - axis.input - axis.before
}

/** How many input positions a window spans. */
function reach(axis: Axis): number {
  return (axis.kernel - 1) * axis.dilation + 1
}

/**
 * How the input gradient is computed from dY:
 * - 'turned' (stride 1): a convolution by the turned kernel;
 * - 'sparse' (a 1x1 kernel that skips pixels): a 1x1 convolution whose result is spread between zeros;
 * - 'subPixel' (other strides): a convolution for each residue, whose results are interleaved.
 */
export type InputGradForm = 'turned' | 'sparse' | 'subPixel'

/** The form of the input gradient; undefined where there is none in blocks. */
export function inputGradForm(c: ConvCase, kind: ConvKind | undefined): InputGradForm | undefined {
  if (kind === undefined || kind === 'stem') return undefined
  const { rows, columns } = c
  // Undefined where dY would have to be cut instead of padded.
  if (rows.stride === 1 && columns.stride === 1) return [rows, columns].every((axis) => padsAlong(axis).every((p) => p >= 0)) ? 'turned' : undefined
  if (kind !== 'blocked' || c.groups !== 1) return undefined
  const whole = (axis: Axis): boolean => axis.kernel === 1 && axis.before === 0 && axis.output * axis.stride === axis.input
  if (whole(rows) && whole(columns)) return 'sparse'
  return rows.dilation === 1 && columns.dilation === 1 ? 'subPixel' : undefined
}

/** The convolution that the turned input gradient is: of dY by the turned kernel. */
export function turnedCase(c: ConvCase): ConvCase {
  const turned = (axis: Axis): Axis => ({ ...axis, input: axis.output, output: axis.input, before: padsAlong(axis)[0] })
  return { ...c, inChannels: c.outChannels, outChannels: c.inChannels, rows: turned(c.rows), columns: turned(c.columns) }
}

// dx[h] = sum_u dy[h + before - u d] w[u] = sum_u' dy[h - (k-1) d + before + u' d] w[k-1-u']: a window that begins
// (k-1) d - before ahead of h, so that many zeros before; and H outputs from P inputs fix those behind.
function padsAlong(axis: Axis): readonly [number, number] {
  const first = reach(axis) - 1 - axis.before
  return [first, axis.input - axis.output - first + reach(axis) - 1]
}

/** Whether the filter gradient can be computed from blocked dY (and blocked x, or a plain x for a stem). */
export function hasFilterGrad(c: ConvCase, kind: ConvKind | undefined): boolean {
  return kind === 'depthwise' ? depthwiseFilterWalk(c) !== undefined : kind !== undefined
}

/**
 * The filter gradient of a depthwise convolution as another one: dW[c, u] = sum_p x[c, p s + u d - before] dy[c, p] is a
 * convolution of x by the kernel dy, with stride and dilation exchanged. Undefined where rows that no window reaches would
 * have to be cut off x first.
 */
export function depthwiseFilterWalk({ rows, columns }: ConvCase): Omit<BlockedConv, 'groups'> | undefined {
  const after = [behind(rows), behind(columns)] as const
  if (after.some((n) => n < 0)) return undefined
  return {
    kernelSize: [rows.output, columns.output],
    stride: [rows.dilation, columns.dilation],
    pads: [rows.before, columns.before, ...after],
    dilation: [rows.stride, columns.stride],
  }
}

/**
 * A grouped convolution for its filter gradient: the groups of a sample, whose channels are whole blocks, are samples of
 * their own. [N, g C, H, W] is [N g, C, H, W] in memory.
 */
export function withoutGroups(c: ConvCase): ConvCase {
  return { ...c, batch: c.batch * c.groups, inChannels: c.inChannels / c.groups, outChannels: c.outChannels / c.groups, groups: 1 }
}
