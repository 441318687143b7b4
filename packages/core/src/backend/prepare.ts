// What every graph goes through between the trace and a backend: the passes that make it smaller and that choose the
// form of each dynamic convolution.

import type { Graph } from '../graph/graph.ts'
import { optimise } from '../passes/optimise.ts'
import { guardState } from '../passes/guardState.ts'
import { type FormChoice, planDynamicConv } from '../passes/planDynamicConv.ts'
import type { Backend, CompileOptions } from './contract.ts'

/** A graph that a backend can compile, and what was decided on the way. */
export interface Prepared {
  readonly graph: Graph
  readonly choices: readonly FormChoice[]
}

/**
 * Optimises `graph` (shapes all known) and plans its dynamic convolutions for `backend`. With `guard`, an output that must be
 * finite for states to change, the graph sees to it where the backend does not.
 */
export function prepare(
  graph: Graph,
  backend: Pick<Backend, 'dynamicConvCost' | 'guardsState'>,
  options: Pick<CompileOptions, 'guard' | 'memoryBudgetBytes'> = {},
): Prepared {
  const optimised = optimise(graph)
  const guarded = options.guard === undefined || backend.guardsState ? optimised : guardState(optimised, options.guard)
  return planDynamicConv(guarded, {
    ...(backend.dynamicConvCost ? { cost: backend.dynamicConvCost } : {}),
    ...(options.memoryBudgetBytes === undefined ? {} : { memoryBudgetBytes: options.memoryBudgetBytes }),
  })
}
