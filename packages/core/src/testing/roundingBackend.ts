// The oracle with every result rounded to its dtype, as engines do: for tests of what rounding and overflow bring about. Not published.

import type { Backend } from '../backend/contract.ts'
import { kernelBackend } from '../backend/kernelBackend.ts'
import type { RefTensor } from '../ops/define.ts'
import { toRef } from '../reference/evaluate.ts'
import { referenceKernels } from '../reference/kernels.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'

/** The backend. */
export function roundingBackend(): Backend {
  return kernelBackend<RefTensor>({
    name: 'rounding',
    capabilities: { dtypes: { float32: 'arithmetic', float16: 'arithmetic', int32: 'arithmetic', bool: 'arithmetic' }, device: 'float64, rounded' },
    kernels: referenceKernels(({ shape, data }, dtype) => toRef(fromNumbers(dtype, shape, data))),
    upload: toRef,
    download: (value, { dtype, shape }) => fromNumbers(dtype, shape, value.data),
  })
}
