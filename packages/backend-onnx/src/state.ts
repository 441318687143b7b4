// State between runs: one tensor a name, in the memory layout of the program that last used it. A program reads them there
// and writes their next values beside them, into memory that then takes turns with the first; nothing is copied on the way.
// Runs, reads and writes of one store follow each other in the order in which they were asked for.

import {
  copyHostTensor,
  DisposedError,
  DTypeError,
  formatShape,
  GraphError,
  type HostTensor,
  type MemoryLedger,
  Queue,
  sameShape,
  ShapeError,
  type StateInit,
  type StateStore,
  zeros,
} from '@dynconv/core'
import type { Layout } from './lowering.ts'

/** Brings a state (a weight, on the host) from one layout to another; `inPlace`: in its own memory. */
export type ConvertState = (value: HostTensor, from: Layout, to: Layout, inPlace: boolean) => HostTensor

interface Slot {
  /** How often the value was replaced. */
  readonly version: number
  readonly value: HostTensor
  readonly layout: Layout
  /** As large as the value: where the next one is made. Only states that a program writes have it. */
  readonly room?: HostTensor
}

/** A state whose next value is in its room. */
export interface NextState {
  readonly name: string
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
  readonly #releases: (() => void)[]
  #disposed: boolean = false

  constructor(initial: readonly StateInit[], ledger: MemoryLedger, convert: ConvertState) {
    for (const { name, data } of initial) {
      if (this.#slots.has(name)) throw new GraphError(`onnx: two states are named '${name}'`)
      this.#slots.set(name, { version: 0, value: copyHostTensor(data), layout: 'plain' })
    }
    this.names = [...this.#slots.keys()]
    this.#ledger = ledger
    this.#convert = convert
    this.#releases = [ledger.hold(initial.length, initial.reduce((sum, s) => sum + s.data.data.byteLength, 0))]
  }

  read(name: string): Promise<HostTensor> {
    return this.queue.run(() => copyHostTensor(this.take(name, 'plain', false)))
  }

  write(name: string, value: HostTensor): Promise<void> {
    // Copied at once: the caller may go on to change it.
    const copy = copyHostTensor(value)
    return this.queue.run(() => {
      const slot = this.#slot(name)
      const known = slot.value
      if (known.dtype !== copy.dtype) throw new DTypeError(`onnx: state '${name}' holds ${known.dtype}, cannot take ${copy.dtype}`)
      if (!sameShape(known.shape, copy.shape)) {
        throw new ShapeError(`onnx: state '${name}' holds ${formatShape(known.shape)}, cannot take ${formatShape(copy.shape)}`)
      }
      this.#slots.set(name, { ...slot, version: slot.version + 1, value: copy, layout: 'plain' })
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

  /** How often any of `names` was replaced so far. */
  changes(names: readonly string[]): number {
    return names.reduce((sum, name) => sum + this.version(name), 0)
  }

  /** Where the next value of a state is made; until `commit` it counts for nothing. */
  room(name: string): HostTensor {
    const slot = this.#slot(name)
    if (slot.room) return slot.room
    const room = zeros(slot.value.shape, slot.value.dtype)
    this.#releases.push(this.#ledger.hold(1, room.data.byteLength))
    this.#slots.set(name, { ...slot, room })
    return room
  }

  /** Takes over, after a run, the values that were made in the states' rooms. */
  commit(next: readonly NextState[]): void {
    for (const { name, layout } of next) {
      const { version, value } = this.#slot(name)
      this.#slots.set(name, { version: version + 1, value: this.room(name), layout, room: value })
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
    for (const release of this.#releases) release()
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
