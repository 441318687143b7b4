// The oracle as a backend: every op through its own float64 `reference`, rounded to its dtype only where values leave (the
// outputs) and where they stay (the states). For tests, for checking other engines, and for machines that have none. Slow.

import type { Backend } from '../backend/contract.ts'
import { kernelBackend } from '../backend/kernelBackend.ts'
import type { RefTensor } from '../ops/define.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'
import { toRef } from './evaluate.ts'
import { referenceKernels } from './kernels.ts'

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
