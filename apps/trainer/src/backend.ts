// An engine for as long as a command needs it.

import { startEngine, stopEngines, takesThreads } from '@dynconv/app-kit/engines'
import { type Backend, ValueError } from '@dynconv/core'

/** How to start an engine. */
export interface BackendOptions {
  /** One of `engineNames`. */
  readonly backend: string
  /** Threads; as many as the engine likes unless given. */
  readonly threads?: number | undefined
}

/**
 * Runs `use` with an engine, which is freed afterwards.
 *
 * @throws ValueError for an unknown name, or for threads that the engine does not let one choose; BackendUnavailableError that
 * says what to install
 */
export async function withBackend<T>({ backend, threads }: BackendOptions, use: (backend: Backend) => Promise<T>): Promise<T> {
  if (!takesThreads(backend) && threads !== undefined) throw new ValueError(`--threads: the engine '${backend}' does not let its threads be chosen; leave it out`)
  const engine = await startEngine(backend, { threads })
  try {
    return await use(engine.backend)
  } finally {
    await stopEngines([engine])
  }
}
