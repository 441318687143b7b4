// State between runs: one tensor a name, in the memory layout of the program that last used it. A program reads them there
// and writes their next values beside them, into memory that then takes turns with the first; nothing is copied on the way.
// Runs, reads and writes of one store follow each other in the order in which they were asked for.

import {
  checkInitial,
  checkTensor,
  copyHostTensor,
  type HostTensor,
  Lifetime,
  type MemoryLedger,
  type OwnStore,
  Queue,
  type StateInit,
  stateNamed,
  type StaticType,
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
export class OnnxState implements OwnStore {
  readonly names: readonly string[]
  readonly #queue: Queue = new Queue()
  readonly #slots: Map<string, Slot> = new Map()
  readonly #ledger: MemoryLedger
  readonly #convert: ConvertState
  readonly #releases: (() => void)[]
  readonly #life: Lifetime

  constructor(initial: readonly StateInit[], ledger: MemoryLedger, convert: ConvertState) {
    checkInitial('onnx', initial)
    for (const { name, data } of initial) this.#slots.set(name, { version: 0, value: copyHostTensor(data), layout: 'plain' })
    this.names = [...this.#slots.keys()]
    this.#ledger = ledger
    this.#convert = convert
    this.#releases = [ledger.hold(initial.length, initial.reduce((sum, s) => sum + s.data.data.byteLength, 0))]
    this.#life = new Lifetime('onnx: this state store', () => {
      this.#slots.clear()
      for (const release of this.#releases) release()
    })
  }

  /** Runs `body` when everything asked of this store before is done. @throws DisposedError */
  exclusive<R>(body: () => Promise<R> | R): Promise<R> {
    return this.#life.use(() => this.#queue.run(body))
  }

  read(name: string): Promise<HostTensor> {
    return this.exclusive(() => copyHostTensor(this.take(name, 'plain', false)))
  }

  write(name: string, value: HostTensor): Promise<void> {
    return this.#life.use(() => {
      checkTensor(`onnx: state '${name}'`, this.type(name), value)
      // Copied at once: the caller may go on to change it.
      const copy = copyHostTensor(value)
      return this.#queue.run(() => {
        const slot = this.#slot(name)
        this.#slots.set(name, { ...slot, version: slot.version + 1, value: copy, layout: 'plain' })
      })
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

  type(name: string): StaticType {
    this.#life.check()
    return this.#slot(name).value
  }

  dispose(): void {
    void this.#life.end()
  }

  #slot(name: string): Slot {
    return stateNamed('onnx', this.#slots, name)
  }
}
