// The table of all ops: the one place that knows every family.

import { convOps } from './conv.ts'
import { customOps } from './custom.ts'
import type { OpTable } from './define.ts'
import { dynamicConvOps } from './dynamicConv.ts'
import { elementwiseOps } from './elementwise.ts'
import { gatherOps } from './gather.ts'
import { matmulOps } from './matmul.ts'
import { normOps } from './norm.ts'
import { poolOps } from './pool.ts'
import { reduceOps } from './reduce.ts'
import { resizeOps } from './resize.ts'
import { shapeOps } from './shape.ts'
import { sourceOps } from './source.ts'

/** Every op, by name. */
export const ops: OpTable = {
  ...sourceOps,
  ...elementwiseOps,
  ...customOps,
  ...shapeOps,
  ...gatherOps,
  ...reduceOps,
  ...matmulOps,
  ...convOps,
  ...poolOps,
  ...normOps,
  ...resizeOps,
  ...dynamicConvOps,
} satisfies OpTable
