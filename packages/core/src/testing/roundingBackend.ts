// The oracle with every result rounded to its dtype, as engines do: for tests of what rounding and overflow bring about. Not published.

import type { Backend } from '../backend/contract.ts'
import type { Kernel, KernelTable } from '../backend/interpret.ts'
import { kernelBackend } from '../backend/kernelBackend.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, RefTensor } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { toRef } from '../reference/evaluate.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'

/** The backend. */
export function roundingBackend(): Backend {
  const kernelOf =
    (def: OpDef<OpName>): Kernel<RefTensor, OpName> =>
    (attrs, inputs, outputs) => {
      const results = [def.reference(attrs, inputs, outputs)].flat()
      return results.map(({ shape, data }, i) => toRef(fromNumbers(outputs[i]?.dtype ?? 'float32', shape, data)))
    }
  return kernelBackend<RefTensor>({
    name: 'rounding',
    capabilities: { dtypes: { float32: 'arithmetic', float16: 'arithmetic', int32: 'arithmetic', bool: 'arithmetic' }, device: 'float64, rounded' },
    // Boundary: each row gets the kernel of its own op; fromEntries cannot say so.
    kernels: Object.fromEntries(Object.entries(ops).map(([name, def]) => [name, kernelOf(def as OpDef<OpName>)])) as KernelTable<RefTensor>,
    upload: toRef,
    download: (value, { dtype, shape }) => fromNumbers(dtype, shape, value.data),
  })
}
