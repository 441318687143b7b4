// The standard pipeline: what every engine gains from and no result changes by (beyond the rounding of folded constants).

import type { Graph } from '../graph/graph.ts'
import { cse } from './cse.ts'
import { dce } from './dce.ts'
import { fold, type FoldOptions } from './fold.ts'
import { simplify } from './simplify.ts'

// One pass opens the way for another (a folded constant turns out to be a 1), seldom more than twice.
const maxRounds = 4

/**
 * Simplifies, folds constants, merges equal nodes and removes dead ones, until nothing more goes away.
 *
 * @throws RangeError where a constant index is out of bounds
 */
export function optimise(graph: Graph, options: FoldOptions = {}): Graph {
  let current = graph
  for (let round = 0; round < maxRounds; round++) {
    const next = dce(cse(fold(simplify(current), options)))
    const settled = round > 0 && next.nodes.length === current.nodes.length
    current = next
    if (settled) break
  }
  return current
}
