// The oracle as a backend: every op through its own float64 `reference`, rounded to its dtype only where values leave (the
// outputs) and where they stay (the states). For tests, for checking other engines, and for machines that have none. Slow.

import type { Backend } from '../backend/contract.ts'
import type { Kernel, KernelTable } from '../backend/interpret.ts'
import { kernelBackend } from '../backend/kernelBackend.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, RefTensor } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'
import { toRef } from './evaluate.ts'

/**
 * The reference backend: needs nothing, runs everything, slowly and exactly.
 *
 * @example const f = await compile(layer, { backend: referenceBackend(), inputs: [{ shape: [1, 3, 8, 8] }] })
 */
export function referenceBackend(): Backend {
  return kernelBackend<RefTensor>({
    name: 'reference',
    capabilities: {
      dtypes: { float32: 'arithmetic', float16: 'arithmetic', int32: 'arithmetic', bool: 'arithmetic' },
      device: 'float64 in plain JavaScript',
    },
    kernels: referenceKernels(),
    upload: toRef,
    download: (value, { dtype, shape }) => fromNumbers(dtype, shape, value.data),
    wide: true,
  })
}

function referenceKernels(): KernelTable<RefTensor> {
  const kernelOf = (def: OpDef<OpName>): Kernel<RefTensor, OpName> => (attrs, inputs, outputs) => def.reference(attrs, inputs, outputs)
  // Boundary: each row gets the kernel of its own op; fromEntries cannot say so.
  return Object.fromEntries(Object.entries(ops).map(([name, def]) => [name, kernelOf(def as OpDef<OpName>)])) as KernelTable<RefTensor>
}
