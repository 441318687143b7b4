// Which nodes of a graph matter.

import { type Graph, producers, roots } from '@dynconv/core'

/** The indices of the nodes that an output or a state's next value depends on. */
export function neededNodes(graph: Graph): ReadonlySet<number> {
  const made = producers(graph)
  const needed = new Set<number>()
  const stack = [...roots(graph)]
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    const i = made.get(id)
    if (i === undefined || needed.has(i)) continue
    needed.add(i)
    stack.push(...(graph.nodes[i]?.inputs ?? []))
  }
  return needed
}
