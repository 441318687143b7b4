// The backend: graphs as programs of WGSL kernels behind core's contract.

import {
  type Backend,
  type Capabilities,
  checkChoice,
  checkSizes,
  type CompileOptions,
  type DeviceTensor,
  type Executable,
  type Graph,
  type HostTensor,
  type MemoryReport,
  type Node,
  ownState,
  type StateInit,
  type StateStore,
  unknownSizes,
} from '@dynconv/core'
import { deviceInfo, type DeviceOptions, requestDevice } from './device.ts'
import { Engine, type KernelOptions } from './engine.ts'
import { WebGpuExecutable } from './executable.ts'
import { type Algorithm, algorithms, type OpenChoice, type Preferences } from './plan/choose.ts'
import type { LowerOptions } from './plan/context.ts'
import { joinSmall } from './plan/joinSmall.ts'
import { lower } from './plan/lower.ts'
import { planMemory } from './plan/memory.ts'
import type { StatePlace } from './plan/program.ts'
import { fastest } from './probe.ts'
import { WebGpuState, WebGpuTensor } from './tensors.ts'

/** How to start WebGPU. */
export interface WebGpuOptions extends DeviceOptions, KernelOptions {
  /** A device of the caller's own, used as it is and destroyed with the backend. */
  readonly device?: GPUDevice
}

/**
 * Starts WebGPU: the browser's, or in Node that of the package `webgpu`.
 *
 * float16 is a storage type: values are kept in 16 bits where the adapter has `shader-f16` (in 32 elsewhere) and computed
 * in float32, every result rounded.
 *
 * @example const backend = await webgpu()
 * @throws BackendUnavailableError that says what to install, or which flag to set; ValueError for options that there are not
 */
export async function webgpu(options: WebGpuOptions = {}): Promise<Backend> {
  const { device, kernels, convolutions } = options
  checkChoice('webgpu', 'kernels', kernels, ['software', 'gpu'])
  checkChoice('webgpu', 'convolutions', convolutions, algorithms)
  const found = device ? deviceInfo(device) : await requestDevice(options)
  return new WebGpuBackend(new Engine(found, options.probe && !options.tuning ? { ...options, tuning: new Map() } : options))
}

/** The backend on a device. */
export class WebGpuBackend implements Backend {
  readonly name: string = 'webgpu'
  readonly capabilities: Capabilities
  readonly #engine: Engine
  readonly #executables: Set<WebGpuExecutable> = new Set()

  constructor(engine: Engine) {
    this.#engine = engine
    this.capabilities = {
      dtypes: { float32: 'arithmetic', float16: 'storage', int32: 'arithmetic', bool: 'arithmetic' },
      device: engine.description,
    }
  }

  supports(node: Node, graph: Graph): true | { readonly reason: string } {
    return unknownSizes(node, graph) ?? true
  }

  async createState(initial: readonly StateInit[]): Promise<StateStore> {
    this.#engine.check()
    return this.#engine.enqueue(() => this.#engine.guarded('createState', () => new WebGpuState(this.#engine, initial)))
  }

  async compile(graph: Graph, options: CompileOptions = {}): Promise<Executable> {
    const engine = this.#engine
    engine.check()
    checkSizes('webgpu', graph)
    const isOwn = (store: StateStore): store is WebGpuState => store instanceof WebGpuState && store.belongsTo(engine)
    const state = ownState('webgpu', graph, options.state, isOwn)
    const placeOf = state && ((name: string): StatePlace => state.place(name))
    return this.#build(graph, state, { ...(await this.#preferences(graph)), memoryBudgetBytes: options.memoryBudgetBytes, placeOf })
  }

  #build(graph: Graph, state: WebGpuState | undefined, options: LowerOptions): Promise<WebGpuExecutable> {
    const engine = this.#engine
    return engine.enqueue(async () => {
      const { program: lowered, notes } = lower(graph, engine.target, options)
      const program = joinSmall(lowered, engine.target, options.placeOf)
      const memory = planMemory(program)
      const kernels = program.steps.flatMap((step) => (step.kind === 'dispatch' ? [step.kernel] : []))
      const pipelines = await engine.pipelines(kernels)
      const make = (): WebGpuExecutable =>
        new WebGpuExecutable({ engine, graph, program, memory, pipelines, state, notes }, (e) => this.#executables.delete(e))
      const executable = await engine.guarded('compile', make)
      this.#executables.add(executable)
      return executable
    })
  }

  // What is known of the convolutions of a graph; what is not is found out first, where that is wanted.
  async #preferences(graph: Graph): Promise<Preferences> {
    const { convolutions: prefer, probe, tuning } = this.#engine.options
    if (prefer || !tuning) return { prefer }
    const found = new Map<string, Algorithm>()
    const open = new Map<string, OpenChoice>()
    lower(graph, this.#engine.target, { onChoice: (choice) => open.set(choice.key, choice) })
    for (const choice of open.values()) {
      const key = `${this.#engine.adapter} | ${choice.key}`
      const known = choice.algorithms.find((a) => a === tuning.get(key))
      const best = known ?? (probe ? await fastest(choice, (layer, algorithm) => this.#build(layer, undefined, { prefer: algorithm })) : undefined)
      if (!best) continue
      tuning.set(key, best)
      found.set(choice.key, best)
    }
    return { found }
  }

  async upload(tensor: HostTensor): Promise<DeviceTensor> {
    this.#engine.check()
    const copy = { ...tensor, data: tensor.data.slice() } as HostTensor
    return this.#engine.enqueue(() => this.#engine.guarded('upload', () => new WebGpuTensor(this.#engine, copy)))
  }

  memory(): MemoryReport {
    return this.#engine.ledger.report()
  }

  async dispose(): Promise<void> {
    for (const executable of this.#executables) executable.dispose()
    await this.#engine.dispose()
  }
}
