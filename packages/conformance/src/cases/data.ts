// The numbers that cases run on: the same on every machine, and chosen so that a wrong element shows.

import { type DType, fromNumbers, type HostTensor, Random, sizeOf, type StaticShape } from '@dynconv/core'

/** An input of a case. */
export interface Data {
  readonly dtype: DType
  readonly shape: StaticShape
  /** What is special about the numbers; part of the case's id. */
  readonly note?: string
  /** The numbers; inputs of one case differ by `stream`. */
  readonly make: (stream: number) => HostTensor
}

function data(dtype: DType, shape: StaticShape, values: (stream: number) => ArrayLike<number>, note?: string): Data {
  return { dtype, shape, ...(note === undefined ? {} : { note }), make: (stream) => fromNumbers(dtype, shape, values(stream)) }
}

/**
 * Different numbers, equally far apart between `low` and `high`, in random order, none of them 0: no ties, no kinks, and no
 * two elements (of one input, or of two) that could be taken for one another.
 */
export function spread(shape: StaticShape, options: { readonly low?: number; readonly high?: number; readonly dtype?: DType } = {}): Data {
  const { low = -2, high = 2, dtype = 'float32' } = options
  const count = sizeOf(shape)
  const step = (high - low) / Math.max(1, count)
  // Between a seventh and a third of a step, by golden sections: 0 stands at a whole or half step.
  const offset = (stream: number): number => 0.15 + 0.2 * ((stream * 0.618034) % 1)
  return data(dtype, shape, (stream) => new Random(stream, count).shuffle(Array.from({ length: count }, (_, i) => low + (i + offset(stream)) * step)))
}

/** Like `spread`, above 0. */
export function positive(shape: StaticShape, dtype: DType = 'float32'): Data {
  return spread(shape, { low: 0.2, high: 2.2, dtype })
}

/** Like `spread`, far from 0 on one side: what a careless variance cancels on. */
export function shifted(shape: StaticShape, by: number): Data {
  return { ...spread(shape, { low: by - 1, high: by + 1 }), note: `around ${by}` }
}

/** Integers from `low` to `high`: exact in every dtype, with many ties. */
export function integers(shape: StaticShape, options: { readonly low?: number; readonly high?: number; readonly dtype?: DType } = {}): Data {
  const { low = -2, high = 2, dtype = 'float32' } = options
  const make = (stream: number): ArrayLike<number> => {
    const random = new Random(stream, 7)
    return Array.from({ length: sizeOf(shape) }, () => low + random.int(high - low + 1))
  }
  return data(dtype, shape, make, dtype === 'float32' || dtype === 'float16' ? 'ties' : undefined)
}

/** int32 indices below `size`. */
export function indices(shape: StaticShape, size: number): Data {
  return integers(shape, { low: 0, high: size - 1, dtype: 'int32' })
}

/** bool, both values. */
export function bits(shape: StaticShape): Data {
  return integers(shape, { low: 0, high: 1, dtype: 'bool' })
}

/** These very numbers. */
export function exactly(values: readonly number[], shape: StaticShape, note: string, dtype: DType = 'float32'): Data {
  return data(dtype, shape, () => values, note)
}

/** All elements `value`. */
export function filledWith(value: number, shape: StaticShape, dtype: DType = 'float32'): Data {
  return data(dtype, shape, () => new Float64Array(sizeOf(shape)).fill(value), `all ${value}`)
}

/** `base` with some elements replaced: a NaN in an image, say. */
export function withElements(base: Data, replaced: Readonly<Record<number, number>>, note: string): Data {
  return {
    ...base,
    note,
    make: (stream) => {
      const t = base.make(stream)
      const exact = fromNumbers(t.dtype, [Object.keys(replaced).length], Object.values(replaced))
      Object.keys(replaced).forEach((at, i) => {
        t.data[Number(at)] = exact.data[i] ?? 0
      })
      return t
    },
  }
}

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number

/** NaN, infinities, zeros of both signs, the smallest and largest normal numbers, and ordinary ones between. */
export const specialNumbers: readonly number[] = [nan, infinity, -infinity, 0, -0, 1, -1, 0.5, -2.5, 3, 1e30, -1e30, 1.2e-38, 3e38]

/** `specialNumbers` as a vector. */
export function special(shape: StaticShape = [specialNumbers.length]): Data {
  return exactly(specialNumbers, shape, 'special')
}
