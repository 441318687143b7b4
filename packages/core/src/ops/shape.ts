// Ops that move elements without computing with them. The gradient of each is its mirror image: a slice's is a pad, a
// concatenation's are slices, a broadcast's is a sum.

import { ShapeError } from '../backend/errors.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'
import { checkShape, type Dim, formatShape, known, normaliseAxis, type Shape, staticShape, stridesOf } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import { checkAxis, checkInts, checkValue, dimAt, sameDType, take } from './checks.ts'
import { defineOp, type OpTable } from './define.ts'
import { at, broadcastIndexer, forEachIndex, mapRef, ravel, refTensor, unravel } from './refs.ts'

// The number of elements, as text: `6`, or with unknown sizes `6*N`. Names are sorted so that equal products are equal texts.
function countOf(shape: Shape): string {
  const names = shape.filter((d) => typeof d === 'string').sort()
  return [shape.reduce<number>((a, d) => (typeof d === 'number' ? a * d : a), 1), ...names].join('*')
}

/**
 * Tensors one after another along `axis`: [.., A, ..] and [.., B, ..] give [.., A + B, ..].
 *
 * @example concat([x, y], 1)
 * @throws ShapeError for an empty list, or sizes that differ along another axis; DTypeError where dtypes differ
 */
export function concat(tensors: readonly Tensor[], axis: number = 0): Tensor {
  const [first] = tensors
  if (!first) throw new ShapeError('concat: takes at least 1 tensor, got 0')
  return only(first.graph.emit('concat', { axis: normaliseAxis('concat', axis, first.rank) }, tensors))
}

/** The definitions. */
export const shapeOps: Pick<OpTable, 'reshape' | 'transpose' | 'broadcastTo' | 'slice' | 'pad' | 'concat'> = {
  /** The same elements, in the same row-major order, in another shape. */
  reshape: defineOp({
    name: 'reshape',
    infer: ({ shape }, inputs) => {
      const [x] = take('reshape', inputs, 'x')
      checkShape('reshape', shape)
      const [from, to] = [countOf(x.shape), countOf(shape)]
      if (from !== to) throw new ShapeError(`reshape: ${formatShape(x.shape)} (${from} elements) does not fit ${formatShape(shape)} (${to})`)
      return { dtype: x.dtype, shape }
    },
    gradient: ({ grad, inputs }) => [grad.reshape(take('reshape', inputs, 'x')[0].shape)],
    reference: (_attrs, inputs, outputs) => ({ shape: take('reshape', outputs, 'y')[0].shape, data: take('reshape', inputs, 'x')[0].data }),
  }),

  /**
   * Permuted axes: axis i of the result is axis permutation[i] of x.
   * The gradient undoes it: axis permutation[i] of dX is axis i of dY.
   */
  transpose: defineOp({
    name: 'transpose',
    infer: ({ permutation }, inputs) => {
      const [x] = take('transpose', inputs, 'x')
      checkInts('transpose', 'permutation', permutation, x.shape.length)
      if (permutation.some((p) => p < 0 || p >= x.shape.length) || new Set(permutation).size !== permutation.length) {
        throw new ShapeError(`transpose: permutation ${formatShape(permutation)} must hold each of 0 to ${x.shape.length - 1} once`)
      }
      return { dtype: x.dtype, shape: permutation.map((p) => dimAt(x.shape, p)) }
    },
    gradient: ({ attrs, grad }) => [grad.transpose(attrs.permutation.map((_, i) => attrs.permutation.indexOf(i)))],
    reference: ({ permutation }, inputs, outputs) => {
      const [x] = take('transpose', inputs, 'x')
      const [{ shape }] = take('transpose', outputs, 'y')
      const strides = stridesOf(x.shape)
      const permuted = permutation.map((p) => strides[p] ?? 0)
      return mapRef(refTensor(shape), (_, flat) => at(x.data, ravel(permuted, unravel(shape, flat))))
    },
  }),

  /** x stretched to `shape`: aligned at the last axis, a size of 1 or a missing axis repeats. */
  broadcastTo: defineOp({
    name: 'broadcastTo',
    infer: ({ shape }, inputs) => {
      const [x] = take('broadcastTo', inputs, 'x')
      checkShape('broadcastTo', shape)
      const lead = shape.length - x.shape.length
      if (lead < 0 || x.shape.some((d, i) => d !== 1 && d !== shape[lead + i])) {
        throw new ShapeError(`broadcastTo: ${formatShape(x.shape)} does not stretch to ${formatShape(shape)}; only axes of size 1 and missing leading axes do`)
      }
      return { dtype: x.dtype, shape }
    },
    gradient: ({ grad, inputs }) => [grad.sumTo(take('broadcastTo', inputs, 'x')[0].shape)],
    reference: (_attrs, inputs, outputs) => {
      const [x] = take('broadcastTo', inputs, 'x')
      const [{ shape }] = take('broadcastTo', outputs, 'y')
      const index = broadcastIndexer(x.shape, shape)
      return mapRef(refTensor(shape), (_, flat) => at(x.data, index(flat)))
    },
  }),

  /**
   * A block: y[i, j, ...] = x[starts[0] + i * steps[0], starts[1] + j * steps[1], ...]. A negative step walks backwards.
   *
   * Gradient, axis by axis: where the step is 1, dX is dY inside zeros (pad). Elsewhere dX[start + j * step] = dY[j], which
   * is a scatterAdd at indices known beforehand (all different, as step is not 0), right for either sign.
   */
  slice: defineOp({
    name: 'slice',
    infer: ({ starts, sizes, steps }, inputs) => {
      const [x] = take('slice', inputs, 'x')
      const shape = staticShape('slice', x.shape)
      checkInts('slice', 'starts', starts, shape.length)
      checkInts('slice', 'sizes', sizes, shape.length, 0)
      checkInts('slice', 'steps', steps, shape.length)
      shape.forEach((d, i) => {
        const [start, size, step] = [at(starts, i), at(sizes, i), at(steps, i)]
        const last = start + (size - 1) * step
        if (step === 0) throw new ShapeError(`slice: steps[${i}]=0 must not be 0`)
        if (size > 0 && (start < 0 || start >= d || last < 0 || last >= d)) {
          throw new ShapeError(`slice: axis ${i} of ${formatShape(shape)} has no elements ${start} to ${last} (start ${start}, size ${size}, step ${step})`)
        }
      })
      return { dtype: x.dtype, shape: sizes }
    },
    gradient: ({ attrs: { starts, sizes, steps }, grad, inputs }) => {
      const shape = staticShape('slice', take('slice', inputs, 'x')[0].shape)
      // An empty slice takes nothing: its start says nothing either.
      if (sizes.includes(0)) return [grad.full(0, shape)]
      const scattered = steps.reduce((g, step, axis) => {
        if (step === 1) return g
        const indices = Int32Array.from({ length: at(sizes, axis) }, (_, j) => at(starts, axis) + j * step)
        return g.scatterAdd(g.constant(fromNumbers('int32', [indices.length], indices)), axis, at(shape, axis))
      }, grad)
      if (steps.every((step) => step !== 1)) return [scattered]
      const before = starts.map((start, i) => (steps[i] === 1 ? start : 0))
      const after = shape.map((d, i) => (steps[i] === 1 ? d - at(starts, i) - at(sizes, i) : 0))
      return [scattered.pad(before, after)]
    },
    reference: ({ starts, sizes, steps }, inputs) => {
      const [x] = take('slice', inputs, 'x')
      const strides = stridesOf(x.shape)
      return mapRef(refTensor(sizes), (_, flat) => {
        const from = unravel(sizes, flat).map((j, axis) => at(starts, axis) + j * at(steps, axis))
        return at(x.data, ravel(strides, from))
      })
    },
  }),

  /** x inside a border of `value`: before[i] and after[i] elements on either side of axis i. */
  pad: defineOp({
    name: 'pad',
    infer: ({ before, after, value }, inputs) => {
      const [x] = take('pad', inputs, 'x')
      checkInts('pad', 'before', before, x.shape.length, 0)
      checkInts('pad', 'after', after, x.shape.length, 0)
      checkValue('pad', 'value', value, x.dtype)
      const shape = x.shape.map((d, i): Dim => {
        const border = at(before, i) + at(after, i)
        return border === 0 ? d : known('pad', `padded axis ${i} of ${formatShape(x.shape)}`, d) + border
      })
      return { dtype: x.dtype, shape }
    },
    gradient: ({ attrs: { before }, grad, inputs }) => [grad.slice(before, staticShape('pad', take('pad', inputs, 'x')[0].shape))],
    reference: ({ before, value }, inputs, outputs) => {
      const [x] = take('pad', inputs, 'x')
      const y = refTensor(take('pad', outputs, 'y')[0].shape, value)
      const strides = stridesOf(y.shape)
      const origin = ravel(strides, before)
      forEachIndex(x.shape, (index, flat) => {
        y.data[origin + ravel(strides, index)] = at(x.data, flat)
      })
      return y
    },
  }),

  /** All inputs one after another along `axis`; they agree in dtype and in every other size. */
  concat: defineOp({
    name: 'concat',
    infer: ({ axis }, inputs) => {
      const [first] = inputs
      if (!first) throw new ShapeError('concat: takes at least 1 input, got 0')
      const dtype = sameDType('concat', [], inputs)
      checkAxis('concat', axis, first.shape.length)
      for (const [i, x] of inputs.entries()) {
        if (x.shape.length !== first.shape.length || x.shape.some((d, k) => k !== axis && d !== first.shape[k])) {
          throw new ShapeError(
            `concat: input ${i} is ${formatShape(x.shape)}, input 0 is ${formatShape(first.shape)}; they may differ along axis ${axis} only`,
          )
        }
      }
      if (inputs.length === 1) return { dtype, shape: first.shape }
      const total = inputs.reduce((sum, x, i) => sum + known('concat', `axis ${axis} of input ${i}`, x.shape[axis]), 0)
      return { dtype, shape: first.shape.map((d, k) => (k === axis ? total : d)) }
    },
    gradient: ({ attrs: { axis }, grad, inputs, needs }) => {
      if (inputs.length === 1) return [grad]
      let start = 0
      return inputs.map((x, i): Tensor | undefined => {
        const size = known('concat', `axis ${axis} of input ${i}`, x.shape[axis])
        start += size
        return needs[i] ? grad.narrow(axis, start - size, size) : undefined
      })
    },
    reference: ({ axis }, inputs, outputs) => {
      const y = refTensor(take('concat', outputs, 'y')[0].shape)
      const strides = stridesOf(y.shape)
      let start = 0
      for (const x of inputs) {
        forEachIndex(x.shape, (index, flat) => {
          y.data[ravel(strides, index) + start * at(strides, axis)] = at(x.data, flat)
        })
        start += at(x.shape, axis)
      }
      return y
    },
  }),
}
