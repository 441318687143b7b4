// Images whose samples stand side by side: [N, H, W, C] as [N / c, H, W c, C], c samples at each pixel, as convolutions in
// groups want them. What works on each number, on each channel or over all pixels does not mind, so such images stay as they
// are from one convolution to the next; the images in their own order are written beside them, and nothing runs that nobody
// reads.
//
// A pixel's c samples are an axis of their own in [N / c, H, W, c, C]: what has one number for each sample and channel,
// [N, 1, 1, C], stretches as [N / c, 1, 1, c, C].

import { nth, sameSizes } from '../kernels/shared.ts'
import type { TfNode, TfValue } from './graph.ts'
import type { ProgramPrimitives } from './primitives.ts'

/** Images side by side. */
export interface Beside {
  /** [N / c, H, W c, C] */
  readonly value: TfValue
  /** c */
  readonly together: number
}

const known: WeakMap<TfNode, Beside> = new WeakMap()
// Those that were brought side by side, for whoever asks again.
const brought: WeakMap<TfValue, Beside> = new WeakMap()

/** The same images [N, H, W, C] side by side, where that is how they were made. */
export function besideOf(x: TfValue): Beside | undefined {
  return x.index === 0 ? known.get(x.node) : undefined
}

/** Images [N, H, W, C] as [N / c, H, W c, C]. */
export function sideBySide(p: ProgramPrimitives, x: TfValue, together: number): TfValue {
  const found = [besideOf(x), brought.get(x)].find((beside) => beside?.together === together)
  if (found) return found.value
  const [batch, height, width, channels] = fourOf(x.shape)
  const split = p.reshape(x, [batch / together, together, height, width, channels])
  const value = p.reshape(p.transpose(split, [0, 2, 3, 1, 4]), [batch / together, height, width * together, channels])
  brought.set(x, { value, together })
  return value
}

/** The images of `value` [N / c, H, W c, C] as [N, H, W, C], which are known to stand side by side. */
export function apart(p: ProgramPrimitives, value: TfValue, together: number): TfValue {
  if (together === 1) return value
  const [groups, height, across, channels] = fourOf(value.shape)
  const split = p.reshape(value, [groups, height, across / together, together, channels])
  const images = p.reshape(p.transpose(split, [0, 3, 1, 2, 4]), [groups * together, height, across / together, channels])
  // Where nothing moves, this may be a node that was there, with outputs of its own.
  if (images.node.op === 'Transpose' || images.node.op === 'Reshape') known.set(images.node, { value, together })
  return images
}

/**
 * `apply` on tensors that stretch to images of `shape` [N, H, W, C], where one of these stands side by side: on all of them side
 * by side. Undefined where none does, or where one of them is of another kind than this file's head says.
 */
export function elementwiseBeside(p: ProgramPrimitives, inputs: readonly TfValue[], shape: readonly number[], apply: (inputs: readonly TfValue[], shape: readonly number[]) => TfValue): TfValue | undefined {
  if (shape.length !== 4) return undefined
  const isWhole = (x: TfValue): boolean => sameSizes(x.shape, shape)
  const together = inputs.filter(isWhole).map((x) => besideOf(x)?.together).find((c) => c !== undefined)
  if (together === undefined) return undefined
  const [batch, height, width, channels] = fourOf(shape)
  const isSmall = (x: TfValue): boolean => x.shape.length === 0 || (x.shape.length === 4 && x.shape[1] === 1 && x.shape[2] === 1)
  if (!inputs.every((x) => isWhole(x) || isSmall(x))) return undefined
  const pixels = [batch / together, height, width, together, channels]
  const perSample = inputs.some((x) => !isWhole(x) && x.shape.length === 4 && x.shape[0] !== 1)
  const stored = perSample ? pixels : [batch / together, height, width * together, channels]
  const views = inputs.map((x) => {
    if (isWhole(x)) return p.reshape(sideBySide(p, x, together), stored)
    if (!perSample || x.shape.length === 0) return x
    const [samples, , , each] = fourOf(x.shape)
    return p.reshape(x, samples === 1 ? [1, 1, 1, 1, each] : [batch / together, 1, 1, together, each])
  })
  return apart(p, p.reshape(apply(views, stored), [batch / together, height, width * together, channels]), together)
}

/** A sum or a maximum over `axes` of images [N, H, W, C] that stand side by side, if it is over all samples or over all pixels. */
export function reducedBeside(p: ProgramPrimitives, kind: 'sum' | 'max', x: TfValue, axes: readonly number[], keepDims: boolean): TfValue | undefined {
  const made = besideOf(x)
  const over = (axis: number): boolean => axes.includes(axis)
  if (!made || x.shape.length !== 4 || !(over(0) || (over(1) && over(2)))) return undefined
  const [batch, height, width, channels] = fourOf(x.shape)
  const pixels = p.reshape(made.value, [batch / made.together, height, width, made.together, channels])
  const moved = [...axes.map((axis) => (axis === 3 ? 4 : axis)), ...(over(0) ? [3] : [])]
  const reduced = p[kind](pixels, moved, false)
  return p.reshape(reduced, keepDims ? x.shape.map((d, i) => (over(i) ? 1 : d)) : x.shape.filter((_, i) => !over(i)))
}

function fourOf(shape: readonly number[]): readonly [number, number, number, number] {
  return [nth(shape, 0), nth(shape, 1), nth(shape, 2), nth(shape, 3)]
}
