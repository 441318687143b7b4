// Reading and writing at computed indices. With x seen as [outer, size, inner] around `axis` and the indices as [M]:
//   gather      y[o, m, j] = x[o, index[m], j]
//   scatterAdd  y[o, i, j] = sum over all m with index[m] = i of u[o, m, j]
// Each is linear in its data and the adjoint of the other, so each is the other's gradient. Indices have none.

import { ShapeError } from '../backend/errors.ts'
import { checkDType, dtypes } from '../tensor/dtype.ts'
import { formatShape, known } from '../tensor/shape.ts'
import { only } from '../tensor/tensor.ts'
import { checkAxis, checkInt, numeric, take } from './checks.ts'
import { defineOp, type OpTable } from './define.ts'
import { at, blocks, refTensor, wrapTo } from './refs.ts'

function checkIndex(who: string, index: number, position: number, size: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= size) {
    throw new RangeError(`${who}: index ${index} (number ${position}) is outside an axis of size ${size}; use 0 to ${size - 1}`)
  }
}

/** The definitions. */
export const gatherOps: Pick<OpTable, 'gather' | 'scatterAdd' | 'oneHot'> = {
  /** Slices of x along `axis`, chosen by int32 indices: x.shape[..axis] + indices.shape + x.shape[axis+1..]. */
  gather: defineOp({
    name: 'gather',
    infer: ({ axis }, inputs) => {
      const [x, indices] = take('gather', inputs, 'x', 'indices')
      checkDType('gather', 'indices', indices.dtype, ['int32'])
      checkAxis('gather', axis, x.shape.length)
      return { dtype: x.dtype, shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)] }
    },
    gradient: ({ attrs: { axis }, grad, inputs }) => {
      const [x, indices] = take('gather', inputs, 'x', 'indices')
      return [grad.scatterAdd(indices, axis, known('gather', `axis ${axis} of x`, x.shape[axis])), undefined]
    },
    reference: ({ axis }, inputs, outputs) => {
      const [x, indices] = take('gather', inputs, 'x', 'indices')
      const y = refTensor(take('gather', outputs, 'y')[0].shape)
      const { outer, size, inner } = blocks(x.shape, axis)
      const count = indices.data.length
      indices.data.forEach((i, m) => {
        checkIndex('gather', i, m, size)
        for (let o = 0; o < outer; o++) {
          for (let j = 0; j < inner; j++) y.data[(o * count + m) * inner + j] = at(x.data, (o * size + i) * inner + j)
        }
      })
      return y
    },
  }),

  /** Updates added up at int32 indices along `axis` of a result that has `size` elements there and zeros elsewhere. */
  scatterAdd: defineOp({
    name: 'scatterAdd',
    infer: ({ axis, size }, inputs) => {
      const [updates, indices] = take('scatterAdd', inputs, 'updates', 'indices')
      checkDType('scatterAdd', 'indices', indices.dtype, ['int32'])
      checkDType('scatterAdd', 'updates', updates.dtype, numeric)
      checkInt('scatterAdd', 'size', size, 0)
      const { shape } = updates
      const rank = indices.shape.length
      // The updates lack `axis` and have the axes of the indices in its place.
      checkAxis('scatterAdd', axis, shape.length - rank + 1)
      if (indices.shape.some((d, i) => d !== shape[axis + i])) {
        throw new ShapeError(
          `scatterAdd: updates ${formatShape(shape)} must have the indices' axes ${formatShape(indices.shape)} from axis ${axis} on`,
        )
      }
      return { dtype: updates.dtype, shape: [...shape.slice(0, axis), size, ...shape.slice(axis + rank)] }
    },
    gradient: ({ attrs: { axis }, grad, inputs }) => [grad.gather(take('scatterAdd', inputs, 'updates', 'indices')[1], axis), undefined],
    reference: ({ axis, size }, inputs, outputs) => {
      const [updates, indices] = take('scatterAdd', inputs, 'updates', 'indices')
      const [{ dtype, shape }] = take('scatterAdd', outputs, 'y')
      const y = refTensor(shape)
      const wrap = wrapTo(dtype)
      const { outer, inner } = blocks(shape, axis)
      const count = indices.data.length
      indices.data.forEach((i, m) => {
        checkIndex('scatterAdd', i, m, size)
        for (let o = 0; o < outer; o++) {
          for (let j = 0; j < inner; j++) {
            const to = (o * size + i) * inner + j
            y.data[to] = wrap(at(y.data, to) + at(updates.data, (o * count + m) * inner + j))
          }
        }
      })
      return y
    },
  }),

  /** A new last axis of size `depth`: 1 at the int32 index, else 0; all 0 for an index outside. */
  oneHot: defineOp({
    name: 'oneHot',
    infer: ({ depth, dtype }, inputs) => {
      const [indices] = take('oneHot', inputs, 'indices')
      checkDType('oneHot', 'indices', indices.dtype, ['int32'])
      checkDType('oneHot', 'dtype', dtype, dtypes)
      checkInt('oneHot', 'depth', depth, 1)
      return { dtype, shape: [...indices.shape, depth] }
    },
    gradient: 'none',
    reference: ({ depth }, inputs, outputs) => {
      const [indices] = take('oneHot', inputs, 'indices')
      const y = refTensor(take('oneHot', outputs, 'y')[0].shape)
      indices.data.forEach((i, m) => {
        if (i >= 0 && i < depth) y.data[m * depth + i] = 1
      })
      return y
    },
    decompose: ({ depth, dtype }, inputs) => {
      const [indices] = take('oneHot', inputs, 'indices')
      const columns = only(indices.graph.emit('iota', { shape: [depth], axis: 0, dtype: 'int32' }, []))
      return [indices.reshape([...indices.shape, 1]).equal(columns).cast(dtype)]
    },
  }),
}
