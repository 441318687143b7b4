// Dead code elimination: keeps the nodes that outputs and state updates need. Inputs and states stay even when nothing
// reads them: they are the graph's interface.

import { type Graph, roots } from '../graph/graph.ts'
import { rewrite } from './rewrite.ts'

/** The graph without nodes that no output and no state update depends on. */
export function dce(graph: Graph): Graph {
  const live = new Set(roots(graph))
  const keep = new Set<number>()
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const node = graph.nodes[i]
    if (!node?.outputs.some((id) => live.has(id))) continue
    keep.add(i)
    for (const id of node.inputs) live.add(id)
  }
  return rewrite(graph, () => undefined, { keep: (index) => keep.has(index) })
}
