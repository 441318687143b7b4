// What a backend is. All argument checks stand above it, in the ops' `infer`: a backend receives only graphs that passed.
//
// A backend takes one graph and gives one program. State (parameters, statistics, optimizer moments) lives on the device
// in a StateStore, which several executables may share: a training step, the step of the last, smaller batch, an evaluation.

import type { Graph, Node, StateKind } from '../graph/graph.ts'
import type { DynamicConvCost } from '../passes/planDynamicConv.ts'
import type { DType } from '../tensor/dtype.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { StaticShape } from '../tensor/shape.ts'

/** What a dtype can do on a backend: computed in, only stored, or not at all. */
export type DTypeSupport = 'arithmetic' | 'storage' | 'none'

/** What a backend can do. */
export interface Capabilities {
  readonly dtypes: { readonly [D in DType]: DTypeSupport }
  /** What runs it, for people: `ONNX Runtime 1.30 (cpu, 2 threads, NCHWc block 16)`. */
  readonly device: string
}

/** Live memory of a backend, as its own accounting sees it. */
export interface MemoryReport {
  readonly liveTensors: number
  readonly liveBytes: number
  readonly peakBytes: number
}

/** A tensor on the device. */
export interface DeviceTensor {
  readonly backend: string
  readonly dtype: DType
  readonly shape: StaticShape
  /** Copies it to the host. @throws DisposedError */
  read(): Promise<HostTensor>
  /** Frees it. Twice is harmless. */
  dispose(): void
  [Symbol.dispose](): void
}

/** The start of a state. */
export interface StateInit {
  readonly name: string
  readonly kind: StateKind
  readonly data: HostTensor
}

/** State on the device, by name. */
export interface StateStore {
  readonly names: readonly string[]
  /** Copies one state to the host. @throws GraphError for an unknown name, DisposedError */
  read(name: string): Promise<HostTensor>
  /** Replaces one state. @throws GraphError for an unknown name; ShapeError, DTypeError for another type; DisposedError */
  write(name: string, value: HostTensor): Promise<void>
  /** Frees all of it. Twice is harmless. */
  dispose(): void
}

/** How to compile. */
export interface CompileOptions {
  /** The states that the graph names. Needed when it has any. */
  readonly state?: StateStore
  /** The most bytes that a streamed intermediate (the per-sample kernels of a dynamic convolution's backward) may take. */
  readonly memoryBudgetBytes?: number
  /**
   * The name of a scalar output: a run in which it is not finite changes no state. A backend whose `guardsState` is not true
   * need not look at it: `prepare` has then put the condition into the graph.
   */
  readonly guard?: string
}

/** A compiled graph. */
export interface Executable {
  readonly graph: Graph
  /**
   * Runs once: outputs in the graph's order; states that the graph writes take their new values at the end. A failing run
   * changes no state.
   *
   * @throws ShapeError, DTypeError for another number of inputs or one of another type; GraphError for a tensor of another backend; DisposedError
   */
  run(inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly HostTensor[]>
  /** What was chosen (forms, layouts), a line a choice, for people. */
  explain(): string
  /** Frees the program (not the state). Twice is harmless. */
  dispose(): void
}

/** An engine. */
export interface Backend {
  readonly name: string
  readonly capabilities: Capabilities
  /** What each form of a dynamic convolution costs here; the count of multiply-adds and bytes unless given. */
  readonly dynamicConvCost?: DynamicConvCost
  /** Whether it can hold back the states of a run after it has seen its outputs (`CompileOptions.guard`), which costs nothing. */
  readonly guardsState?: boolean
  /** Whether this very node can run (asked per instance, with its types in `graph`). */
  supports(node: Node, graph: Graph): true | { readonly reason: string }
  /** State on this device: copies. @throws GraphError for a name that comes twice; ShapeError, DTypeError for data that are not of their type; DisposedError */
  createState(initial: readonly StateInit[]): Promise<StateStore>
  /**
   * A program for `graph`, whose shapes are all known.
   *
   * @throws UnsupportedOpError; ShapeError for unknown sizes; GraphError, ShapeError, DTypeError for a store that does not fit; DisposedError
   */
  compile(graph: Graph, options?: CompileOptions): Promise<Executable>
  /** Copies a tensor to the device. @throws ShapeError, DTypeError for data that are not of their type; DisposedError */
  upload(tensor: HostTensor): Promise<DeviceTensor>
  memory(): MemoryReport
  /** Frees the engine and its executables. What it made must not be used afterwards. Twice is harmless. */
  dispose(): Promise<void>
}
