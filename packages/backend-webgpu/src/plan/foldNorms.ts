// Which normalisations go into the convolution before them: those by given statistics, where the program only reads the
// parameters of both. Then the scaled kernels are computed once (fixed.ts), and a pass over the images is gone.

import { frozenValues, type Graph, type Node, type NodeOf, producers, typeOf, useCounts } from '@dynconv/core'

/** A convolution and the normalisation of its result, which nothing else reads. */
export interface NormalisedConv {
  readonly conv: NodeOf<'conv2d'> | NodeOf<'dynamicConv2d'>
  readonly norm: NodeOf<'batchNormInference'>
}

/** By their normalisations. */
export function normalisedConvs(graph: Graph): ReadonlyMap<Node, NormalisedConv> {
  const made = producers(graph)
  const uses = useCounts(graph)
  const frozen = frozenValues(graph)
  const found = new Map<Node, NormalisedConv>()
  for (const norm of graph.nodes) {
    const [x = -1, ...statistics] = norm.inputs
    const conv = graph.nodes[made.get(x) ?? -1]
    if (norm.op !== 'batchNormInference' || (conv?.op !== 'conv2d' && conv?.op !== 'dynamicConv2d')) continue
    if (uses.get(x) !== 1 || typeOf(graph, x).dtype !== 'float32' || ('form' in conv.attrs && conv.attrs.form === 'outputs')) continue
    // Of a dynamic convolution all but the samples' attention.
    const parameters = [...statistics, ...conv.inputs.slice(1).filter((_, i) => conv.op === 'conv2d' || i !== 1)]
    if (parameters.every((id) => frozen.has(id))) found.set(norm, { conv, norm })
  }
  return found
}
