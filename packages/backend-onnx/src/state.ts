// State between runs: one tensor a name, in the memory layout of the program that last used it. A program reads and
// replaces them whole; nothing is copied on the way. Runs, reads and writes of one store follow each other in the order in
// which they were asked for.

import {
  copyHostTensor,
  DisposedError,
  DTypeError,
  formatShape,
  GraphError,
  type HostTensor,
  type MemoryLedger,
  sameShape,
  ShapeError,
  type StateInit,
  type StateStore,
} from '@dynconv/core'
import type { Layout } from './lowering.ts'

/** Brings a state (a weight, on the host) from one layout to another; `inPlace`: in its own memory. */
export type ConvertState = (value: HostTensor, from: Layout, to: Layout, inPlace: boolean) => HostTensor

/** Does one thing after another. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve()

  /** Starts `job` when everything before it has ended, well or badly. */
  run<T>(job: () => Promise<T> | T): Promise<T> {
    const result = this.#last.then(job)
    this.#last = result.catch(() => undefined)
    return result
  }
}

interface Slot {
  /** How often the value was replaced. */
  readonly version: number
  readonly value: HostTensor
  readonly layout: Layout
}

/** What a state becomes. */
export interface NextState {
  /** Its elements, one piece after another. */
  readonly pieces: readonly HostTensor[]
  readonly layout: Layout
}

/** The backend's state store. */
export class OnnxState implements StateStore {
  readonly names: readonly string[]
  /** Orders everything that touches this store. */
  readonly queue: Queue = new Queue()
  readonly #slots: Map<string, Slot> = new Map()
  readonly #ledger: MemoryLedger
  readonly #convert: ConvertState
  readonly #release: () => void
  #disposed: boolean = false

  constructor(initial: readonly StateInit[], ledger: MemoryLedger, convert: ConvertState) {
    for (const { name, data } of initial) {
      if (this.#slots.has(name)) throw new GraphError(`onnx: two states are named '${name}'`)
      this.#slots.set(name, { version: 0, value: copyHostTensor(data), layout: 'plain' })
    }
    this.names = [...this.#slots.keys()]
    this.#ledger = ledger
    this.#convert = convert
    this.#release = ledger.hold(initial.length, initial.reduce((sum, s) => sum + s.data.data.byteLength, 0))
  }

  read(name: string): Promise<HostTensor> {
    return this.queue.run(() => copyHostTensor(this.take(name, 'plain', false)))
  }

  write(name: string, value: HostTensor): Promise<void> {
    // Copied at once: the caller may go on to change it.
    const copy = copyHostTensor(value)
    return this.queue.run(() => {
      const { version, value: known } = this.#slot(name)
      if (known.dtype !== copy.dtype) throw new DTypeError(`onnx: state '${name}' holds ${known.dtype}, cannot take ${copy.dtype}`)
      if (!sameShape(known.shape, copy.shape)) {
        throw new ShapeError(`onnx: state '${name}' holds ${formatShape(known.shape)}, cannot take ${formatShape(copy.shape)}`)
      }
      this.#slots.set(name, { version: version + 1, value: copy, layout: 'plain' })
    })
  }

  /** The tensor of a state in `layout`, and whether it stays in that layout from now on. */
  take(name: string, layout: Layout, keep: boolean): HostTensor {
    const slot = this.#slot(name)
    if (slot.layout === layout) return slot.value
    // What stays is the store's own memory, and all weights are converted at once: a second copy of each would be in memory
    // until it is collected.
    const value = this.#convert(slot.value, slot.layout, layout, keep)
    if (keep) this.#slots.set(name, { ...slot, value, layout })
    return value
  }

  /** How often a state was replaced so far. */
  version(name: string): number {
    return this.#slot(name).version
  }

  /** Replaces states after a run: all of them, or none when something does not fit. */
  commit(next: ReadonlyMap<string, NextState>): void {
    const entries = [...next].map(([name, { pieces, layout }]) => {
      const { version, value } = this.#slot(name)
      const [first] = pieces
      const size = pieces.reduce((sum, p) => sum + p.data.length, 0)
      if (!first || size !== value.data.length) throw new GraphError(`onnx: state '${name}' has ${value.data.length} elements, its next value ${size}`)
      return { name, version: version + 1, value, first, pieces, layout }
    })
    this.#ledger.touch(entries.reduce((sum, e) => sum + e.value.data.byteLength, 0))
    for (const { name, version, value, first, pieces, layout } of entries) {
      // The store's own memory, which no one else sees: pieces are put together in place.
      if (pieces.length > 1) join(value, pieces)
      this.#slots.set(name, { version, value: pieces.length > 1 ? value : { ...first, shape: value.shape }, layout })
    }
  }

  /** Throws unless the store has the state `name` of this type. */
  checkType(name: string, dtype: string, shape: HostTensor['shape']): void {
    const { value } = this.#slot(name)
    if (value.dtype === dtype && sameShape(value.shape, shape)) return
    throw new ShapeError(
      `onnx: the graph's state '${name}' is ${dtype}${formatShape(shape)}, the store holds ${value.dtype}${formatShape(value.shape)}`,
    )
  }

  dispose(): void {
    this.#disposed = true
    this.#slots.clear()
    this.#release()
  }

  #check(): void {
    if (this.#disposed) throw new DisposedError('onnx: this state was disposed')
  }

  #slot(name: string): Slot {
    this.#check()
    const slot = this.#slots.get(name)
    if (!slot) throw new GraphError(`onnx: there is no state '${name}'; there are: ${this.names.join(', ') || 'none'}`)
    return slot
  }
}

function join(into: HostTensor, pieces: readonly HostTensor[]): void {
  let at = 0
  for (const { data } of pieces) {
    into.data.set(data, at)
    at += data.length
  }
}
