// Replaces ops that an engine does not run by the same thing in simpler ops, as each op's own `decompose` says.

import { GraphError } from '../backend/errors.ts'
import type { Graph, Node } from '../graph/graph.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { cse } from './cse.ts'
import { dce } from './dce.ts'
import { rewrite } from './rewrite.ts'

/** Which nodes stay: the ops of a set, or whatever a function of the node says. */
export type Supported = ReadonlySet<OpName> | ((node: Node, graph: Graph) => boolean)

// Decompositions go from rich ops to simple ones; a chain as long as this goes in circles.
const maxRounds = 16

/**
 * The graph in which every op that is not supported, and that can be, is decomposed (and what that takes again, as far
 * as needed). What is then still unsupported has no decomposition and stays.
 *
 * @example decompose(graph, new Set(['constant', 'add', 'mul']))
 * @throws GraphError when two ops decompose into one another
 */
export function decompose(graph: Graph, supported: Supported): Graph {
  const keeps = typeof supported === 'function' ? supported : (node: Node): boolean => supported.has(node.op)
  let current = graph
  for (let round = 0; round < maxRounds; round++) {
    const source = current
    const expands = source.nodes.map((node) => ops[node.op].decompose !== undefined && !keeps(node, source))
    if (!expands.includes(true)) return current
    current = rewrite(source, (node, inputs, _rewriting, index) => {
      if (!expands[index]) return undefined
      const def = ops[node.op] as OpDef<OpName>
      return def.decompose?.(node.attrs, inputs)
    })
    // Decompositions repeat themselves (the same constants, the same shift of a softmax) and may leave parts unused.
    current = dce(cse(current))
  }
  const names = [...new Set(current.nodes.filter((node) => !keeps(node, current)).map((node) => node.op))]
  throw new GraphError(`decompose: ${names.join(', ')} still not supported after ${maxRounds} rounds; their decompositions go in circles`)
}
