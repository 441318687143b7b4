// The executor of whole programs on TensorFlow's native library.

import { BackendUnavailableError } from '@dynconv/core'
import type { Tf } from '../composed/tf.ts'
import type { Executor } from '../executor.ts'
import type { MemoryLedger } from '../memory.ts'

/** One TensorFlow graph for each graph. */
export async function programExecutor(_tf: Tf, _ledger: MemoryLedger): Promise<Executor> {
  throw new BackendUnavailableError("tfjs: executor 'program' is not there yet; use executor 'composed'")
}
