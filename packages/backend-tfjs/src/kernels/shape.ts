// Ops that move, make and index elements.

import { fromNumbers, type HostTensor } from '@dynconv/core'
import type { Primitives, Value } from '../primitives.ts'
import { filled, type Kernels, nth, product, range } from './shared.ts'

type ShapeName = 'constant' | 'iota' | 'reshape' | 'transpose' | 'broadcastTo' | 'slice' | 'pad' | 'concat' | 'gather' | 'scatterAdd'

/** The kernels over `p`; `oneHot` is decomposed into a comparison. */
export function shapeKernels<V extends Value>(p: Primitives<V>): Kernels<V, ShapeName> {
  return {
    constant: ({ value }) => p.constant(value),
    iota: ({ shape, axis, dtype }) => {
      const sizes = shape.map(Number)
      const length = nth(sizes, axis)
      const ramp = p.constant(fromNumbers(dtype, sizes.map((_, i) => (i === axis ? length : 1)), range(length)))
      return sizes.every((d, i) => i === axis || d === 1) ? ramp : p.broadcast(ramp, sizes)
    },
    reshape: (_attrs, inputs, outputs) => p.reshape(nth(inputs, 0), nth(outputs, 0).shape),
    transpose: ({ permutation }, inputs) => {
      const x = nth(inputs, 0)
      return permutation.every((axis, i) => axis === i) ? x : p.transpose(x, permutation)
    },
    broadcastTo: (_attrs, inputs, outputs) => p.broadcast(nth(inputs, 0), nth(outputs, 0).shape),
    slice: ({ starts, sizes, steps }, inputs) => {
      // A negative step walks by indices; of one element no step is taken.
      const x = nth(inputs, 0)
      const turned = steps.reduce((t, step, axis) => {
        const size = nth(sizes, axis)
        if (step > 0 || size < 2) return t
        return p.gather(t, p.constant(indices(size, nth(starts, axis), step)), axis)
      }, x)
      const isTurned = (axis: number): boolean => nth(steps, axis) < 0 && nth(sizes, axis) > 1
      const from = starts.map((start, axis) => (isTurned(axis) ? 0 : start))
      const by = steps.map((step, axis) => (isTurned(axis) || nth(sizes, axis) < 2 ? 1 : step))
      if (by.some((step) => step !== 1)) return p.stridedSlice(turned, from, sizes, by)
      return sizes.every((size, axis) => size === turned.shape[axis]) ? turned : p.slice(turned, from, sizes)
    },
    pad: ({ before, after, value }, inputs, outputs) => {
      const x = nth(inputs, 0)
      if ([...before, ...after].every((n) => n === 0)) return x
      const { dtype, shape } = nth(outputs, 0)
      return product(x.shape) === 0 ? filled(p, value, shape, dtype) : p.pad(x, before, after, value)
    },
    concat: ({ axis }, inputs) => {
      const pieces = inputs.filter((x) => product(x.shape) > 0)
      return pieces.length === 1 ? nth(pieces, 0) : p.concat(pieces, axis)
    },
    gather: ({ axis }, inputs) => p.gather(nth(inputs, 0), nth(inputs, 1), axis),
    // Seen as [outer, M, inner], rows [M, outer inner].
    scatterAdd: ({ axis, size }, inputs, outputs) => {
      const [updates, at] = [nth(inputs, 0), nth(inputs, 1)]
      const { dtype, shape } = nth(outputs, 0)
      const count = product(at.shape)
      if (count === 0) return filled(p, 0, shape, dtype)
      const [outer, inner] = [product(shape.slice(0, axis)), product(shape.slice(axis + 1))]
      const split = p.reshape(updates, [outer, count, inner])
      const rows = p.reshape(outer === 1 ? split : p.transpose(split, [1, 0, 2]), [count, outer * inner])
      const sums = p.scatterRows(rows, p.reshape(at, [count]), size)
      const back = outer === 1 ? sums : p.transpose(p.reshape(sums, [size, outer, inner]), [1, 0, 2])
      return p.reshape(back, shape)
    },
  }
}

function indices(count: number, start: number, step: number): HostTensor {
  return fromNumbers('int32', [count], range(count).map((i) => start + i * step))
}
