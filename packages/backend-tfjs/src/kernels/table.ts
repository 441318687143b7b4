// The kernels that both executors share. Ops that are missing here are decomposed by core: the softmaxes, the norms, the
// pools, resize, clamp, oneHot and the dynamic convolutions.

import type { KernelTable } from '@dynconv/core'
import type { Primitives, Value } from '../primitives.ts'
import { convKernels } from './conv.ts'
import { elementwiseKernels } from './elementwise.ts'
import { reduceKernels } from './reduce.ts'
import { filled, product } from './shared.ts'
import { shapeKernels } from './shape.ts'

/** The kernels over `p`. Empty results are made, not computed: many of the engines' kernels refuse them. */
export function kernelTable<V extends Value>(p: Primitives<V>): KernelTable<V> {
  const table: KernelTable<V> = { ...elementwiseKernels(p), ...shapeKernels(p), ...reduceKernels(p), ...convKernels(p) }
  const guarded = Object.entries(table).map(([op, kernel]) => {
    // Boundary: `fromEntries` cannot say that each row keeps the kernel of its own op.
    const run = kernel as (attrs: unknown, inputs: readonly V[], outputs: readonly { readonly dtype: 'float32'; readonly shape: readonly number[] }[]) => V | readonly V[]
    const safe: typeof run = (attrs, inputs, outputs) =>
      op !== 'constant' && outputs.every((t) => product(t.shape) === 0) ? outputs.map((t) => filled(p, 0, t.shape, t.dtype)) : run(attrs, inputs, outputs)
    return [op, safe]
  })
  return Object.fromEntries(guarded) as KernelTable<V>
}
