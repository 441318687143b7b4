// Our engines by name, each loaded only when it is asked for: `onnx`, `tfjs` (the first engine of TensorFlow.js that works),
// `tfjs:wasm` (one of them), `webgpu`.

import { type Backend, ValueError } from '@dynconv/core'

/** How to start an engine. */
export interface EngineOptions {
  /** Threads, where the engine lets them be chosen. */
  readonly threads: number
}

interface EngineEntry {
  /** What may follow the name and a colon. */
  readonly variants: readonly string[]
  /** Whether it runs on the machine's own processors, and not on a card. */
  readonly host: boolean
  readonly start: (variant: string | undefined, options: EngineOptions) => Promise<Backend>
}

// As in @dynconv/backend-tfjs, which is only loaded when it is used.
const tfjsEngines = ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'] as const

const engines = {
  onnx: {
    variants: ['plain'],
    host: true,
    start: async (variant, { threads }) => (await import('@dynconv/backend-onnx')).onnx({ threads, ...(variant === 'plain' ? { layout: 'plain' as const } : {}) }),
  },
  tfjs: {
    variants: tfjsEngines,
    host: true,
    start: async (variant, { threads }) => {
      // Read by TensorFlow when it starts.
      process.env.TF_NUM_INTRAOP_THREADS ??= String(threads)
      const engine = tfjsEngines.find((name) => name === variant)
      return (await import('@dynconv/backend-tfjs')).tfjs(engine ? { engine } : {})
    },
  },
  webgpu: {
    variants: [],
    host: false,
    start: async () => (await import('@dynconv/backend-webgpu')).webgpu(),
  },
} satisfies { readonly [name: string]: EngineEntry }

/** The names that `--backend` takes. */
export const engineNames: readonly string[] = Object.entries(engines).flatMap(([name, entry]) => [name, ...entry.variants.map((v) => `${name}:${v}`)])

/** An engine that runs. */
export interface RunningEngine {
  /** As it was asked for: `tfjs:wasm`. */
  readonly name: string
  readonly backend: Backend
  /** Whether it runs on the machine's own processors. */
  readonly host: boolean
}

/**
 * Starts the engine called `name`.
 *
 * @throws ValueError for an unknown name; BackendUnavailableError that says what to install
 */
export async function startEngine(name: string, options: EngineOptions): Promise<RunningEngine> {
  const [base = '', variant] = name.split(':')
  const entry: EngineEntry | undefined = Object.hasOwn(engines, base) ? engines[base as keyof typeof engines] : undefined
  if (!entry || (variant !== undefined && !entry.variants.includes(variant))) throw new ValueError(`--backend must be one of ${engineNames.join(', ')}; got '${name}'`)
  return { name, backend: await entry.start(variant, options), host: entry.host }
}

/** Starts several; when one fails, those before it are freed. @throws like `startEngine` */
export async function startEngines(names: readonly string[], options: EngineOptions): Promise<readonly RunningEngine[]> {
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
