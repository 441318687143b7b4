// The part of tfjs-node's native binding that programs use, and a program loaded through it: a SavedModel in a temporary
// folder, which is gone again when the session is there.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DType, float16Bits, float16Value, fromNumbers, GraphError, type HostTensor, sizeOf, type StaticShape } from '@dynconv/core'
import type { Tf } from '../composed/tf.ts'
import type { TfValue } from './graph.ts'
import { elementTypes, encodeSavedModel, type NodeDef, savedModelTag } from './proto.ts'

type Elements = Float32Array | Int32Array | Uint8Array

/** What the native addon offers (tfjs-node's binding/tfjs_backend.h). */
export interface Binding {
  createTensor(shape: readonly number[], dtype: number, data: Elements): number
  deleteTensor(id: number): void
  tensorDataSync(id: number): Elements
  loadSavedModel(folder: string, tags: string): number
  runSavedModel(session: number, inputs: readonly number[], inputNames: string, outputNames: string): readonly { readonly id: number }[]
  deleteSavedModel(session: number): void
  /** How many tensors it holds. */
  getNumOfTensors(): number
  isUsingGpuDevice(): boolean
  readonly TF_Version?: string
}

/** What `tf` calls its native engine. */
export const nativeEngineName = 'tensorflow'

/** The binding of a native `tf`. @throws GraphError when it has none */
export function bindingOf(tf: Tf): Binding {
  const binding = (tf.findBackend(nativeEngineName) as { readonly binding?: Binding } | null)?.binding
  if (!binding?.runSavedModel || !binding.loadSavedModel) throw new GraphError("tfjs: this TensorFlow.js has no native binding; use executor 'composed'")
  return binding
}

/** A loaded program. */
export class Session {
  readonly #binding: Binding
  readonly #id: number
  #closed: boolean = false

  /** @throws Error with TensorFlow's words when it refuses the graph */
  constructor(binding: Binding, nodes: readonly NodeDef[]) {
    this.#binding = binding
    const folder = mkdtempSync(join(tmpdir(), 'dynconv-tfjs-'))
    try {
      writeFileSync(join(folder, 'saved_model.pb'), encodeSavedModel(nodes))
      this.#id = binding.loadSavedModel(folder, savedModelTag)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  /** Feeds some values, runs what others need, and gives those. All that goes in or out is freed again. */
  run(feeds: readonly { readonly to: TfValue; readonly value: HostTensor }[], fetches: readonly { readonly from: TfValue; readonly dtype: DType; readonly shape: StaticShape }[]): readonly HostTensor[] {
    const binding = this.#binding
    const handles: number[] = []
    try {
      for (const { to, value } of feeds) handles.push(binding.createTensor([...to.shape], elementTypes[to.dtype], elementsOf(value)))
      const inputNames = feeds.map(({ to }) => nameOf(to)).join(',')
      const outputNames = fetches.map(({ from }) => nameOf(from)).join(',')
      const results = binding.runSavedModel(this.#id, [...handles], inputNames, outputNames).map(({ id }) => id)
      handles.push(...results)
      return fetches.map(({ dtype, shape }, i) => hostOf(dtype, shape, binding, results[i]))
    } finally {
      for (const id of handles) binding.deleteTensor(id)
    }
  }

  /** Frees the program and its variables. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#binding.deleteSavedModel(this.#id)
  }
}

function nameOf({ node, index }: TfValue): string {
  return `${node.name}:${index}`
}

/**
 * The elements for `createTensor`, at an address that is no multiple of 16. TensorFlow copies what is not aligned; aligned
 * memory it would share with JavaScript and give back from whichever thread drops it last. A variable that takes over what was
 * fed is dropped by the next step on a thread of TensorFlow's, where JavaScript must not be touched: that corrupts the heap.
 *
 * float16 travels as float32.
 */
function elementsOf({ dtype, data }: HostTensor): Elements {
  const place = (bytes: number): readonly [ArrayBuffer, number, number] => [new ArrayBuffer((data.length + 1) * bytes), bytes, data.length]
  const copy = dtype === 'bool' ? new Uint8Array(...place(1)) : dtype === 'int32' ? new Int32Array(...place(4)) : new Float32Array(...place(4))
  copy.set(dtype === 'float16' ? Float32Array.from(data, float16Value) : data)
  return copy
}

function hostOf(dtype: DType, shape: StaticShape, binding: Binding, id: number | undefined): HostTensor {
  if (id === undefined) throw new GraphError('tfjs: TensorFlow gave too few results')
  if (sizeOf(shape) === 0) return fromNumbers(dtype, shape, [])
  const data = binding.tensorDataSync(id)
  if (dtype === 'float16') return { dtype, shape, data: Uint16Array.from(data, float16Bits) }
  return { dtype, shape, data }
}
