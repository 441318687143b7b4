// A compiled graph towards its user: checks inputs, keeps runs in order, frees the program when nothing runs on it any more.

import { checkInputs, type DeviceTensor, type Executable, type Graph, type HostTensor, Lifetime, Queue, useAll } from '@dynconv/core'
import type { Loaded } from './executor.ts'
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
  readonly #life: Lifetime

  constructor(parts: ExecutableParts) {
    this.graph = parts.graph
    this.#parts = parts
    this.#queue = parts.state?.queue ?? new Queue()
    this.#life = new Lifetime('tfjs: this executable', () => {
      parts.onDispose(this)
      return this.#queue.end(() => parts.loaded.dispose())
    })
  }

  run(inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly HostTensor[]> {
    return this.#life.use(() => {
      const { state, loaded, owner } = this.#parts
      const given = checkInputs('tfjs', this.graph, inputs, (t): t is TfjsTensor => t instanceof TfjsTensor && t.owner === owner)
      const run = (): Promise<readonly HostTensor[]> => loaded.run(given.map((t) => ('data' in t ? t : t.resident)))
      // Programs that share a state take turns; others only wait for themselves.
      return useAll(given.filter((t) => t instanceof TfjsTensor), () => state?.exclusive(run) ?? this.#queue.run(run))
    })
  }

  explain(): string {
    return this.#parts.loaded.notes.join('\n')
  }

  dispose(): void {
    void this.end()
  }

  /** The same; resolves when the program is gone. */
  end(): Promise<void> {
    return this.#life.end()
  }
}
