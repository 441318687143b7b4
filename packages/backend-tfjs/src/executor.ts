// What the two executors (composed/, program/) have in common towards the backend: how a graph is loaded and run, where a
// tensor lies, and where states live.

import { type Capabilities, type DType, type Graph, type HostTensor, type Node, type StateInit, type StaticShape, toFloat64 } from '@dynconv/core'
import type { TfjsState } from './state.ts'

/** A tensor that an executor keeps. */
export interface Resident {
  readonly dtype: DType
  readonly shape: StaticShape
  read(): HostTensor | Promise<HostTensor>
  free(): void
}

/** What a loaded graph takes. */
export type RunInput = HostTensor | Resident

/** What is loaded. */
export interface Source {
  /** All shapes known. */
  readonly graph: Graph
  /** The scalar output that must be finite for states to change; they always do unless given. */
  readonly guard?: string | undefined
}

/** A graph, ready to run. */
export interface Loaded {
  /** Runs once; the states that it was loaded with take their new values at the end, or, when it throws, none does. */
  run(inputs: readonly RunInput[]): Promise<readonly HostTensor[]>
  /** What was chosen, a line each. */
  readonly notes: readonly string[]
  dispose(): void
}

/** A way to run graphs on TensorFlow.js. */
export interface Executor {
  readonly name: 'composed' | 'program'
  readonly capabilities: Capabilities
  supports(node: Node, graph: Graph): true | { readonly reason: string }
  upload(value: HostTensor): Resident
  createState(initial: readonly StateInit[]): TfjsState
  /** @param state of this executor, checked against the graph; undefined: the graph has none */
  load(source: Source, state: TfjsState | undefined): Promise<Loaded>
  dispose(): void
}

/** Whether a run that gave these outputs of `source` may change states. */
export function passesGuard({ graph, guard }: Source, outputs: readonly HostTensor[]): boolean {
  const value = guard === undefined ? undefined : outputs[graph.outputs.findIndex((o) => o.name === guard)]
  return value === undefined || toFloat64(value).every(Number.isFinite)
}

/** Whether an input is still on the host. */
export function isHost(input: RunInput): input is HostTensor {
  return 'data' in input
}
