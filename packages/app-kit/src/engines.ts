// Our engines by name, each loaded only when it is asked for: `onnx`, `tfjs` (the first engine of TensorFlow.js that works),
// `tfjs:wasm` (one of them), `webgpu`, and core's oracle.

import { type Backend, ValueError } from '@dynconv/core'

/** How to start an engine. */
export interface EngineOptions {
  /** Threads, where the engine lets them be chosen; as many as it likes unless given. */
  readonly threads?: number | undefined
}

/** An engine that runs. */
export interface RunningEngine {
  /** As it was asked for: `tfjs:wasm`. */
  readonly name: string
  readonly backend: Backend
  /** Whether it runs on the machine's own processors, and not on a card. */
  readonly host: boolean
}

interface Engine {
  /** What may follow the name and a colon. */
  readonly variants: readonly string[]
  readonly host: boolean
  /** Whether each program that starts it may choose its threads. */
  readonly takesThreads: boolean
  readonly start: (variant: string | undefined, options: EngineOptions) => Promise<Backend>
}

// As in @dynconv/backend-tfjs, which is only loaded when it is used.
const tfjsEngines = ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'] as const

const engines: { readonly [name: string]: Engine } = {
  onnx: {
    variants: ['plain'],
    host: true,
    takesThreads: true,
    start: async (variant, { threads }) => (await import('@dynconv/backend-onnx')).onnx({ ...(threads === undefined ? {} : { threads }), ...(variant === 'plain' ? { layout: 'plain' as const } : {}) }),
  },
  tfjs: {
    variants: tfjsEngines,
    host: true,
    takesThreads: false,
    start: async (variant, { threads }) => {
      // Read by TensorFlow's native library when it is loaded; its other engines have one thread.
      if (threads !== undefined) process.env['TF_NUM_INTRAOP_THREADS'] ??= String(threads)
      const engine = tfjsEngines.find((name) => name === variant)
      return (await import('@dynconv/backend-tfjs')).tfjs(engine ? { engine } : {})
    },
  },
  webgpu: { variants: [], host: false, takesThreads: false, start: async () => (await import('@dynconv/backend-webgpu')).webgpu() },
  reference: { variants: [], host: true, takesThreads: false, start: async () => (await import('@dynconv/core')).referenceBackend() },
}

/** What `--backend` takes. */
export const engineNames: readonly string[] = Object.entries(engines).flatMap(([name, { variants }]) => [name, ...variants.map((variant) => `${name}:${variant}`)])

/** Whether the engine called `name` lets its threads be chosen. @throws ValueError for an unknown name */
export function takesThreads(name: string): boolean {
  return engineOf(name).engine.takesThreads
}

/**
 * Starts the engine called `name`.
 *
 * @throws ValueError for an unknown name; BackendUnavailableError that says what to install
 */
export async function startEngine(name: string, options: EngineOptions = {}): Promise<RunningEngine> {
  const { engine, variant } = engineOf(name)
  return { name, backend: await engine.start(variant, options), host: engine.host }
}

/** Starts several; when one fails, those before it are freed. @throws like `startEngine` */
export async function startEngines(names: readonly string[], options: EngineOptions = {}): Promise<readonly RunningEngine[]> {
  const running: RunningEngine[] = []
  try {
    for (const name of names) running.push(await startEngine(name, options))
    return running
  } catch (error) {
    await stopEngines(running)
    throw error
  }
}

/** Frees engines. */
export async function stopEngines(running: readonly RunningEngine[]): Promise<void> {
  for (const { backend } of running) await backend.dispose()
}

function engineOf(name: string): { readonly engine: Engine; readonly variant: string | undefined } {
  const [base = '', variant] = name.split(':')
  const engine = Object.hasOwn(engines, base) ? engines[base] : undefined
  if (!engine || (variant !== undefined && !engine.variants.includes(variant))) throw new ValueError(`--backend must be one of ${engineNames.join(', ')}; got '${name}'`)
  return { engine, variant }
}
