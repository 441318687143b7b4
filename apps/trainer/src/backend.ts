// The engines that a command can name.

import type { Backend } from '@dynconv/core'

/** An engine's name. */
export type BackendName = 'onnx' | 'reference'

/** The names of the engines. */
export const backendNames: readonly BackendName[] = ['onnx', 'reference']

/** How to start an engine. */
export interface BackendOptions {
  readonly backend: BackendName
  /** Threads; all cores unless given. */
  readonly threads?: number | undefined
}

const starters: { readonly [B in BackendName]: (threads: number | undefined) => Promise<Backend> } = {
  onnx: async (threads) => (await import('@dynconv/backend-onnx')).onnx(threads === undefined ? {} : { threads }),
  reference: async () => (await import('@dynconv/core')).referenceBackend(),
}

/** Runs `use` with an engine, which is freed afterwards. @throws BackendUnavailableError */
export async function withBackend<T>({ backend, threads }: BackendOptions, use: (backend: Backend) => Promise<T>): Promise<T> {
  const engine = await starters[backend](threads)
  try {
    return await use(engine)
  } finally {
    await engine.dispose()
  }
}
