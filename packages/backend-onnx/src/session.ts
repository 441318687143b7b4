// Loads ONNX Runtime (an optional peer) and makes sessions with the options that were measured best. Nothing here knows
// the graph.

import { availableParallelism } from 'node:os'
import { BackendUnavailableError } from '@dynconv/core'
import type * as Ort from 'onnxruntime-node'

/** The module `onnxruntime-node`. */
export type OrtModule = typeof Ort
/** A loaded model. */
export type Session = Ort.InferenceSession
/** A tensor of ONNX Runtime. */
export type OrtTensor = Ort.Tensor

/** How hard the engine rewrites a model when it loads it. */
export type Optimisation = (typeof optimisations)[number]

/** From the least to the most. */
export const optimisations = ['disabled', 'basic', 'extended', 'all'] as const

/** How to make a session. */
export interface SessionOptions {
  /**
   * 'basic' (the default) suits a training step, whose graph is explicit already: higher levels take twice the time to
   * load and win nothing. 'all' lets the engine use its blocked layout where weights are constants (inference).
   */
  readonly optimisation?: Optimisation
  /** Whether constants are kept as products read them fastest; true unless given. */
  readonly prepack?: boolean
  /** Writes a profile beside this path (for people who work on the backend). */
  readonly profile?: string
}

/** The engine, loaded. */
export interface Engine {
  readonly ort: OrtModule
  readonly version: string
  readonly threads: number
  createSession(model: Uint8Array, options?: SessionOptions): Promise<Session>
}

/**
 * Loads ONNX Runtime.
 *
 * @param threads how many threads a session may use; all cores unless given
 * @throws BackendUnavailableError when it is not installed or does not load
 */
export async function loadEngine(threads: number = availableParallelism()): Promise<Engine> {
  if (!Number.isInteger(threads) || threads < 1) throw new RangeError(`onnx: threads=${threads} must be an integer >= 1`)
  const ort = await importOrt()
  return {
    ort,
    version: ort.env.versions.node ?? 'unknown',
    threads,
    createSession: (model, options = {}) => ort.InferenceSession.create(model, sessionOptions(threads, options)),
  }
}

async function importOrt(): Promise<OrtModule> {
  try {
    return await import('onnxruntime-node')
  } catch (cause) {
    throw unavailable(cause)
  }
}

/** What to tell a user whose `import('onnxruntime-node')` failed with `cause`. */
export function unavailable(cause: unknown): BackendUnavailableError {
  const message = cause instanceof Error ? cause.message : String(cause)
  const missing = /Cannot find (package|module) 'onnxruntime-node'/.test(message)
  const reason = missing ? 'onnxruntime-node is not installed' : `onnxruntime-node does not load (${message})`
  return new BackendUnavailableError(`onnx: ${reason}; run: npm install onnxruntime-node@latest`, { cause })
}

function sessionOptions(threads: number, options: SessionOptions): Ort.InferenceSession.SessionOptions {
  return {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: options.optimisation ?? 'basic',
    // Memory patterns plan one block for all intermediates: 1554 instead of 911 MB for a training step, at the same speed.
    enableMemPattern: false,
    // Only what is fatal: errors come back as exceptions, and would be printed a second time.
    logSeverityLevel: 4,
    extra: {
      // Threads of an idle session that spin steal the cores from the one that runs (3x slower convolutions).
      session: { force_spinning_stop: '1', ...(options.prepack === false ? { disable_prepacking: '1' } : {}) },
      // Without a limit, a zero gradient that fills an activation becomes a constant of that size that the session keeps.
      optimization: { constant_folding_max_output_size_in_bytes: String(2 ** 20) },
    },
    ...(options.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profile }),
  }
}
