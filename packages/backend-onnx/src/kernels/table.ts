// The table of plain kernels: one for every op.

import type { KernelTable } from '../lowering.ts'
import { convKernels } from './conv.ts'
import { dynamicConvKernels } from './dynamicConv.ts'
import { elementwiseKernels } from './elementwise.ts'
import { matmulKernels } from './matmul.ts'
import { normKernels } from './norm.ts'
import { poolKernels } from './pool.ts'
import { reduceKernels } from './reduce.ts'
import { resizeKernels } from './resize.ts'
import { shapeKernels } from './shape.ts'

/** Every op on plain (NCHW, row-major) values. */
export const plainKernels: KernelTable = {
  ...shapeKernels,
  ...elementwiseKernels,
  ...reduceKernels,
  ...matmulKernels,
  ...convKernels,
  ...poolKernels,
  ...normKernels,
  ...resizeKernels,
  ...dynamicConvKernels,
} satisfies KernelTable
