// The engine `cpu` for the conformance suite: --backend ./packages/backend-tfjs/src/testing/tfjsCpu.ts

import type { Backend } from '@dynconv/core'
import { tfjs } from '../backend.ts'

/** Starts it. */
export const backend = (): Promise<Backend> => tfjs({ engine: 'cpu' })
