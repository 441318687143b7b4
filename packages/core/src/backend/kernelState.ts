// States of a kernel backend: one tensor each, replaced as a whole at the end of a run. Reads, writes and runs on one store
// follow one another, so that no run sees half of another's update.

import type { StateInit, StateStore } from './contract.ts'
import { GraphError, ShapeError } from './errors.ts'
import type { StaticType } from './interpret.ts'
import type { EngineTensors } from './kernelEngine.ts'
import { Lifetime } from './lifetime.ts'
import { Queue } from './queue.ts'
import { formatType } from '../graph/print.ts'
import type { ValueType } from '../ops/define.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import { sameShape } from '../tensor/shape.ts'

interface Entry<T> {
  readonly type: StaticType
  value: T
}

/** The states of a kernel backend. */
export class KernelStateStore<T extends object> implements StateStore {
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

  /** Uploads the start of each state. @throws GraphError for a name that comes twice */
  static async create<T extends object>(tensors: EngineTensors<T>, backend: Lifetime, initial: readonly StateInit[]): Promise<KernelStateStore<T>> {
    const entries = new Map<string, Entry<T>>()
    try {
      for (const { name, data } of initial) {
        if (entries.has(name)) throw new GraphError(`${tensors.engine.name}: createState: the state '${name}' comes twice`)
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

  /** @throws GraphError for an unknown name; ShapeError for another type */
  checkType(name: string, given: ValueType): void {
    const { type } = this.#entry(name)
    if (type.dtype !== given.dtype || !sameShape(type.shape, given.shape)) {
      throw new ShapeError(`${this.#tensors.engine.name}: state '${name}' holds ${formatType(type)}, got ${formatType(given)}`)
    }
  }

  async read(name: string): Promise<HostTensor> {
    const entry = this.#entry(name)
    return this.exclusive(() => Promise.resolve(this.#tensors.engine.download(entry.value, entry.type)))
  }

  async write(name: string, value: HostTensor): Promise<void> {
    this.checkType(name, value)
    const entry = this.#entry(name)
    return this.exclusive(async () => {
      const next = await this.#tensors.upload(value)
      this.#tensors.free(entry.value)
      entry.value = next
    })
  }

  /** Runs `body` on the current tensors, when everything asked of this store before is done. @throws DisposedError */
  exclusive<R>(body: (values: ReadonlyMap<string, T>) => Promise<R>): Promise<R> {
    return this.#backend.use(() => this.#life.use(() => this.#queue.run(() => body(new Map([...this.#entries].map(([name, entry]) => [name, entry.value]))))))
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
    const entry = this.#entries.get(name)
    if (!entry) throw new GraphError(`${this.#tensors.engine.name}: there is no state '${name}' in this store; it holds ${this.names.join(', ') || 'none'}`)
    return entry
  }
}
