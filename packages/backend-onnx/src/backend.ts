// The backend: ONNX Runtime's CPU provider behind core's contract.

import {
  type Backend,
  type Capabilities,
  checkChoice,
  checkData,
  checkSizes,
  checkSupport,
  type CompileOptions,
  copyHostTensor,
  type DeviceTensor,
  type DynamicConvCost,
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
import { measurementsFolder } from '@dynconv/core/node'
import { Derived } from './derived.ts'
import { type ExecutableParts, OnnxExecutable } from './executable.ts'
import { blockedLayouts } from './layout/layouts.ts'
import { probeNchwc } from './layout/probe.ts'
import type { LayoutPolicy } from './lowering.ts'
import { cachedRates, keyOf } from './planner/cache.ts'
import { measureRates } from './planner/measureRates.ts'
import { costOf, typicalRates } from './planner/rates.ts'
import { lowerProgram, type ProgramInfo, type ProgramState } from './program.ts'
import { type LoadedModel, loadModel } from './intoMemory.ts'
import { splitModel, withConstants, withInputs } from './prologue.ts'
import { encodeModel, type ModelProto } from './proto/onnx.ts'
import { type Engine, loadEngine, type Optimisation, optimisations } from './session.ts'
import { type ConvertState, OnnxState } from './state.ts'
import { OnnxTensor } from './tensors.ts'

/** How to start ONNX Runtime. */
export interface OnnxOptions {
  /** How many threads a program uses; all cores unless given. */
  readonly threads?: number
  /** How hard the engine rewrites a program when it loads it; 'basic' unless given (more takes longer and gains nothing). */
  readonly optimisation?: Optimisation
  /**
   * 'auto' (unless given) keeps images and kernels in the engine's blocked layout where that is faster and the engine has
   * it; 'plain' keeps everything in NCHW.
   */
  readonly layout?: 'auto' | 'plain'
  /**
   * How the form of a dynamic convolution is chosen where it is 'auto': 'probe' (unless given) measures this machine, once, in
   * about half a second; 'static' goes by typical rates, so that a plan is the same everywhere.
   */
  readonly planner?: 'probe' | 'static'
  /**
   * The folder where measured rates are kept; false: nowhere. Unless given, the one that the variable DYNCONV_CACHE names
   * ('off': nowhere), or else `dynconv` in the user's cache folder.
   */
  readonly cache?: string | false
}

/** What chooses memory layouts. */
export interface Layouts {
  /** For people: `NCHWc block 16`. */
  readonly name: string
  policy(graph: Graph): LayoutPolicy | undefined
  readonly convertState: ConvertState
}

/** Everything as it stands: NCHW, row-major. */
export const plainLayouts: Layouts = {
  name: 'NCHW',
  policy: () => undefined,
  convertState: (_value, from, to) => {
    throw new GraphError(`onnx: no conversion of a state from layout ${from} to ${to}`)
  },
}

/**
 * Starts ONNX Runtime (package `onnxruntime-node`) on the CPU. Every graph becomes one ONNX model and one session.
 *
 * float16 is a storage type: values are kept in 16 bits and computed in float32, every result rounded.
 *
 * @example const backend = await onnx({ threads: 4 })
 * @throws BackendUnavailableError when onnxruntime-node is not installed; RangeError for threads < 1; ValueError for options that there are not
 */
export async function onnx(options: OnnxOptions = {}): Promise<Backend> {
  checkChoice('onnx', 'layout', options.layout, ['auto', 'plain'])
  checkChoice('onnx', 'planner', options.planner, ['probe', 'static'])
  checkChoice('onnx', 'optimisation', options.optimisation, optimisations)
  const engine = await loadEngine(options.threads)
  const blocked = options.layout === 'plain' ? undefined : await blockedLayouts(engine)
  const layouts = blocked ?? plainLayouts
  const cost = options.planner === 'static' ? costOf(typicalRates) : await measuredCost(engine, layouts, options)
  return new OnnxBackend(engine, layouts, options, cost)
}

async function measuredCost(engine: Engine, layouts: Layouts, { cache }: OnnxOptions): Promise<DynamicConvCost> {
  const nchwc = layouts === plainLayouts ? undefined : await probeNchwc(engine)
  return costOf(await cachedRates(measurementsFolder(cache), keyOf(engine, layouts.name), () => measureRates(engine, nchwc)))
}

// A state that the program reads and leaves as it is.
function isFrozen(s: ProgramState): boolean {
  return s.next === undefined && s.dtype === 'float32'
}

// Feeding a tensor takes about 2 us, which programs of many small ones notice: with its states as constants, a ResNet-20 takes
// 0.8 of its time at batch 1, a MobileNetV2 0.84. Large ones would only take memory that they have already.
const mostFoldedBytes = 2 ** 24
const mostBytesEach = 2 ** 17

// What a program that changes no state is fed beside its inputs, unless it is too much.
function constantsOf({ states }: ProgramInfo, state: OnnxState, derived: Derived | undefined): ReadonlyMap<string, HostTensor> | undefined {
  const values = new Map([...states.map((s) => [s.input, state.take(s.name, s.layout, true)] as const), ...(derived?.values ?? [])])
  return values.size > 0 && sizeOfAll(values).bytes <= Math.min(mostFoldedBytes, mostBytesEach * values.size) ? values : undefined
}

function sizeOfAll(values: ReadonlyMap<string, HostTensor>): { readonly tensors: number; readonly bytes: number } {
  return { tensors: values.size, bytes: [...values.values()].reduce((sum, { data }) => sum + data.byteLength, 0) }
}

/** The backend over a loaded engine. */
export class OnnxBackend implements Backend {
  readonly name: string = 'onnx'
  readonly capabilities: Capabilities
  readonly dynamicConvCost: DynamicConvCost
  /** States are outputs that are taken over after a run. */
  readonly guardsState: boolean = true
  readonly #engine: Engine
  readonly #layouts: Layouts
  readonly #options: OnnxOptions
  readonly #ledger: MemoryLedger = new MemoryLedger()
  readonly #executables: Set<OnnxExecutable> = new Set()
  readonly #life: Lifetime = new Lifetime('onnx: this backend', async () => {
    await Promise.all([...this.#executables].map((e) => e.end()))
  })

  constructor(engine: Engine, layouts: Layouts, options: OnnxOptions, cost: DynamicConvCost = costOf(typicalRates)) {
    this.dynamicConvCost = cost
    this.#engine = engine
    this.#layouts = layouts
    this.#options = options
    const threads = `${engine.threads} thread${engine.threads === 1 ? '' : 's'}`
    this.capabilities = {
      dtypes: { float32: 'arithmetic', float16: 'storage', int32: 'arithmetic', bool: 'arithmetic' },
      device: `ONNX Runtime ${engine.version} (cpu, ${threads}, ${layouts.name})`,
    }
  }

  supports(node: Node, graph: Graph): true | { readonly reason: string } {
    return unknownSizes(node, graph) ?? true
  }

  createState(initial: readonly StateInit[]): Promise<StateStore> {
    return this.#life.use(() => new OnnxState(initial, this.#ledger, this.#layouts.convertState))
  }

  compile(graph: Graph, options: CompileOptions = {}): Promise<Executable> {
    return this.#life.use(() => this.#compile(graph, options))
  }

  async #compile(graph: Graph, options: CompileOptions): Promise<Executable> {
    checkSizes('onnx', graph)
    checkSupport(this, graph)
    const state = ownState('onnx', graph, options.state, (store) => store instanceof OnnxState)
    const { model, ...info } = lowerProgram(graph, this.#layouts.policy(graph))
    const { main, prologue, values } = splitModel(model, new Set(info.states.filter(isFrozen).map((s) => s.input)))
    const derived = prologue && state ? this.#derived(prologue, values, info.states) : undefined
    const kept = new Set(main.graph.input.map((i) => i.name))
    const program = derived ? { ...info, states: info.states.filter((s) => kept.has(s.input)) } : info
    const load = (whole: ModelProto, prepack: boolean): Promise<LoadedModel> =>
      this.#load(() => loadModel(this.#engine, whole, info.resultBytes, { optimisation: this.#optimisation, prepack }))
    const loadAll = async (): Promise<Pick<ExecutableParts, 'model' | 'folded'>> => {
      if (!state) return { model: await load(model, true), folded: undefined }
      // Computed at once, so that the rest is compiled for their shapes.
      await derived?.of(state)
      const fed = derived ? withInputs(main, derived.values) : model
      const constants = info.states.every((s) => s.next === undefined) ? constantsOf(program, state, derived) : undefined
      if (!constants) return { model: await load(fed, true), folded: undefined }
      const names = info.states.map((s) => s.name)
      const folded = { ...sizeOfAll(constants), names, changes: state.changes(names), unfold: () => load(fed, true) }
      // Mixing kernels by a few rows is slower with bases that were prepacked: 1.05 of its time in a ResNet-20 at batch 64.
      const constant = await load(withConstants(fed, constants), false)
      // The session has copies of its own.
      await derived?.release()
      return { model: constant, folded }
    }
    const loaded = await (state ? state.exclusive(loadAll) : loadAll())
    const executable = new OnnxExecutable({
      engine: this.#engine,
      ...loaded,
      program,
      derived,
      graph,
      state,
      guard: options.guard,
      ledger: this.#ledger,
      onDispose: (e) => this.#executables.delete(e),
    })
    this.#executables.add(executable)
    return executable
  }

  #derived(prologue: ModelProto, values: readonly string[], states: readonly ProgramState[]): Derived {
    const read = new Set(prologue.graph.input.map((i) => i.name))
    return new Derived({
      engine: this.#engine,
      load: () => this.#load(() => this.#engine.createSession(encodeModel(prologue), { optimisation: this.#optimisation })),
      states: states.filter((s) => read.has(s.input)),
      values,
      ledger: this.#ledger,
    })
  }

  get #optimisation(): Optimisation {
    return this.#options.optimisation ?? 'basic'
  }

  async #load<T>(load: () => Promise<T>): Promise<T> {
    try {
      return await load()
    } catch (cause) {
      throw new GraphError(`onnx: ONNX Runtime refused the model: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    }
  }

  upload(tensor: HostTensor): Promise<DeviceTensor> {
    return this.#life.use(() => {
      checkData('onnx: upload', tensor)
      return new OnnxTensor(copyHostTensor(tensor), this.#ledger)
    })
  }

  memory(): MemoryReport {
    return this.#ledger.report()
  }

  dispose(): Promise<void> {
    return this.#life.end()
  }
}
