// State between runs, by name. Where the values live is each executor's business (tensors of `tf`, variables of a
// session); what a store promises is the same: runs, reads and writes follow each other in the order in which they were
// asked for, and what goes in or comes out is a copy.

import { checkInitial, checkTensor, copyHostTensor, type HostTensor, Lifetime, type MemoryLedger, type OwnStore, Queue, type StateInit, stateNamed, type StaticType } from '@dynconv/core'

/** The states of either executor. */
export abstract class TfjsState implements OwnStore {
  readonly names: readonly string[]
  /** Orders everything that touches this store. */
  readonly queue: Queue = new Queue()
  readonly #types: ReadonlyMap<string, StaticType>
  readonly #life: Lifetime

  constructor(initial: readonly StateInit[], ledger: MemoryLedger) {
    checkInitial('tfjs', initial)
    this.#types = new Map(initial.map(({ name, data: { dtype, shape } }) => [name, { dtype, shape }]))
    this.names = [...this.#types.keys()]
    const release = ledger.hold(initial.length, initial.reduce((sum, s) => sum + s.data.data.byteLength, 0))
    this.#life = new Lifetime('tfjs: this state store', () => {
      release()
      return this.queue.end(() => this.clear())
    })
  }

  /** The value of a state: a tensor of its own. */
  protected abstract fetch(name: string, type: StaticType): HostTensor | Promise<HostTensor>
  /** Replaces a state by a tensor that nobody else has. */
  protected abstract put(name: string, value: HostTensor): void
  /** Frees every value. */
  protected abstract clear(): void

  read(name: string): Promise<HostTensor> {
    return this.exclusive(() => this.fetch(name, stateNamed('tfjs', this.#types, name)))
  }

  write(name: string, value: HostTensor): Promise<void> {
    return this.#life.use(() => {
      checkTensor(`tfjs: state '${name}'`, this.type(name), value)
      // Copied at once: the caller may go on to change it.
      const copy = copyHostTensor(value)
      return this.queue.run(() => this.put(name, copy))
    })
  }

  /** Runs `body` when everything asked of this store before is done. @throws DisposedError */
  exclusive<R>(body: () => Promise<R> | R): Promise<R> {
    return this.#life.use(() => this.queue.run(body))
  }

  type(name: string): StaticType {
    this.#life.check()
    return stateNamed('tfjs', this.#types, name)
  }

  dispose(): void {
    void this.#life.end()
  }
}
