// Floating-point formats: how far apart neighbouring numbers are, and rounding to a dtype. The unit of every tolerance.

import { type DType, fromNumbers, toFloat64 } from '@dynconv/core'

/** A floating-point dtype. */
export type FloatType = Extract<DType, 'float32' | 'float16'>

interface Format {
  /** Bits of the fraction. */
  readonly fraction: number
  /** The exponent of the smallest normal number. */
  readonly minExponent: number
  /** The largest finite number. */
  readonly largest: number
}

const formats: { readonly [D in FloatType]: Format } = {
  float32: { fraction: 23, minExponent: -126, largest: (2 - 2 ** -23) * 2 ** 127 },
  float16: { fraction: 10, minExponent: -14, largest: 65504 },
}

/** Whether `dtype` is a floating-point format. */
export function isFloatType(dtype: DType): dtype is FloatType {
  return dtype === 'float32' || dtype === 'float16'
}

const scratch = new DataView(new ArrayBuffer(8))

// floor(log2(value)) of a positive normal float64: its exponent bits.
function exponentOf(value: number): number {
  scratch.setFloat64(0, value)
  return ((scratch.getUint32(0) >>> 20) & 0x7ff) - 1023
}

/** One unit in the last place: the distance from |value| to the next number of `dtype`. Infinity and NaN give NaN. */
export function spacing(dtype: FloatType, value: number): number {
  if (!Number.isFinite(value)) return Number.NaN
  const { fraction, minExponent } = formats[dtype]
  const magnitude = Math.abs(value)
  const exponent = magnitude < 2 ** minExponent ? minExponent : exponentOf(magnitude)
  return 2 ** (exponent - fraction)
}

/** The smallest normal number: below it an engine may give 0 (flush to zero). */
export function smallestNormal(dtype: FloatType): number {
  return 2 ** formats[dtype].minExponent
}

/** Above this a result rounds to infinity. */
export function overflowAt(dtype: FloatType): number {
  const { largest } = formats[dtype]
  return largest + spacing(dtype, largest) / 2
}

/** `value` rounded to `dtype`. */
export function roundTo(dtype: DType, value: number): number {
  if (dtype === 'float32') return Math.fround(value)
  return toFloat64(fromNumbers(dtype, [], [value]))[0] ?? Number.NaN
}
