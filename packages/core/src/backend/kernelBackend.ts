// A whole backend from a table of kernels and a few functions about tensors: the contract's state stores, uploads, memory
// accounting, disposal and checks at the edge, over `interpret`. For engines that run op by op.

import { checkSizes, ownState } from './checks.ts'
import type { Backend, Capabilities, CompileOptions, DeviceTensor, Executable, MemoryReport, StateInit, StateStore } from './contract.ts'
import { interpret, supportOf } from './interpret.ts'
import { EngineTensors, type KernelEngine } from './kernelEngine.ts'
import { KernelExecutable } from './kernelExecutable.ts'
import { KernelStateStore } from './kernelState.ts'
import { KernelTensor } from './kernelTensor.ts'
import { Lifetime } from './lifetime.ts'
import type { Graph, Node } from '../graph/graph.ts'
import type { DynamicConvCost } from '../passes/planDynamicConv.ts'
import { checkData, type HostTensor } from '../tensor/hostTensor.ts'

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
      checkSizes(this.name, graph)
      // Boundary: a store of this very engine holds tensors T.
      const isOwn = (store: StateStore): store is KernelStateStore<T> => store instanceof KernelStateStore && store.belongsTo(this.#tensors)
      const state = ownState(this.name, graph, options.state, isOwn)
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
    return this.#life.use(async () => {
      checkData(`${this.name}: upload`, tensor)
      return new KernelTensor(await this.#tensors.upload(tensor), tensor, this.#tensors, this.#life)
    })
  }

  memory(): MemoryReport {
    return this.#tensors.report()
  }

  dispose(): Promise<void> {
    return this.#life.end()
  }
}
