// Values that come from nothing: constants and index ramps.

import { DTypeError } from '../backend/errors.ts'
import { checkDType, dtypes } from '../tensor/dtype.ts'
import { checkData, toFloat64 } from '../tensor/hostTensor.ts'
import { checkShape, staticShape } from '../tensor/shape.ts'
import { checkAxis, numeric, take } from './checks.ts'
import { defineOp, type OpTable } from './define.ts'
import { blocks, mapRef, refOf, refTensor } from './refs.ts'

/** The definitions. */
export const sourceOps: Pick<OpTable, 'constant' | 'iota'> = {
  /** A tensor whose elements stand in the graph. */
  constant: defineOp({
    name: 'constant',
    infer: ({ value }, inputs) => {
      take('constant', inputs)
      if (typeof value !== 'object' || value === null) throw new DTypeError(`constant: value must be a host tensor, got ${String(value)}`)
      checkDType('constant', 'dtype', value.dtype, dtypes)
      staticShape('constant', value.shape)
      checkData('constant', value)
      return { dtype: value.dtype, shape: value.shape }
    },
    gradient: 'none',
    reference: ({ value }) => refOf(value.shape, toFloat64(value)),
  }),

  /** The index along `axis`: 0, 1, 2, ..., the same along every other axis. */
  iota: defineOp({
    name: 'iota',
    infer: ({ shape, axis, dtype }, inputs) => {
      take('iota', inputs)
      checkDType('iota', 'dtype', dtype, numeric)
      checkShape('iota', shape)
      checkAxis('iota', axis, shape.length)
      return { dtype, shape }
    },
    gradient: 'none',
    reference: ({ shape, axis }) => {
      const known = staticShape('iota', shape)
      const { size, inner } = blocks(known, axis)
      return mapRef(refTensor(known), (_, flat) => Math.floor(flat / inner) % size)
    },
  }),
}
