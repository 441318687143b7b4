// What every graph goes through between the trace and a backend: the passes that make it smaller and that choose the
// form of each dynamic convolution.

import type { Graph } from '../graph/graph.ts'
import { optimise } from '../passes/optimise.ts'
import { type FormChoice, planDynamicConv } from '../passes/planDynamicConv.ts'
import type { Backend } from './contract.ts'

/** A graph that a backend can compile, and what was decided on the way. */
export interface Prepared {
  readonly graph: Graph
  readonly choices: readonly FormChoice[]
}

/** Optimises `graph` (shapes all known) and plans its dynamic convolutions for `backend`. */
export function prepare(graph: Graph, backend: Pick<Backend, 'dynamicConvCost'>, options: { readonly memoryBudgetBytes?: number } = {}): Prepared {
  return planDynamicConv(optimise(graph), {
    ...(backend.dynamicConvCost ? { cost: backend.dynamicConvCost } : {}),
    ...(options.memoryBudgetBytes === undefined ? {} : { memoryBudgetBytes: options.memoryBudgetBytes }),
  })
}
