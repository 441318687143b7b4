// States whose values live where they were last used: in the variables of one or several sessions, on the host, or both. A
// session that runs gets what it lacks; what a run writes, only its own session has from then on.

import { copyHostTensor, GraphError, type HostTensor, type MemoryLedger, type StateInit, stateNamed } from '@dynconv/core'
import { TfjsState } from '../state.ts'

/** A session, as a store of states sees it. */
export interface Holder {
  /** All of its states, as they are in its variables. */
  readAll(): ReadonlyMap<string, HostTensor>
}

interface Slot {
  host: HostTensor | undefined
  /** The sessions whose variable has the value. */
  readonly holders: Set<Holder>
}

/** The states of the executor `program`. */
export class SessionState extends TfjsState {
  readonly #slots: Map<string, Slot>

  constructor(initial: readonly StateInit[], ledger: MemoryLedger) {
    super(initial, ledger)
    this.#slots = new Map(initial.map(({ name, data }) => [name, { host: copyHostTensor(data), holders: new Set<Holder>() }]))
  }

  /** Those of these states whose values the variables of a session do not have. */
  lacking(holder: Holder, names: readonly string[]): readonly string[] {
    return names.filter((name) => !this.#slot(name).holders.has(holder))
  }

  /** The other sessions that alone have values of these states that this one lacks. */
  owners(holder: Holder, names: readonly string[]): readonly Holder[] {
    const slots = this.lacking(holder, names).map((name) => this.#slot(name))
    return [...new Set(slots.flatMap(({ host, holders }) => (host === undefined ? [...holders].slice(0, 1) : [])))]
  }

  /** The values of these states on the host, where a session that takes them over finds them. */
  values(names: readonly string[]): ReadonlyMap<string, HostTensor> {
    return new Map(names.map((name) => [name, this.#value(name)]))
  }

  /** A session has now the values of these states. */
  loaded(holder: Holder, names: readonly string[]): void {
    for (const name of names) this.#slot(name).holders.add(holder)
  }

  /** A session has written new values of these states. */
  written(holder: Holder, names: readonly string[]): void {
    for (const name of names) {
      const slot = this.#slot(name)
      slot.host = undefined
      slot.holders.clear()
      slot.holders.add(holder)
    }
  }

  /** A session goes away: what only it has comes to the host. */
  leave(holder: Holder): void {
    const last = [...this.#slots].some(([, slot]) => slot.host === undefined && slot.holders.has(holder) && slot.holders.size === 1)
    if (last) this.#bring(holder)
    for (const slot of this.#slots.values()) slot.holders.delete(holder)
  }

  protected fetch(name: string): HostTensor {
    return copyHostTensor(this.#value(name))
  }

  protected put(name: string, value: HostTensor): void {
    const slot = this.#slot(name)
    slot.host = value
    slot.holders.clear()
  }

  protected clear(): void {
    this.#slots.clear()
  }

  #value(name: string): HostTensor {
    const slot = this.#slot(name)
    const [holder] = slot.holders
    if (slot.host === undefined && holder) this.#bring(holder)
    if (slot.host === undefined) throw new GraphError(`tfjs: state '${name}' has no value`)
    return slot.host
  }

  // One run reads all states of a session: another run for each would be planned by TensorFlow anew.
  #bring(holder: Holder): void {
    for (const [name, value] of holder.readAll()) {
      const slot = this.#slots.get(name)
      if (slot?.host === undefined && slot?.holders.has(holder)) slot.host = value
    }
  }

  #slot(name: string): Slot {
    return stateNamed('tfjs', this.#slots, name)
  }
}
