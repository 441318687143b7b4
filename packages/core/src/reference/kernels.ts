// The oracle's kernels: every op through its own float64 `reference`.

import type { Kernel, KernelTable } from '../backend/interpret.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, RefTensor } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import type { DType } from '../tensor/dtype.ts'

/** The table; `round`, where it is given, takes each result to its dtype. */
export function referenceKernels(round?: (result: RefTensor, dtype: DType) => RefTensor): KernelTable<RefTensor> {
  const kernelOf =
    (def: OpDef<OpName>): Kernel<RefTensor, OpName> =>
    (attrs, inputs, outputs) => {
      const results = def.reference(attrs, inputs, outputs)
      return round ? [results].flat().map((result, i) => round(result, outputs[i]?.dtype ?? 'float32')) : results
    }
  // Boundary: each row gets the kernel of its own op; fromEntries cannot say so.
  return Object.fromEntries(Object.entries(ops).map(([name, def]) => [name, kernelOf(def as OpDef<OpName>)])) as KernelTable<RefTensor>
}
