// The engines that a command can name: each is loaded only when it is asked for.

import { type Backend, ValueError } from '@dynconv/core'

interface Engine {
  /** What may follow the name after a colon. */
  readonly variants: readonly string[]
  /** Whether it lets its threads be chosen. */
  readonly takesThreads: boolean
  readonly start: (variant: string | undefined, threads: number | undefined) => Promise<Backend>
}

// As in @dynconv/backend-tfjs, which is only loaded when it is used.
const tfjsEngines = ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'] as const

const engines: { readonly [name: string]: Engine } = {
  onnx: {
    variants: [],
    takesThreads: true,
    start: async (_variant, threads) => (await import('@dynconv/backend-onnx')).onnx(threads === undefined ? {} : { threads }),
  },
  tfjs: {
    variants: tfjsEngines,
    takesThreads: false,
    start: async (variant) => {
      const engine = tfjsEngines.find((name) => name === variant)
      return (await import('@dynconv/backend-tfjs')).tfjs(engine ? { engine } : {})
    },
  },
  webgpu: { variants: [], takesThreads: false, start: async () => (await import('@dynconv/backend-webgpu')).webgpu() },
  reference: { variants: [], takesThreads: false, start: async () => (await import('@dynconv/core')).referenceBackend() },
}

/** What `--backend` takes: `onnx`, `tfjs` (the first engine of TensorFlow.js that works), `tfjs:wasm` (that one), ... */
export const backendNames: readonly string[] = Object.entries(engines).flatMap(([name, { variants }]) => [name, ...variants.map((variant) => `${name}:${variant}`)])

/** How to start an engine. */
export interface BackendOptions {
  /** One of `backendNames`. */
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
export async function withBackend<T>(options: BackendOptions, use: (backend: Backend) => Promise<T>): Promise<T> {
  const engine = await start(options)
  try {
    return await use(engine)
  } finally {
    await engine.dispose()
  }
}

function start({ backend, threads }: BackendOptions): Promise<Backend> {
  const [name = '', variant] = backend.split(':')
  const engine = Object.hasOwn(engines, name) ? engines[name] : undefined
  if (!engine || (variant !== undefined && !engine.variants.includes(variant))) throw new ValueError(`--backend must be one of ${backendNames.join(', ')}; got '${backend}'`)
  if (threads !== undefined && !engine.takesThreads) throw new ValueError(`--threads: the engine '${backend}' does not let its threads be chosen; leave it out`)
  return engine.start(variant, threads)
}
