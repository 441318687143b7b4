// A 2-D transform m X m^T as one product: with X's elements in a column, it is the Kronecker square of m times it.

import { hostTensor } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'

/** The Kronecker square of `m` [p, q], a constant [p p, q q]. */
export function kroneckerSquare(model: ModelBuilder, m: readonly (readonly number[])[]): string {
  const values = m.flatMap((a) => m.map((b) => a.flatMap((x) => b.map((y) => x * y)))).flat()
  const rows = m.length ** 2
  return model.constant(hostTensor('float32', [rows, values.length / rows], Float32Array.from(values)))
}
