// Finds a TensorFlow.js: which engines are tried, in which order, and what to tell when one is not there. What needs Node
// stands in native/load.node.ts.

import { BackendUnavailableError } from '@dynconv/core'
import type { Tf } from './composed/tf.ts'

/** An engine of TensorFlow.js that this package loads by itself. */
export type EngineName = 'tfjs-node-gpu' | 'tfjs-node' | 'wasm' | 'cpu'

/** In the order in which they are tried: the fastest first. */
export const engineNames: readonly EngineName[] = ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu']

/** How to load. What native engines are told holds for the whole process: TensorFlow asks once. */
export interface LoadOptions {
  readonly verbose: boolean
  /** Whether cards may take TF32 for float32 in convolutions and products; false unless given. */
  readonly tf32?: boolean
}

/** A TensorFlow.js with its engine set, and why those before it were passed over. */
export interface LoadedTf {
  readonly tf: Tf
  /** What `tf` calls the engine. */
  readonly engine: string
  readonly refusals: readonly string[]
}

const namesInTf: { readonly [E in EngineName]: string } = { 'tfjs-node-gpu': 'tensorflow', 'tfjs-node': 'tensorflow', wasm: 'wasm', cpu: 'cpu' }

const loaders: { readonly [E in EngineName]: (options: LoadOptions) => Promise<Tf> } = {
  'tfjs-node-gpu': (options) => loadNative('tfjs-node-gpu', options),
  'tfjs-node': (options) => loadNative('tfjs-node', options),
  wasm: async () => {
    const tf = await loadCore()
    await importOr('@tensorflow/tfjs-backend-wasm', () => import('@tensorflow/tfjs-backend-wasm'))
    return started(tf, 'wasm')
  },
  cpu: async () => {
    const tf = await loadCore()
    await importOr('@tensorflow/tfjs-backend-cpu', () => import('@tensorflow/tfjs-backend-cpu'))
    await started(tf, 'cpu')
    // On Node the engine prints an advertisement for tfjs-node at its first use.
    ;(tf.findBackend('cpu') as { firstUse?: boolean }).firstUse = false
    return tf
  },
}

/**
 * Loads `engine`, or the first one that works.
 *
 * @throws BackendUnavailableError with the reason of each
 */
export async function loadTf(engine: EngineName | undefined, options: LoadOptions): Promise<LoadedTf> {
  if (engine !== undefined && !engineNames.includes(engine)) throw new BackendUnavailableError(`tfjs: engine must be ${engineNames.join(', ')}, got ${String(engine)}`)
  const refusals: string[] = []
  for (const name of engine === undefined ? engineNames : [engine]) {
    try {
      return { tf: await loaders[name](options), engine: namesInTf[name], refusals }
    } catch (error) {
      refusals.push(`not ${name}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  throw new BackendUnavailableError(`tfjs: no engine of TensorFlow.js works:${refusals.map((r) => `\n  ${r}`).join('')}`)
}

async function loadNative(name: 'tfjs-node-gpu' | 'tfjs-node', options: LoadOptions): Promise<Tf> {
  if (typeof process === 'undefined' || process.versions?.node === undefined) throw new Error('it runs in Node only')
  const { loadNativeTf } = await import('./native/load.node.ts')
  return loadNativeTf(name, options)
}

function loadCore(): Promise<Tf> {
  return importOr('@tensorflow/tfjs-core', () => import('@tensorflow/tfjs-core'))
}

async function importOr<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    const missing = message.includes('Cannot find') && message.includes(name)
    throw new Error(missing ? `${name} is not installed; run: npm install ${name}@4` : `${name} does not load (${message})`, { cause })
  }
}

async function started(tf: Tf, engine: string): Promise<Tf> {
  if (!(await tf.setBackend(engine))) throw new Error(`TensorFlow.js could not start its engine '${engine}'`)
  await tf.ready()
  return tf
}
