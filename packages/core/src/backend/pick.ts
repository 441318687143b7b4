// The first engine of a list that works, and why those before it did not.

import type { Backend } from './contract.ts'
import { BackendUnavailableError } from './errors.ts'

/** An engine, one that is starting, or how to start one (called only when all before it were refused). */
export type BackendCandidate = Backend | Promise<Backend> | (() => Backend | Promise<Backend>)

/** Why a candidate was passed over. */
export interface Refusal {
  /** Its place in the list, counted from 0. */
  readonly index: number
  /** What its start threw. */
  readonly error: unknown
  /** The same as a sentence. */
  readonly reason: string
}

const refusals = new WeakMap<Backend, readonly Refusal[]>()

/**
 * The first of `candidates` that starts. Engines that were started here as promises and lost are disposed once they are
 * up; pass functions to start none in vain.
 *
 * @example
 * const backend = await pickBackend([() => webgpu(), () => onnx(), () => tfjs()])
 * for (const { reason } of refusalsOf(backend)) console.warn(reason)
 * @throws BackendUnavailableError that lists the reason of each, when none starts
 */
export async function pickBackend(candidates: readonly BackendCandidate[]): Promise<Backend> {
  const started = candidates.filter((c) => c instanceof Promise)
  // Nobody else may be listening to those that fail while others are tried.
  for (const promise of started) promise.catch(() => undefined)
  const refused: Refusal[] = []
  for (const [index, candidate] of candidates.entries()) {
    try {
      const backend = await (typeof candidate === 'function' ? candidate() : candidate)
      refusals.set(backend, refused)
      void disposeOthers(started, backend)
      return backend
    } catch (error) {
      refused.push({ index, error, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  const list = refused.map(({ index, reason }) => `\n  ${index + 1}. ${reason}`).join('')
  const message = candidates.length === 0 ? 'pickBackend: the list of candidates is empty' : `pickBackend: none of ${candidates.length} backends is available:${list}`
  throw new BackendUnavailableError(message, { cause: new AggregateError(refused.map((r) => r.error), message) })
}

/** Why `pickBackend` passed over the candidates before `backend`; empty for the first, or for one that it did not pick. */
export function refusalsOf(backend: Backend): readonly Refusal[] {
  return refusals.get(backend) ?? []
}

async function disposeOthers(started: readonly Promise<Backend>[], chosen: Backend): Promise<void> {
  const settled = await Promise.allSettled(started)
  const others = new Set(settled.flatMap((r) => (r.status === 'fulfilled' && r.value !== chosen ? [r.value] : [])))
  // An engine that fails even to shut down is of no concern to whoever uses another one.
  await Promise.allSettled([...others].map((backend) => backend.dispose()))
}
