// What a case asks of an engine: a graph, the states it starts from, and the inputs of one or more runs.

import type { Graph, HostTensor, StateInit } from '@dynconv/core'

/** Something to run. */
export interface Program {
  readonly graph: Graph
  /** The start of every state that the graph names. */
  readonly states: readonly StateInit[]
  /** The inputs of each run, in the graph's order; states carry over from run to run. */
  readonly runs: readonly (readonly HostTensor[])[]
}
