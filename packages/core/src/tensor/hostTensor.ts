// A tensor in host memory: dtype + shape + typed array, row-major. It is plain data: what goes into a compiled function
// and what comes out of it.

import { DTypeError, ShapeError } from '../backend/errors.ts'
import { allocate, type DataOf, type DType, float16Bits, float16Value } from './dtype.ts'
import { checkShape, formatShape, type StaticShape, sizeOf } from './shape.ts'

/** A tensor in host memory, row-major. */
export interface HostTensor<D extends DType = DType> {
  readonly dtype: D
  readonly shape: StaticShape
  readonly data: DataOf[D]
}

const storage = { float32: Float32Array, float16: Uint16Array, int32: Int32Array, bool: Uint8Array } as const

/**
 * A host tensor over `data`, without a copy. float16 takes its 16 bits (Uint16Array), bool one byte an element.
 *
 * @example hostTensor('float32', [2, 3], new Float32Array(6))
 * @throws ShapeError when the length is not the product of the shape; DTypeError for the wrong kind of array
 */
export function hostTensor<D extends DType>(dtype: D, shape: StaticShape, data: DataOf[D]): HostTensor<D> {
  checkData('hostTensor', { dtype, shape, data })
  return { dtype, shape, data }
}

/**
 * Throws unless the elements of a tensor are what its dtype and shape say.
 *
 * @param who the beginning of the message
 * @throws ShapeError for another number of elements, or sizes that cannot be; DTypeError for another kind of array
 */
export function checkData(who: string, { dtype, shape, data }: HostTensor): void {
  checkShape(who, shape)
  if (!(data instanceof storage[dtype])) throw new DTypeError(`${who}: ${dtype} data must be a ${storage[dtype].name}, got ${Object.prototype.toString.call(data).slice(8, -1)}`)
  if (data.length !== sizeOf(shape)) throw new ShapeError(`${who}: shape ${formatShape(shape)} needs ${sizeOf(shape)} elements, got ${data.length}`)
}

/**
 * Throws unless `value` is a host tensor (plain JavaScript may bring anything).
 *
 * @param who the beginning of the message: `run: input 'x'`
 * @throws DTypeError for anything else and for another kind of array; ShapeError for another number of elements
 */
export function checkHostTensor(who: string, value: unknown): void {
  const given: Partial<HostTensor> = typeof value === 'object' && value !== null ? value : {}
  const { dtype, shape, data } = given
  if (dtype === undefined || !Array.isArray(shape) || data === undefined) {
    throw new DTypeError(`${who} must be a host tensor, got ${nameOf(value)}; make one with tensor(values, shape)`)
  }
  if (!Object.hasOwn(storage, dtype)) throw new DTypeError(`${who} has dtype ${dtype}, which is none of ${Object.keys(storage).join(', ')}`)
  checkData(who, { dtype, shape, data })
}

// `Float32Array`, `Array`, `undefined`
function nameOf(value: unknown): string {
  return value === undefined ? 'undefined' : Object.prototype.toString.call(value).slice(8, -1)
}

/**
 * A host tensor from numbers, rounded to `dtype` (float32 unless told). Without `shape` it is a vector, from a single
 * number a scalar.
 *
 * @example tensor([1, 2, 3, 4], [2, 2])
 * @throws ShapeError when the count of numbers is not the product of the shape
 */
export function tensor(values: number | ArrayLike<number>, shape?: StaticShape, dtype: DType = 'float32'): HostTensor {
  const list = typeof values === 'number' ? [values] : values
  return fromNumbers(dtype, shape ?? (typeof values === 'number' ? [] : [list.length]), list)
}

/** A host tensor of `dtype` with each number rounded to it (to int32 by truncation, to bool by `!= 0`). */
export function fromNumbers<D extends DType>(dtype: D, shape: StaticShape, values: ArrayLike<number>): HostTensor<D> {
  checkShape('tensor', shape)
  if (values.length !== sizeOf(shape)) throw new ShapeError(`tensor: shape ${formatShape(shape)} needs ${sizeOf(shape)} elements, got ${values.length}`)
  const data = allocate(dtype, values.length)
  const round = rounding[dtype]
  for (let i = 0; i < values.length; i++) data[i] = round(values[i] ?? 0)
  return { dtype, shape, data }
}

const rounding: { readonly [D in DType]: (value: number) => number } = {
  float32: (v) => v,
  float16: float16Bits,
  int32: Math.trunc,
  bool: (v) => (v ? 1 : 0),
}

/** The elements as float64. */
export function toFloat64(t: HostTensor): Float64Array {
  return t.dtype === 'float16' ? Float64Array.from(t.data, float16Value) : Float64Array.from(t.data)
}

/** A host tensor of zeros. */
export function zeros<D extends DType = 'float32'>(shape: StaticShape, dtype?: D): HostTensor<D | 'float32'> {
  checkShape('zeros', shape)
  const type = dtype ?? 'float32'
  return { dtype: type, shape, data: allocate(type, sizeOf(shape)) }
}

/** A deep copy. */
export function copyHostTensor<D extends DType>(t: HostTensor<D>): HostTensor<D> {
  const data = allocate(t.dtype, t.data.length)
  data.set(t.data)
  return { dtype: t.dtype, shape: t.shape, data }
}
