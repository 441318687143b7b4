// A compiled graph of a kernel backend: checks and uploads inputs, runs the interpreter, downloads outputs, hands updates
// to the state store.

import { checkInputs } from './checks.ts'
import type { DeviceTensor, Executable } from './contract.ts'
import type { Interpreter, StaticType } from './interpret.ts'
import type { EngineTensors } from './kernelEngine.ts'
import type { KernelStateStore } from './kernelState.ts'
import { KernelTensor } from './kernelTensor.ts'
import { Lifetime, useAll } from './lifetime.ts'
import { type Graph, typeOf, type ValueId } from '../graph/graph.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import { staticShape } from '../tensor/shape.ts'

/** What an executable is made of. */
export interface KernelProgram<T extends object> {
  readonly graph: Graph
  readonly interpreter: Interpreter<T>
  readonly tensors: EngineTensors<T>
  /** The backend's life. */
  readonly engine: Lifetime
  readonly state: KernelStateStore<T> | undefined
}

/** An executable of a kernel backend. */
export class KernelExecutable<T extends object> implements Executable {
  readonly graph: Graph
  readonly #program: KernelProgram<T>
  readonly #who: string
  readonly #life: Lifetime

  constructor(program: KernelProgram<T>) {
    this.graph = program.graph
    this.#program = program
    this.#who = program.tensors.engine.name
    this.#life = new Lifetime(`${this.#who}: this executable`, () => program.interpreter.dispose())
  }

  run(inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly HostTensor[]> {
    const { engine, state, tensors } = this.#program
    return engine.use(() =>
      this.#life.use(() => {
        const checked = checkInputs(this.#who, this.graph, inputs, (t): t is KernelTensor<T> => t instanceof KernelTensor && t.belongsTo(tensors))
        const used = [...(state ? [state] : []), ...checked.filter((t) => t instanceof KernelTensor)]
        return useAll(used, () => (state ? state.exclusive((values) => this.#run(checked, values)) : this.#run(checked, new Map())))
      }),
    )
  }

  explain(): string {
    const left = new Set(this.#program.interpreter.graph.nodes.map((n) => n.op))
    const gone = [...new Set(this.graph.nodes.map((n) => n.op))].filter((op) => !left.has(op)).sort()
    return `${this.#who}: ${this.#program.interpreter.graph.nodes.length} nodes, one at a time${gone.length ? `; decomposed: ${gone.join(', ')}` : ''}`
  }

  dispose(): void {
    void this.#life.end()
  }

  async #run(inputs: readonly (HostTensor | KernelTensor<T>)[], states: ReadonlyMap<string, T>): Promise<readonly HostTensor[]> {
    const { interpreter, state, tensors } = this.#program
    // The run's own: what it uploads and makes, less what becomes a state.
    const owned = new Set<T>()
    try {
      const bound: T[] = []
      for (const input of inputs) {
        const t = 'data' in input ? await tensors.upload(input) : input.value
        if ('data' in input) owned.add(t)
        bound.push(t)
      }
      const { outputs, updates, owned: made } = await interpreter.run(bound, states)
      for (const t of made) owned.add(t)
      const results: HostTensor[] = []
      for (const [i, t] of outputs.entries()) results.push(await tensors.engine.download(t, this.#outputType(i)))
      await state?.take(updates, owned)
      return results
    } finally {
      for (const t of owned) tensors.free(t)
    }
  }

  #outputType(i: number): StaticType {
    const id: ValueId = this.graph.outputs[i]?.value ?? -1
    const { dtype, shape } = typeOf(this.graph, id)
    return { dtype, shape: staticShape(this.#who, shape) }
  }
}
