// Loads tfjs-node or tfjs-node-gpu with what TensorFlow must be told before it is there, and says what to do when it does
// not load.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { BackendUnavailableError } from '@dynconv/core'
import type { Tf } from '../composed/tf.ts'
import type { LoadOptions } from '../load.ts'

/**
 * The variables that TensorFlow and NVIDIA's libraries read when they are loaded.
 * - oneDNN's kernels are off by default on processors without AVX-512, where they train 1.3 to 1.8 times as fast.
 * - Without growth the first program takes the whole memory of the card.
 * - TF32 keeps 10 of 23 bits of what convolutions and products read, which is not float32.
 * - Log level 3: only what ends the process. Errors come back as exceptions; those at start say that there are two registries of
 *   CUDA.
 */
export function nativeEnvironment({ verbose, tf32 = false }: LoadOptions): Readonly<Record<string, string>> {
  const settings = { TF_ENABLE_ONEDNN_OPTS: '1', TF_FORCE_GPU_ALLOW_GROWTH: 'true', NVIDIA_TF32_OVERRIDE: tf32 ? '1' : '0' }
  return verbose ? settings : { ...settings, TF_CPP_MIN_LOG_LEVEL: '3' }
}

/**
 * Loads a native TensorFlow.js and makes its engine the one that is set. Variables of the environment that the user has set stay.
 *
 * @throws BackendUnavailableError that says what is missing and which command brings it
 */
export async function loadNativeTf(name: 'tfjs-node-gpu' | 'tfjs-node', options: LoadOptions): Promise<Tf> {
  for (const [key, value] of Object.entries(nativeEnvironment(options))) process.env[key] ??= value
  const require = createRequire(import.meta.url)
  shimUtil(require('node:util') as UtilModule)
  try {
    const tf = require(`@tensorflow/${name}`) as Tf
    if (!(await tf.setBackend('tensorflow'))) throw new Error('TensorFlow could not start')
    return tf
  } catch (cause) {
    throw new BackendUnavailableError(`@tensorflow/${name} ${explanation(name, cause, require)}`, { cause })
  }
}

/** The part of node:util that version 4.22 of tfjs-node still calls. */
export interface UtilModule {
  isNullOrUndefined?: ((value: unknown) => boolean) | undefined
}

/**
 * Node 23 removed `util.isNullOrUndefined`, which tfjs-node calls whenever it makes a tensor, so it is put back, and stays,
 * where somebody loads tfjs-node through this package.
 */
export function shimUtil(util: UtilModule): void {
  util.isNullOrUndefined ??= (value) => value === undefined || value === null
}

/** Why a package did not load, and what to do. */
export function explanation(name: string, cause: unknown, require: { resolve(id: string): string }): string {
  const message = cause instanceof Error ? cause.message : String(cause)
  const [first = message] = message.split('\n')
  if (message.includes(`Cannot find module '@tensorflow/${name}'`)) return `is not installed; run: npm install @tensorflow/${name}@4`
  const library = /(lib(?:cudart|cudnn|cublas|cufft|curand|cusolver|cusparse|nccl)[\w.-]*)/.exec(message)
  if (library) return `misses ${library[1]}: install the CUDA and cuDNN that its TensorFlow was built for, or let it run on the processor with @tensorflow/tfjs-node`
  const missing = /libtensorflow[\w.-]*/.exec(message)
  if (missing) return `misses TensorFlow itself (${missing[0]}): ${remedy(name)}`
  const root = folderOf(name, require)
  if (root !== undefined && !existsSync(`${root}/lib/napi-v8/tfjs_binding.node`)) return `has no native library: its download at installation was skipped or failed; ${remedy(name)}`
  return `does not load: ${first}`
}

function remedy(name: string): string {
  return `run: npm rebuild @tensorflow/${name} --build-addon-from-source, or see the README of @dynconv/backend-tfjs for another way`
}

function folderOf(name: string, require: { resolve(id: string): string }): string | undefined {
  try {
    return dirname(require.resolve(`@tensorflow/${name}/package.json`))
  } catch {
    return undefined
  }
}
