// A whole backend from a table of kernels and a few functions about tensors: the contract's state stores, uploads, memory
// accounting, disposal and checks at the edge, over `interpret`. For engines that run op by op.

import type { Backend, Capabilities, CompileOptions, DeviceTensor, Executable, MemoryReport, StateInit, StateStore } from './contract.ts'
import { GraphError, ShapeError } from './errors.ts'
import { interpret, supportOf } from './interpret.ts'
import { EngineTensors, type KernelEngine } from './kernelEngine.ts'
import { KernelExecutable } from './kernelExecutable.ts'
import { KernelStateStore } from './kernelState.ts'
import { KernelTensor } from './kernelTensor.ts'
import { Lifetime } from './lifetime.ts'
import { type Graph, type Node, typeOf } from '../graph/graph.ts'
import type { DynamicConvCost } from '../passes/planDynamicConv.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import { formatShape, isStatic } from '../tensor/shape.ts'

/**
 * The backend of an engine.
 *
 * @example kernelBackend({ name: 'mine', capabilities, kernels: { constant, add, matmul, ... }, upload, download })
 */
export function kernelBackend<T extends object>(engine: KernelEngine<T>): Backend {
  return new KernelBackend(engine)
}

class KernelBackend<T extends object> implements Backend {
  readonly name: string
  readonly capabilities: Capabilities
  readonly dynamicConvCost?: DynamicConvCost
  readonly #engine: KernelEngine<T>
  readonly #tensors: EngineTensors<T>
  readonly #life: Lifetime

  constructor(engine: KernelEngine<T>) {
    this.name = engine.name
    this.capabilities = engine.capabilities
    if (engine.dynamicConvCost) this.dynamicConvCost = engine.dynamicConvCost
    this.#engine = engine
    this.#tensors = new EngineTensors(engine)
    this.#life = new Lifetime(`${engine.name}: this backend`, async () => {
      this.#tensors.freeAll()
      await engine.dispose?.()
    })
  }

  supports(node: Node, graph: Graph): true | { readonly reason: string } {
    return supportOf(node, graph, this.#engine.kernels, this.#engine.supports)
  }

  createState(initial: readonly StateInit[]): Promise<StateStore> {
    return this.#life.use(() => KernelStateStore.create(this.#tensors, this.#life, initial))
  }

  compile(graph: Graph, options: CompileOptions = {}): Promise<Executable> {
    return this.#life.use(() => {
      const { kernels, supports } = this.#engine
      for (const port of graph.inputs) {
        const { shape } = typeOf(graph, port.value)
        if (!isStatic(shape)) throw new ShapeError(`${this.name}: input '${port.name}' has unknown sizes, ${formatShape(shape)}; specialise the graph first`)
      }
      const state = this.#stateOf(graph, options.state)
      const interpreter = interpret<T>(graph, kernels, {
        backend: this.name,
        supports,
        made: (t, type) => this.#tensors.made(t, type),
        free: (t) => this.#tensors.free(t),
      })
      return new KernelExecutable<T>({ graph, interpreter, tensors: this.#tensors, engine: this.#life, state })
    })
  }

  upload(tensor: HostTensor): Promise<DeviceTensor> {
    return this.#life.use(async () => new KernelTensor(await this.#tensors.upload(tensor), tensor, this.#tensors, this.#life))
  }

  memory(): MemoryReport {
    return this.#tensors.report()
  }

  dispose(): Promise<void> {
    return this.#life.end()
  }

  #stateOf(graph: Graph, store: StateStore | undefined): KernelStateStore<T> | undefined {
    const [first] = graph.states
    if (!first) return undefined
    if (!store) {
      throw new GraphError(`${this.name}: the graph has ${graph.states.length} states ('${first.name}', ...); give compile() a store made by createState()`)
    }
    if (!(store instanceof KernelStateStore) || !store.belongsTo(this.#tensors)) {
      throw new GraphError(`${this.name}: the state store was made by another backend; make one with this backend's createState()`)
    }
    // Boundary: a store of this very engine holds tensors T.
    const own = store as KernelStateStore<T>
    for (const s of graph.states) own.checkType(s.name, s)
    return own
  }
}
