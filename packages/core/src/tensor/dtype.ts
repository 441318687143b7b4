// Element types and their host storage. float16 is stored as its 16 bits (Uint16Array): Node 20 has no Float16Array.

import { DTypeError } from '../backend/errors.ts'

/** The host storage of each element type. */
export interface DataOf {
  readonly float32: Float32Array
  readonly float16: Uint16Array
  readonly int32: Int32Array
  readonly bool: Uint8Array
}

/** An element type. */
export type DType = keyof DataOf

/** Every element type. */
export const dtypes: readonly DType[] = ['float32', 'float16', 'int32', 'bool']

const bytes = { float32: 4, float16: 2, int32: 4, bool: 1 } as const satisfies Record<DType, number>

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
  return bytes[dtype]
}

/** Whether `dtype` has gradients. */
export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float16'
}

const allocators: { readonly [D in DType]: (length: number) => DataOf[D] } = {
  float32: (length) => new Float32Array(length),
  float16: (length) => new Uint16Array(length),
  int32: (length) => new Int32Array(length),
  bool: (length) => new Uint8Array(length),
}

/** Zeroed storage for `length` elements. */
export function allocate<D extends DType>(dtype: D, length: number): DataOf[D] {
  return allocators[dtype](length)
}

/** Throws unless `dtype` is one of `allowed`. */
export function checkDType(who: string, what: string, dtype: DType, allowed: readonly DType[]): void {
  if (!allowed.includes(dtype)) throw new DTypeError(`${who}: ${what} must be ${allowed.join(' or ')}, got ${dtype}`)
}

// IEEE 754 binary16 <-> binary64. A half has 1 sign, 5 exponent (bias 15) and 10 fraction bits.

const scratch = new DataView(new ArrayBuffer(8))

/** The nearest half (ties to even) of `value`, as its 16 bits. */
export function float16Bits(value: number): number {
  scratch.setFloat64(0, value)
  const high = scratch.getUint32(0)
  const sign = (high >>> 16) & 0x8000
  const magnitude = Math.abs(value)
  if (Number.isNaN(value)) return sign | 0x7e00
  if (magnitude >= 65520) return sign | 0x7c00
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24)
  const exponent = Math.floor(Math.log2(magnitude))
  // log2 may round up across a power of two: correct it by the exact comparison.
  const e = magnitude < 2 ** exponent ? exponent - 1 : magnitude >= 2 ** (exponent + 1) ? exponent + 1 : exponent
  // A fraction that rounds up to 1024 carries into the exponent by plain addition.
  return sign | (((e + 15) << 10) + roundEven((magnitude / 2 ** e - 1) * 1024))
}

/** The value of a half given as its 16 bits. */
export function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  if (exponent === 0) return sign * fraction * 2 ** -24
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

function roundEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1
  return floor
}
