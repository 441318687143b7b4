// A compiled graph of a kernel backend: checks and uploads inputs, runs the interpreter, downloads outputs, hands updates
// to the state store.

import type { DeviceTensor, Executable } from './contract.ts'
import { DTypeError, GraphError, ShapeError } from './errors.ts'
import type { Interpreter, StaticType } from './interpret.ts'
import type { EngineTensors } from './kernelEngine.ts'
import type { KernelStateStore } from './kernelState.ts'
import { KernelTensor } from './kernelTensor.ts'
import { Lifetime } from './lifetime.ts'
import { type Graph, typeOf, type ValueId } from '../graph/graph.ts'
import { formatType } from '../graph/print.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import { formatShape, sameShape, staticShape } from '../tensor/shape.ts'

type Input = HostTensor | DeviceTensor

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

  run(inputs: readonly Input[]): Promise<readonly HostTensor[]> {
    return this.#program.engine.use(() =>
      this.#life.use(() => {
        this.#check(inputs)
        return this.#bind(inputs, [])
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

  #check(inputs: readonly Input[]): void {
    const { inputs: ports } = this.graph
    if (inputs.length !== ports.length) {
      const names = ports.map((port) => `'${port.name}'`).join(', ')
      throw new ShapeError(`${this.#who}: run takes ${ports.length} inputs${names && ` (${names})`}, got ${inputs.length}`)
    }
    ports.forEach((port, i) => {
      const wanted = typeOf(this.graph, port.value)
      const given = inputs[i]
      if (!given) return
      const what = `${this.#who}: input '${port.name}' must be ${formatType(wanted)}`
      if (given.dtype !== wanted.dtype) throw new DTypeError(`${what}, got ${given.dtype}`)
      if (!sameShape(given.shape, wanted.shape)) throw new ShapeError(`${what}, got ${formatShape(given.shape)}`)
    })
  }

  // Host tensors are uploaded for this run, device tensors kept alive through it; one after another, then the run itself.
  async #bind([input, ...rest]: readonly Input[], bound: readonly T[]): Promise<readonly HostTensor[]> {
    if (!input) return this.#run(bound)
    const { tensors } = this.#program
    // Boundary: whose tensor it is, and so what T is, is checked by `use`.
    if (input instanceof KernelTensor) return (input as KernelTensor<T>).use(tensors, (t) => this.#bind(rest, [...bound, t]))
    if (!('data' in input)) throw new GraphError(`${this.#who}: input ${bound.length} is a tensor of ${input.backend}; read() it first, or upload() it here`)
    const t = await tensors.upload(input)
    try {
      return await this.#bind(rest, [...bound, t])
    } finally {
      tensors.free(t)
    }
  }

  #run(inputs: readonly T[]): Promise<readonly HostTensor[]> {
    const { state } = this.#program
    if (!state) return this.#interpret(inputs, new Map(), () => Promise.resolve())
    return state.exclusive((values) => this.#interpret(inputs, values, (updates, owned) => state.take(updates, owned)))
  }

  async #interpret(
    inputs: readonly T[],
    states: ReadonlyMap<string, T>,
    take: (updates: ReadonlyMap<string, T>, owned: Set<T>) => Promise<void>,
  ): Promise<readonly HostTensor[]> {
    const { interpreter, tensors } = this.#program
    const { outputs, updates, owned } = await interpreter.run(inputs, states)
    const left = new Set(owned)
    try {
      const results: HostTensor[] = []
      for (const [i, t] of outputs.entries()) results.push(await tensors.engine.download(t, this.#outputType(i)))
      await take(updates, left)
      return results
    } finally {
      for (const t of left) tensors.free(t)
    }
  }

  #outputType(i: number): StaticType {
    const id: ValueId = this.graph.outputs[i]?.value ?? -1
    const { dtype, shape } = typeOf(this.graph, id)
    return { dtype, shape: staticShape(this.#who, shape) }
  }
}
