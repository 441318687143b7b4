// A compiled graph towards its user: checks inputs, keeps runs in order, frees the program when nothing runs on it any more.

import { type DeviceTensor, DisposedError, DTypeError, type Executable, formatShape, type Graph, GraphError, type HostTensor, Queue, sameShape, ShapeError, sizeOf, typeOf } from '@dynconv/core'
import type { Loaded, RunInput } from './executor.ts'
import type { TfjsState } from './state.ts'
import { TfjsTensor } from './tensors.ts'

/** What an executable is made of. */
export interface ExecutableParts {
  readonly graph: Graph
  readonly loaded: Loaded
  readonly state: TfjsState | undefined
  /** Of the backend's executor, for tensors to be recognised. */
  readonly owner: object
  readonly onDispose: (executable: TfjsExecutable) => void
}

/** An executable. */
export class TfjsExecutable implements Executable {
  readonly graph: Graph
  readonly #parts: ExecutableParts
  readonly #queue: Queue
  #released: Promise<void> | undefined

  constructor(parts: ExecutableParts) {
    this.graph = parts.graph
    this.#parts = parts
    // Programs that share a state take turns; others only wait for themselves.
    this.#queue = parts.state?.queue ?? new Queue()
  }

  async run(inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly HostTensor[]> {
    this.#check()
    const { graph } = this
    if (inputs.length !== graph.inputs.length) {
      throw new ShapeError(`tfjs: run takes ${graph.inputs.length} inputs (${graph.inputs.map((p) => p.name).join(', ')}), got ${inputs.length}`)
    }
    const leases = graph.inputs.map(({ name, value }, i) => {
      const given = inputs[i]
      if (!given) throw new ShapeError(`tfjs: input '${name}' is missing`)
      const { dtype, shape } = typeOf(graph, value)
      if (given.dtype !== dtype) throw new DTypeError(`tfjs: input '${name}' must be ${dtype}, got ${given.dtype}`)
      if (!sameShape(given.shape, shape)) throw new ShapeError(`tfjs: input '${name}' must be ${formatShape(shape)}, got ${formatShape(given.shape)}`)
      return { name, given }
    })
    const taken: (() => void)[] = []
    try {
      const bound = leases.map(({ name, given }) => this.#bind(name, given, taken))
      return await this.#queue.run(() => {
        this.#parts.state?.check()
        return this.#parts.loaded.run(bound)
      })
    } finally {
      for (const release of taken) release()
    }
  }

  // An uploaded tensor lives at least until the run is over.
  #bind(name: string, given: HostTensor | DeviceTensor, taken: (() => void)[]): RunInput {
    if (given instanceof TfjsTensor) {
      if (given.owner !== this.#parts.owner) throw new GraphError(`tfjs: input '${name}' belongs to another instance of this backend; read it and pass the host tensor`)
      const { resident, release } = given.lease()
      taken.push(release)
      return resident
    }
    if (!('data' in given)) throw new GraphError(`tfjs: input '${name}' is a tensor of another backend (${given.backend}); read it and pass the host tensor`)
    if (given.data.length !== sizeOf(given.shape)) {
      throw new ShapeError(`tfjs: input '${name}' of ${formatShape(given.shape)} needs ${sizeOf(given.shape)} elements, got ${given.data.length}`)
    }
    return given
  }

  explain(): string {
    return this.#parts.loaded.notes.join('\n')
  }

  dispose(): void {
    if (this.#released) return
    this.#released = this.#queue.end(() => {
      this.#parts.loaded.dispose()
    })
    this.#parts.onDispose(this)
  }

  /** Resolves when the program is gone. */
  get released(): Promise<void> {
    return this.#released ?? Promise.resolve()
  }

  #check(): void {
    if (this.#released) throw new DisposedError('tfjs: this program was disposed')
  }
}
