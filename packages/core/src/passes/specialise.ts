// Puts numbers in the place of named sizes: in the types of inputs and states, and in the attributes that hold shapes.
// Everything else is inferred anew.

import { GraphError, ValueError } from '../backend/errors.ts'
import type { Graph, Node } from '../graph/graph.ts'
import type { OpAttrs, OpName } from '../ops/attrs.ts'
import type { Dim, Shape } from '../tensor/shape.ts'
import { rewrite } from './rewrite.ts'

/** Sizes by name. */
export type Sizes = Readonly<Record<string, number>>

// Every op whose attributes hold a shape that may name a size.
const substitutions: { readonly [K in OpName]?: (attrs: OpAttrs[K], to: (shape: Shape) => Shape) => OpAttrs[K] } = {
  reshape: ({ shape }, to) => ({ shape: to(shape) }),
  broadcastTo: ({ shape }, to) => ({ shape: to(shape) }),
  iota: (attrs, to) => ({ ...attrs, shape: to(attrs.shape) }),
}

/** The names of sizes that `graph` does not know yet, sorted. */
export function symbols(graph: Graph): readonly string[] {
  const names = graph.values.flatMap((type) => type.shape.filter((d): d is string => typeof d === 'string'))
  return [...new Set(names)].sort()
}

/**
 * The graph with `sizes` in the place of named dimensions; names that are not given stay.
 *
 * @example specialise(graph, { N: 8 })
 * @throws GraphError for a name that the graph does not have; ValueError for a size that is not a non-negative integer;
 * ShapeError where an op cannot take the new shapes
 */
export function specialise(graph: Graph, sizes: Sizes): Graph {
  const known = symbols(graph)
  for (const [name, size] of Object.entries(sizes)) {
    if (!known.includes(name)) {
      throw new GraphError(`specialise: the graph has no size named ${name}; it has ${known.length ? known.join(', ') : 'none'}`)
    }
    if (!Number.isSafeInteger(size) || size < 0) throw new ValueError(`specialise: ${name}=${String(size)} must be a non-negative integer`)
  }
  if (known.length === 0) return graph
  const dim = (d: Dim): Dim => (typeof d === 'string' && Object.hasOwn(sizes, d) ? (sizes[d] ?? d) : d)
  const mapShape = (shape: Shape): Shape => shape.map(dim)
  return rewrite(graph, (node, inputs, { builder }) => builder.emit<OpName>(node.op, substitute(node, mapShape), inputs), { mapShape })
}

function substitute(node: Node, to: (shape: Shape) => Shape): OpAttrs[OpName] {
  // Boundary: the row of the table is the node's own op; TypeScript cannot relate the two through the union.
  const row = substitutions[node.op] as ((attrs: OpAttrs[OpName], to: (shape: Shape) => Shape) => OpAttrs[OpName]) | undefined
  return row ? row(node.attrs, to) : node.attrs
}
