// Shapes: sizes, strides, broadcasting, axes. A dimension is a number, or the name of a size that is not yet known (the
// batch) until the `specialise` pass puts a number in its place.

import { ShapeError } from '../backend/errors.ts'

/** A size, or the name of one that is not yet known. */
export type Dim = number | string

/** A list of dimensions, outermost first. */
export type Shape = readonly Dim[]

/** A shape of known sizes. */
export type StaticShape = readonly number[]

/** `[8, 3, N]` */
export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`
}

/** Whether every dimension is a number. */
export function isStatic(shape: Shape): shape is StaticShape {
  return shape.every((d) => typeof d === 'number')
}

/** The shape with every dimension known. @throws ShapeError where one is not. */
export function staticShape(who: string, shape: Shape): StaticShape {
  if (!isStatic(shape)) throw new ShapeError(`${who}: shape ${formatShape(shape)} has unknown sizes; specialise the graph first, or give it a number where it is compiled or exported`)
  return shape
}

/** A dimension as a number. @throws ShapeError where it is a name. */
export function known(who: string, what: string, dim: Dim | undefined): number {
  if (typeof dim !== 'number') throw new ShapeError(`${who}: ${what} must be a known size, got ${String(dim)}; specialise the graph first, or give it a number where it is compiled or exported`)
  return dim
}

/** The product of all dimensions. */
export function sizeOf(shape: StaticShape): number {
  return shape.reduce((a, b) => a * b, 1)
}

/** Row-major strides, in elements. */
export function stridesOf(shape: StaticShape): readonly number[] {
  const strides = new Array<number>(shape.length)
  let stride = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride
    stride *= shape[i] ?? 1
  }
  return strides
}

/** Whether two shapes are equal, name for name. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i])
}

/** Throws unless every dimension is a name or a non-negative integer. */
export function checkShape(who: string, shape: Shape): void {
  for (const d of shape) {
    if (typeof d === 'string' ? d === '' : !Number.isSafeInteger(d) || d < 0) {
      throw new ShapeError(`${who}: a dimension must be a non-negative integer or a name, got ${String(d)} in [${shape.map(String).join(', ')}]`)
    }
  }
}

/** The shape of an elementwise result: aligned at the last axis, a 1 (or a missing axis) stretches. @throws ShapeError */
export function broadcastShapes(who: string, ...shapes: readonly Shape[]): Shape {
  const rank = Math.max(0, ...shapes.map((s) => s.length))
  const result: Dim[] = new Array<Dim>(rank).fill(1)
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const at = rank - shape.length + i
      const d = shape[i] ?? 1
      const r = result[at] ?? 1
      if (d === r || d === 1) continue
      if (r !== 1) throw new ShapeError(`${who}: shapes ${shapes.map(formatShape).join(' and ')} do not broadcast: ${r} against ${d} at axis ${at}`)
      result[at] = d
    }
  }
  return result
}

/** An axis counted from the front; negative ones count from the end. @throws ShapeError */
export function normaliseAxis(who: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new ShapeError(`${who}: axis ${axis} is not in a tensor of rank ${rank}; use ${-rank} to ${rank - 1}`)
  }
  return axis < 0 ? axis + rank : axis
}

/** Axes counted from the front, sorted; all of them when `axes` is undefined. @throws ShapeError for one named twice */
export function normaliseAxes(who: string, axes: readonly number[] | undefined, rank: number): readonly number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i)
  const result = axes.map((a) => normaliseAxis(who, a, rank)).sort((a, b) => a - b)
  if (new Set(result).size !== result.length) throw new ShapeError(`${who}: axes ${formatShape(axes)} name one axis twice`)
  return result
}
