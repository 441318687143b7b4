// States of a kernel backend: one tensor each, replaced as a whole at the end of a run. Reads, writes and runs on one store
// follow one another, so that no run sees half of another's update.

import { checkInitial, checkTensor, type OwnStore, stateNamed } from './checks.ts'
import type { StateInit } from './contract.ts'
import type { StaticType } from './interpret.ts'
import type { EngineTensors } from './kernelEngine.ts'
import { Lifetime } from './lifetime.ts'
import { Queue } from './queue.ts'
import { copyHostTensor, type HostTensor } from '../tensor/hostTensor.ts'

interface Entry<T> {
  readonly type: StaticType
  value: T
}

/** The states of a kernel backend. */
export class KernelStateStore<T extends object> implements OwnStore {
  readonly #tensors: EngineTensors<T>
  readonly #backend: Lifetime
  readonly #life: Lifetime
  readonly #entries: ReadonlyMap<string, Entry<T>>
  readonly #queue: Queue = new Queue()

  private constructor(tensors: EngineTensors<T>, backend: Lifetime, entries: ReadonlyMap<string, Entry<T>>) {
    this.#tensors = tensors
    this.#backend = backend
    this.#entries = entries
    this.#life = new Lifetime(`${tensors.engine.name}: this state store`, () => {
      for (const { value } of entries.values()) tensors.free(value)
    })
  }

  /** Uploads the start of each state. @throws GraphError, ShapeError, DTypeError (see `checkInitial`) */
  static async create<T extends object>(tensors: EngineTensors<T>, backend: Lifetime, initial: readonly StateInit[]): Promise<KernelStateStore<T>> {
    const entries = new Map<string, Entry<T>>()
    checkInitial(tensors.engine.name, initial)
    try {
      for (const { name, data } of initial) {
        entries.set(name, { type: { dtype: data.dtype, shape: data.shape }, value: await tensors.upload(data) })
      }
    } catch (error) {
      for (const { value } of entries.values()) tensors.free(value)
      throw error
    }
    return new KernelStateStore(tensors, backend, entries)
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()]
  }

  /** Whether it lives on the very engine that `tensors` counts. */
  belongsTo(tensors: object): boolean {
    return tensors === this.#tensors
  }

  type(name: string): StaticType {
    this.#life.check()
    return this.#entry(name).type
  }

  async read(name: string): Promise<HostTensor> {
    const entry = this.#entry(name)
    return this.use(() => this.exclusive(async () => this.#tensors.engine.download(entry.value, entry.type)))
  }

  async write(name: string, value: HostTensor): Promise<void> {
    const entry = this.#entry(name)
    checkTensor(`${this.#tensors.engine.name}: state '${name}'`, entry.type, value)
    // As it is now: the caller may go on to change it.
    const copy = copyHostTensor(value)
    const replace = async (): Promise<void> => {
      const next = await this.#tensors.upload(copy)
      this.#tensors.free(entry.value)
      entry.value = next
    }
    return this.use(() => this.exclusive(replace))
  }

  /** Keeps the tensors while `body` runs. @throws DisposedError */
  use<R>(body: () => Promise<R>): Promise<R> {
    return this.#backend.use(() => this.#life.use(body))
  }

  /** Runs `body` on the current tensors, when everything asked of this store before is done; inside `use`. */
  exclusive<R>(body: (values: ReadonlyMap<string, T>) => Promise<R>): Promise<R> {
    return this.#queue.run(() => body(new Map([...this.#entries].map(([name, entry]) => [name, entry.value]))))
  }

  /**
   * Replaces states by tensors of a run (inside `exclusive`): all of them, or none when it fails. What is in `owned` and
   * fit to be kept is taken out of it; anything else is copied.
   */
  async take(updates: ReadonlyMap<string, T>, owned: Set<T>): Promise<void> {
    const next = new Map<string, T>()
    const made: T[] = []
    const moved: T[] = []
    try {
      for (const [name, value] of updates) {
        if (owned.has(value) && !this.#tensors.engine.wide) {
          owned.delete(value)
          moved.push(value)
          next.set(name, value)
        } else {
          const copy = await this.#tensors.copy(value, this.#entry(name).type)
          made.push(copy)
          next.set(name, copy)
        }
      }
    } catch (error) {
      for (const t of made) this.#tensors.free(t)
      for (const t of moved) owned.add(t)
      throw error
    }
    for (const [name, value] of next) {
      const entry = this.#entry(name)
      this.#tensors.free(entry.value)
      entry.value = value
    }
  }

  dispose(): void {
    void this.#life.end()
  }

  #entry(name: string): Entry<T> {
    return stateNamed(this.#tensors.engine.name, this.#entries, name)
  }
}
