// The backend: TensorFlow.js behind core's contract. Two executors of the same graphs: `program` turns a graph into one
// TensorFlow graph for the native library, `composed` calls `tf` op by op on any engine.

import {
  type Backend,
  BackendUnavailableError,
  type Capabilities,
  checkChoice,
  checkData,
  checkSizes,
  checkSupport,
  type CompileOptions,
  type DeviceTensor,
  type Executable,
  type Graph,
  GraphError,
  type HostTensor,
  Lifetime,
  MemoryLedger,
  type MemoryReport,
  type Node,
  ownState,
  type StateInit,
  type StateStore,
  unknownSizes,
} from '@dynconv/core'
import { composedExecutor } from './composed/executor.ts'
import type { Tf } from './composed/tf.ts'
import { TfjsExecutable } from './executable.ts'
import type { Executor } from './executor.ts'
import { type EngineName, type LoadedTf, loadTf } from './load.ts'
import { TfjsState } from './state.ts'
import { TfjsTensor } from './tensors.ts'

/** How to start TensorFlow.js. */
export interface TfjsOptions {
  /** The TensorFlow.js to work on, with its engine set; loaded from what is installed unless given. */
  readonly tf?: Tf
  /** Which engine to load; the first that works of tfjs-node-gpu, tfjs-node, wasm and cpu unless given. Not together with `tf`. */
  readonly engine?: EngineName
  /** `program` needs TensorFlow's native library, and is taken where that is there unless told otherwise. */
  readonly executor?: 'program' | 'composed'
  /** Whether `program` tries the forms of large dynamic convolutions and keeps what it found in the user's cache; true unless given. */
  readonly probe?: boolean
  /** Whether TensorFlow may print what it thinks about at start; false unless given. */
  readonly verbose?: boolean
  /**
   * Whether cards may compute convolutions and products of float32 in TF32, which is faster and keeps 10 bits of the fraction; false
   * unless given. It holds for the process, from the first native engine on, unless `NVIDIA_TF32_OVERRIDE` is set.
   */
  readonly tf32?: boolean
}

/**
 * Starts TensorFlow.js: the one given, or the first that works of `@tensorflow/tfjs-node-gpu` (CUDA),
 * `@tensorflow/tfjs-node`, `@tensorflow/tfjs-backend-wasm` and `@tensorflow/tfjs-backend-cpu`. Which one it is, and why
 * not those before it, stands in `capabilities.device` and in each program's `explain()`.
 *
 * @example const backend = await tfjs()
 * @example const backend = await tfjs({ tf }) // import * as tf from '@tensorflow/tfjs-core', an engine of yours set
 * @throws BackendUnavailableError when nothing is installed or works; it lists the reasons
 */
export function tfjs(options: TfjsOptions = {}): Promise<Backend> {
  // TensorFlow.js has one engine at a time, and switches while it loads: backends start one after another. Once they are up they
  // may take turns.
  const engine = options.tf?.getBackend()
  const started = starting.then(() => start(options, engine))
  starting = started.catch(() => undefined)
  return started
}

let starting: Promise<unknown> = Promise.resolve()

// `set`: the engine that the given tf had when it was given; another backend at work may have switched to its own since.
async function start(options: TfjsOptions, set: string | undefined): Promise<Backend> {
  checkChoice('tfjs', 'executor', options.executor, ['program', 'composed'])
  if (options.tf && options.engine) throw new GraphError('tfjs: give either tf or engine, not both')
  const { tf, engine, refusals } = options.tf ? await given(options.tf, set) : await loadTf(options.engine, { verbose: options.verbose ?? false, tf32: options.tf32 ?? false })
  const ledger = new MemoryLedger()
  const wanted = options.executor ?? (engine === 'tensorflow' ? 'program' : 'composed')
  const executor = wanted === 'program' ? await programOn(tf, engine, ledger, options.probe ?? true) : await composedExecutor(tf, engine, ledger)
  return new TfjsBackend(executor, ledger, refusals)
}

async function given(tf: Tf, set: string | undefined): Promise<LoadedTf> {
  await tf.ready()
  const engine = set || tf.getBackend()
  if (!engine) throw new BackendUnavailableError("tfjs: the given tf has no engine; import one (for example '@tensorflow/tfjs-backend-wasm') and call tf.setBackend()")
  return { tf, engine, refusals: [] }
}

async function programOn(tf: Tf, engine: string, ledger: MemoryLedger, probe: boolean): Promise<Executor> {
  if (engine !== 'tensorflow') {
    throw new BackendUnavailableError(`tfjs: executor 'program' needs TensorFlow's native library (@tensorflow/tfjs-node-gpu or tfjs-node); the engine is '${engine}', which runs executor 'composed'`)
  }
  // Only here, so that browsers never see what needs Node.
  const { programExecutor } = await import('./program/executor.node.ts')
  return programExecutor(tf, ledger, { probe })
}

/** The backend over an executor. */
export class TfjsBackend implements Backend {
  readonly name: string = 'tfjs'
  readonly capabilities: Capabilities
  readonly guardsState: boolean = true
  readonly #executor: Executor
  readonly #ledger: MemoryLedger
  readonly #refusals: readonly string[]
  readonly #executables: Set<TfjsExecutable> = new Set()
  readonly #life: Lifetime = new Lifetime('tfjs: this backend', async () => {
    await Promise.all([...this.#executables].map((e) => e.end()))
    this.#executor.dispose()
  })

  constructor(executor: Executor, ledger: MemoryLedger, refusals: readonly string[]) {
    this.#executor = executor
    this.#ledger = ledger
    this.#refusals = refusals
    this.capabilities = executor.capabilities
  }

  supports(node: Node, graph: Graph): true | { readonly reason: string } {
    return unknownSizes(node, graph) ?? this.#executor.supports(node, graph)
  }

  createState(initial: readonly StateInit[]): Promise<StateStore> {
    return this.#life.use(() => this.#executor.createState(initial))
  }

  compile(graph: Graph, options: CompileOptions = {}): Promise<Executable> {
    return this.#life.use(() => this.#compile(graph, options))
  }

  async #compile(graph: Graph, options: CompileOptions): Promise<Executable> {
    checkSizes('tfjs', graph)
    checkSupport(this, graph)
    const state = ownState('tfjs', graph, options.state, (store) => store instanceof TfjsState)
    const { notes, ...loaded } = await this.#executor.load({ graph, guard: options.guard }, state)
    const executable = new TfjsExecutable({
      graph,
      loaded: { ...loaded, notes: [this.capabilities.device, ...this.#refusals, ...notes] },
      state,
      owner: this.#executor,
      onDispose: (e) => this.#executables.delete(e),
    })
    this.#executables.add(executable)
    return executable
  }

  upload(tensor: HostTensor): Promise<DeviceTensor> {
    return this.#life.use(() => {
      checkData('tfjs: upload', tensor)
      return new TfjsTensor(this.#executor.upload(tensor), tensor.data.byteLength, this.#executor, this.#ledger)
    })
  }

  memory(): MemoryReport {
    return this.#ledger.report()
  }

  dispose(): Promise<void> {
    return this.#life.end()
  }
}
