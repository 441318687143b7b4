// Small checks that the `infer` of every op family is made of. They say who speaks, what was expected and what came.
// Attributes may come from a file, so nothing is taken from their static types: lengths, ranges and integers are checked.

import { DTypeError, ShapeError, ValueError } from '../backend/errors.ts'
import type { DType } from '../tensor/dtype.ts'
import { type Dim, formatShape, type Shape } from '../tensor/shape.ts'
import type { ValueType } from './define.ts'

/** The dtypes that have gradients. */
export const floats: readonly DType[] = ['float32', 'float16']

/** The dtypes that add and multiply. */
export const numeric: readonly DType[] = ['float32', 'float16', 'int32']

/** One element per name. */
export type Named<T, N extends readonly string[]> = { readonly [I in keyof N]: T }

/**
 * The inputs of an op as a tuple, one per name.
 *
 * @example const [a, b] = take('matmul', inputs, 'a', 'b')
 * @throws ShapeError when the count is another
 */
export function take<T, const N extends readonly string[]>(who: string, inputs: readonly T[], ...names: N): Named<T, N> {
  if (inputs.length !== names.length) {
    const list = names.length ? ` (${names.join(', ')})` : ''
    throw new ShapeError(`${who}: takes ${names.length} input${names.length === 1 ? '' : 's'}${list}, got ${inputs.length}`)
  }
  // Boundary: the length was compared just above; TypeScript cannot carry it into the mapped tuple.
  return inputs as Named<T, N>
}

/** The one dtype of all `types`. @throws DTypeError where they differ */
export function sameDType(who: string, names: readonly string[], types: readonly ValueType[]): DType {
  const first = types[0]?.dtype ?? 'float32'
  if (types.some((t) => t.dtype !== first)) {
    const list = types.map((t, i) => `${names[i] ?? `input ${i}`} is ${t.dtype}`).join(', ')
    throw new DTypeError(`${who}: dtypes differ: ${list}; cast one of them`)
  }
  return first
}

/** Throws unless `value` is an integer in [min, max]. */
export function checkInt(who: string, what: string, value: number, min: number = Number.MIN_SAFE_INTEGER, max: number = Number.MAX_SAFE_INTEGER): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return
  const low = min === Number.MIN_SAFE_INTEGER ? '' : ` >= ${min}`
  const high = max === Number.MAX_SAFE_INTEGER ? '' : ` <= ${max}`
  throw new ShapeError(`${who}: ${what}=${String(value)} must be an integer${low}${low && high ? ' and' : ''}${high}`)
}

/** Throws unless `values` is a list of `length` integers, each at least `min`. */
export function checkInts(who: string, what: string, values: readonly number[], length: number, min?: number): void {
  if (!Array.isArray(values) || values.length !== length) {
    throw new ShapeError(`${who}: ${what} must have ${length} element${length === 1 ? '' : 's'}, got ${formatList(values)}`)
  }
  values.forEach((v, i) => {
    checkInt(who, `${what}[${i}]`, v, min)
  })
}

/** Throws unless `axis` is an axis of a tensor of rank `rank`, counted from the front (attributes are normalised). */
export function checkAxis(who: string, axis: number, rank: number): void {
  if (Number.isInteger(axis) && axis >= 0 && axis < rank) return
  const range = rank === 0 ? 'a scalar has no axes' : `it must be an integer from 0 to ${rank - 1}`
  throw new ShapeError(`${who}: axis=${String(axis)} is not an axis of a tensor of rank ${rank}: ${range}`)
}

/** Throws unless `axes` are axes of a tensor of rank `rank`, ascending, none twice. */
export function checkAxes(who: string, axes: readonly number[], rank: number): void {
  if (!Array.isArray(axes)) throw new ShapeError(`${who}: axes must be a list of integers, got ${String(axes)}`)
  axes.forEach((axis, i) => {
    checkAxis(who, axis, rank)
    if (i > 0 && axis <= (axes[i - 1] ?? -1)) throw new ShapeError(`${who}: axes ${formatList(axes)} must ascend, none twice`)
  })
}

/** Throws unless `value` can be held by `dtype`: any number in a float, an integer in int32, 0 or 1 in a bool. */
export function checkValue(who: string, what: string, value: number, dtype: DType): void {
  const fits = typeof value === 'number' && holds[dtype](value)
  if (!fits) throw new ValueError(`${who}: ${what}=${String(value)} is not a value of ${dtype}`)
}

const holds: { readonly [D in DType]: (value: number) => boolean } = {
  float32: () => true,
  float16: () => true,
  int32: (v) => (v | 0) === v,
  bool: (v) => v === 0 || v === 1,
}

/** Throws unless `value` is true or false. */
export function checkFlag(who: string, what: string, value: boolean): void {
  if (typeof value !== 'boolean') throw new ValueError(`${who}: ${what} must be true or false, got ${String(value)}`)
}

/** The dimension at a checked axis. */
export function dimAt(shape: Shape, axis: number): Dim {
  const d = shape[axis]
  if (d === undefined) throw new ShapeError(`shape: ${formatShape(shape)} has no axis ${axis}`)
  return d
}

function formatList(values: unknown): string {
  return Array.isArray(values) ? `[${values.join(', ')}]` : String(values)
}
