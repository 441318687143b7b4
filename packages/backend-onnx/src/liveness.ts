// Which nodes of a graph matter.

import { type Graph, producers, roots, type ValueId } from '@dynconv/core'

/** The indices of the nodes that `values` depend on: the outputs and the states' next values unless given. */
export function neededNodes(graph: Graph, values: Iterable<ValueId> = roots(graph)): ReadonlySet<number> {
  const made = producers(graph)
  const needed = new Set<number>()
  const stack = [...values]
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    const i = made.get(id)
    if (i === undefined || needed.has(i)) continue
    needed.add(i)
    stack.push(...(graph.nodes[i]?.inputs ?? []))
  }
  return needed
}
