// Where the elements of each memory layout lie. A layout cuts some axes of a logical shape into (blocks, block) and
// permutes the result; `View` holds both steps, so that conversions, broadcasting and host copies read one definition.
// With b the block of the engine's NCHWc convolution (16 with AVX-512, else 8):
//
//   blocked     [N, C, H, W]            [N, C/b, b, H, W]                 -> [N, C/b, H, W, b]
//   kernel, io  [.., O, I/g, kh, kw]    [.., O/b, b, I/g/b, b, kh, kw]    -> [.., O/b, I/g/b, kh, kw, b of I, b of O]
//   kernel, o   the same, I/g < b       [.., O/b, b, I/g, kh, kw]         -> [.., O/b, I/g, kh, kw, b of O]
//
// (OIHWBiBo and OIHWBo in the engine's words; a depthwise kernel, I/g = 1, is of order o.)

import { formatShape, ShapeError, type StaticShape } from '@dynconv/core'
import type { Layout } from '../lowering.ts'
import type { ModelBuilder } from '../model.ts'

/** The memory order of conv weights: both channel axes blocked, or the output channels only. */
export type KernelOrder = 'io' | 'o'

/** A layout of one shape: the logical axes cut into `split`, then permuted to `physical`. */
export interface View {
  readonly split: StaticShape
  readonly perm: readonly number[]
  readonly physical: StaticShape
  /** For each axis of `split` the logical axis that it comes from. */
  readonly axisOf: readonly number[]
}

/** The order in which weights [.., O, I/g, kh, kw] are stored; undefined where their channels do not fit the block. */
export function kernelOrder(shape: StaticShape, block: number): KernelOrder | undefined {
  if (shape.length < 4) return undefined
  const [o = 0, i = 0] = shape.slice(-4)
  if (o === 0 || o % block !== 0 || i === 0) return undefined
  return i % block === 0 ? 'io' : i < block ? 'o' : undefined
}

/** Whether `shape` is of images whose channels fill whole blocks. */
export function isBlockable(shape: StaticShape, block: number): boolean {
  const [, channels = 0] = shape
  return shape.length === 4 && channels > 0 && channels % block === 0
}

/** Whether values of `shape` can lie in `layout`. */
export function fits(shape: StaticShape, layout: Layout, block: number): boolean {
  return layout === 'plain' || (layout === 'blocked' ? isBlockable(shape, block) : kernelOrder(shape, block) !== undefined)
}

/** The layout of `shape`. @throws ShapeError where the shape does not fit it */
export function viewOf(shape: StaticShape, layout: Layout, block: number): View {
  if (!fits(shape, layout, block)) throw new ShapeError(`onnx: ${formatShape(shape)} has no layout '${layout}' with block ${block}`)
  if (layout === 'plain') return view(shape, [], shape.map((_, i) => i))
  if (layout === 'blocked') return view(shape, [1], [0, 1, 3, 4, 2], block)
  const lead = shape.length - 4
  const before = Array.from({ length: lead }, (_, i) => i)
  const [o, bo, i] = [lead, lead + 1, lead + 2]
  return kernelOrder(shape, block) === 'io'
    ? view(shape, [lead, lead + 1], [...before, o, i, lead + 4, lead + 5, lead + 3, bo], block)
    : view(shape, [lead], [...before, o, i, lead + 3, lead + 4, bo], block)
}

function view(shape: StaticShape, cut: readonly number[], perm: readonly number[], block: number = 1): View {
  const split = shape.flatMap((d, axis) => (cut.includes(axis) ? [d / block, block] : [d]))
  const axisOf = shape.flatMap((_, axis) => (cut.includes(axis) ? [axis, axis] : [axis]))
  return { split, perm, physical: perm.map((p) => split[p] ?? 1), axisOf }
}

/** An ONNX value and its shape. */
export interface Seen {
  readonly name: string
  readonly shape: StaticShape
}

/**
 * A plain operand that broadcasts against the shape of `target`, seen in target's physical axes (a stretched axis has
 * size 1 in all its parts). Free where nothing moves: a scalar, a value per channel, per sample or per pixel.
 */
export function operandView(model: ModelBuilder, name: string, shape: StaticShape, target: View): Seen {
  const rank = (target.axisOf.at(-1) ?? -1) + 1
  const padded = [...new Array<number>(rank - shape.length).fill(1), ...shape]
  const split = target.split.map((d, i) => (padded[target.axisOf[i] ?? 0] === 1 ? 1 : d))
  const physical = target.perm.map((p) => split[p] ?? 1)
  const seen = movesNothing(split, target.perm) ? model.reshape(name, physical) : model.transpose(model.reshape(name, split), target.perm)
  return { name: seen, shape: physical }
}

/** Whether a permutation of `split` keeps the order in memory: the axes longer than 1 stay in order. */
export function movesNothing(split: StaticShape, perm: readonly number[]): boolean {
  const long = perm.filter((p) => split[p] !== 1)
  return long.every((p, i) => i === 0 || p > (long[i - 1] ?? -1))
}

/** Plain to physical order; the result keeps the logical shape. */
export function fromPlain(model: ModelBuilder, name: string, shape: StaticShape, to: View): string {
  if (movesNothing(to.split, to.perm)) return name
  return model.reshape(model.transpose(model.reshape(name, to.split), to.perm), shape)
}

/** Physical to plain order; the result keeps the logical shape. */
export function toPlain(model: ModelBuilder, name: string, shape: StaticShape, from: View): string {
  if (movesNothing(from.split, from.perm)) return name
  const inverse = from.perm.map((_, axis) => from.perm.indexOf(axis))
  return model.reshape(model.transpose(model.reshape(name, from.physical), inverse), shape)
}
