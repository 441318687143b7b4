// What the tests of this package run and compare: the suite's comparison by roundings under short names, and what only they need.

import { randn, type TensorFunction } from '@dynconv/conformance'
import { float16Bits, float16Value, fromNumbers, type Graph, type HostTensor, type StaticShape, trace } from '@dynconv/core'

export { compareRounded as compare, randint, randn, type RoundedCase as Case, roundedDifference as difference, type TensorFunction } from '@dynconv/conformance'

/** Where a result differs, or undefined. */
export type Difference = string | undefined

/** The graph of a case, as it is (no passes). */
export function graphOf(fn: TensorFunction, inputs: readonly HostTensor[]): Graph {
  return trace(fn, { inputs: inputs.map(({ dtype, shape }) => ({ dtype, shape })) }).graph
}

/** Normal numbers in float32 that float16 holds exactly. */
export function halves(shape: StaticShape, seed: number = 1): HostTensor {
  const { data } = randn(shape, seed)
  return fromNumbers('float32', shape, Float64Array.from(data, (v) => float16Value(float16Bits(v))))
}
