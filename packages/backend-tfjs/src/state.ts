// State between runs, by name. Where the values live is each executor's business (tensors of `tf`, variables of a
// session); what a store promises is the same: runs, reads and writes follow each other in the order in which they were
// asked for, and what goes in or comes out is a copy.

import { copyHostTensor, DisposedError, type DType, DTypeError, formatShape, GraphError, type HostTensor, type MemoryLedger, Queue, sameShape, type Shape, ShapeError, type StateInit, type StateStore, type StaticShape } from '@dynconv/core'

/** dtype and shape of a state. */
export interface StateType {
  readonly dtype: DType
  readonly shape: StaticShape
}

/** The states of either executor. */
export abstract class TfjsState implements StateStore {
  readonly names: readonly string[]
  /** Orders everything that touches this store. */
  readonly queue: Queue = new Queue()
  readonly #types: ReadonlyMap<string, StateType>
  readonly #release: () => void
  #disposed: boolean = false

  constructor(initial: readonly StateInit[], ledger: MemoryLedger) {
    const types = new Map<string, StateType>()
    for (const { name, data } of initial) {
      if (types.has(name)) throw new GraphError(`tfjs: two states are named '${name}'`)
      types.set(name, { dtype: data.dtype, shape: data.shape })
    }
    this.names = [...types.keys()]
    this.#types = types
    this.#release = ledger.hold(initial.length, initial.reduce((sum, s) => sum + s.data.data.byteLength, 0))
  }

  /** The value of a state: a tensor of its own. */
  protected abstract fetch(name: string): HostTensor | Promise<HostTensor>
  /** Replaces a state by a tensor that nobody else has. */
  protected abstract put(name: string, value: HostTensor): void
  /** Frees every value. */
  protected abstract clear(): void

  read(name: string): Promise<HostTensor> {
    return this.queue.run(() => {
      this.type(name)
      return this.fetch(name)
    })
  }

  write(name: string, value: HostTensor): Promise<void> {
    // Copied at once: the caller may go on to change it.
    const copy = copyHostTensor(value)
    return this.queue.run(() => {
      const known = this.type(name)
      if (known.dtype !== copy.dtype) throw new DTypeError(`tfjs: state '${name}' holds ${known.dtype}, cannot take ${copy.dtype}`)
      if (!sameShape(known.shape, copy.shape)) {
        throw new ShapeError(`tfjs: state '${name}' holds ${formatShape(known.shape)}, cannot take ${formatShape(copy.shape)}`)
      }
      this.put(name, copy)
    })
  }

  /** @throws GraphError for an unknown name; DisposedError */
  type(name: string): StateType {
    this.check()
    const type = this.#types.get(name)
    if (!type) throw new GraphError(`tfjs: there is no state '${name}'; there are: ${this.names.join(', ') || 'none'}`)
    return type
  }

  /** Throws unless the store has the state `name` of this type. */
  checkType(name: string, dtype: DType, shape: Shape): void {
    const known = this.type(name)
    if (known.dtype === dtype && sameShape(known.shape, shape)) return
    throw new ShapeError(`tfjs: the graph's state '${name}' is ${dtype}${formatShape(shape)}, the store holds ${known.dtype}${formatShape(known.shape)}`)
  }

  /** @throws DisposedError */
  check(): void {
    if (this.#disposed) throw new DisposedError('tfjs: this state was disposed')
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#release()
    // What is already asked for may finish first.
    void this.queue.end(() => {
      this.clear()
    })
  }
}
