// The engine `GpuComposed` for the conformance suite: --backend ./packages/backend-tfjs/src/testing/tfjsGpuComposed.ts

import type { Backend } from '@dynconv/core'
import { tfjs } from '../backend.ts'

/** Starts it. */
export const backend = (): Promise<Backend> => tfjs({ engine: 'tfjs-node-gpu', executor: 'composed' })
