// Finds, in the graph alone, what one blocked convolution can do on the side. ONNX Runtime's blocked Conv adds a bias and
// a whole tensor to its result and passes it through an activation, each for nearly nothing, where an op of its own would read and
// write every value again. So:
//
// - A tree of adds whose inner results nobody else reads is a sum of terms; a term that is made by a blocked convolution
//   (or by a normalisation, which is a depthwise one here), for this sum only, takes the others in: residual connections
//   forward, and backward the gradients that meet in one value. A term per channel becomes a bias.
// - relu or clamp of such a sum, or of such a term alone, becomes its activation.
// - A normalisation by given statistics after a convolution goes into the convolution's kernels and bias, where the program
//   only reads all of these (so that it happens once, not in every run: prologue.ts).
// - select(y > 0, g, 0) with y = relu(..) is g times a mask that is made from y, without the comparison.
//
// A node that a later one takes in is `absorbed`: the later one, the root, emits both.

import { frozenValues, type Graph, type Node, type NodeOf, producers, sameShape, sizeOf, type StaticShape, typeOf, useCounts, type ValueId } from '@dynconv/core'
import { type Assignment, blockedNode, channelNorms, neededNodes, shapeOf } from './assign.ts'
import { type ConvNode, isConvNode } from './convNode.ts'
import type { Activation } from './nchwc.ts'

/** A sum that one node, its root, computes. */
export interface SumPlan {
  /** The value that it makes. */
  readonly output: ValueId
  readonly shape: StaticShape
  /** Terms of the full shape that are computed elsewhere. */
  readonly terms: readonly ValueId[]
  /** Terms [1 or N, C, 1, 1], or less, that are the same for every pixel. */
  readonly perChannel: readonly ValueId[]
  /** Nodes whose results are terms, to be emitted with the sum. */
  readonly makers: readonly Node[]
  readonly activation: Activation | undefined
}

/** What is fused with what. */
export interface FusionPlan {
  /** Nodes whose results the root of a sum emits. A batchNorm still makes its statistics at its own place. */
  readonly absorbed: ReadonlySet<Node>
  readonly sums: ReadonlyMap<Node, SumPlan>
  /** The y of each select(y > 0, g, 0). */
  readonly masks: ReadonlyMap<Node, ValueId>
  /** The convolution that each folded normalisation goes into. */
  readonly folds: ReadonlyMap<Node, ConvNode>
}

/** Plans the fusions of a graph whose layouts are assigned. */
export function planFusions(graph: Graph, assignment: Assignment, block: number): FusionPlan {
  const nodes = neededNodes(graph)
  const uses = useCounts({ ...graph, nodes })
  const made = producers(graph)
  const makerOf = (id: ValueId): Node | undefined => graph.nodes[made.get(id) ?? -1]
  const once = (id: ValueId): boolean => uses.get(id) === 1
  const isBlocked = (id: ValueId): boolean => assignment.layoutOf(id) === 'blocked' && typeOf(graph, id).dtype === 'float32'

  // The node that makes `id` for one reader only, as its first result, and can take other terms in.
  const takesIn = (id: ValueId): Node | undefined => {
    const node = makerOf(id)
    if (!node || node.outputs[0] !== id || !once(id) || !isBlocked(id)) return undefined
    if (channelNorms.has(node.op)) return node
    return isConvNode(node) && blockedNode(graph, node, block) ? node : undefined
  }

  const folds = new Map<Node, ConvNode>()
  const fixed = frozenValues(graph)
  for (const node of nodes) {
    const convolution = node.op === 'batchNormInference' ? takesIn(node.inputs[0] ?? -1) : undefined
    if (!convolution || !isConvNode(convolution) || !isBlocked(node.outputs[0] ?? -1)) continue
    const [, kernels = -1, , bias] = convolution.inputs
    const parameters = [...node.inputs.slice(1), kernels, ...(convolution.op === 'conv2d' ? convolution.inputs.slice(2) : bias === undefined ? [] : [bias])]
    if (parameters.every((id) => fixed.has(id)) && isWorthFolding(graph, convolution)) folds.set(node, convolution)
  }

  const absorbed = new Set<Node>(folds.values())
  const sums = new Map<Node, SumPlan>()
  const collect = (root: Node, output: ValueId, start: readonly ValueId[], activation: Activation | undefined): void => {
    const shape = shapeOf(graph, output) ?? []
    const found = { terms: [] as ValueId[], perChannel: [] as ValueId[], makers: [] as Node[], inner: [] as Node[] }
    const visit = (id: ValueId): boolean => {
      const source = broadcastSource(makerOf(id), shape, graph)
      if (isPerChannel(shapeOf(graph, id), shape)) found.perChannel.push(id)
      else if (source !== undefined && once(id)) {
        const node = makerOf(id)
        if (node) found.inner.push(node)
        found.perChannel.push(source)
      } else if (!sameShape(typeOf(graph, id).shape, shape)) return false
      else {
        const node = makerOf(id)
        const maker = takesIn(id)
        if (maker) found.makers.push(maker)
        else if (node?.op === 'add' && once(id) && isBlocked(id)) {
          found.inner.push(node)
          return node.inputs.every(visit)
        } else found.terms.push(id)
      }
      return true
    }
    if (!start.every(visit) || found.makers.length === 0) return
    // A single term without an activation is nothing to fuse.
    if (activation === undefined && found.makers.length + found.terms.length + found.perChannel.length < 2) return
    sums.set(root, { output, shape, terms: found.terms, perChannel: found.perChannel, makers: found.makers, activation })
    for (const node of [...found.makers, ...found.inner]) absorbed.add(node)
  }

  // From the end, so that the largest tree is found first; its inner adds are absorbed by then.
  for (const node of nodes.toReversed()) {
    const [output] = node.outputs
    if (output === undefined || absorbed.has(node) || !isBlocked(output)) continue
    if (node.op === 'relu') collect(node, output, node.inputs, 'relu')
    else if (node.op === 'clamp') collect(node, output, node.inputs, node.attrs)
    else if (node.op === 'add') collect(node, output, node.inputs, undefined)
  }

  const masks = new Map<Node, ValueId>()
  const readers = new Map<ValueId, Node[]>()
  for (const node of nodes) {
    for (const id of node.inputs) readers.set(id, [...(readers.get(id) ?? []), node])
    const y = node.op === 'select' ? reluMaskOf(graph, makerOf, node) : undefined
    if (y !== undefined && isBlocked(y) && isBlocked(node.outputs[0] ?? -1)) masks.set(node, y)
  }
  // A comparison that only masks read is never computed.
  for (const node of nodes) {
    const [output] = node.outputs
    if (node.op !== 'compare' || output === undefined) continue
    const by = readers.get(output) ?? []
    if (by.length === uses.get(output) && by.every((reader) => masks.has(reader))) absorbed.add(node)
  }
  return { absorbed, sums, masks, folds }
}

// A folded kernel is a second copy of it, in memory for as long as the program is. That is little for a static one; K bases
// are folded only where the images, whose extra reading and writing it saves, are as large.
function isWorthFolding(graph: Graph, convolution: ConvNode): boolean {
  if (convolution.op === 'conv2d') return true
  const size = (id: ValueId | undefined): number => sizeOf(shapeOf(graph, id) ?? [])
  return convolution.op === 'dynamicConv2d' && size(convolution.inputs[1]) <= size(convolution.outputs[0])
}

/** Whether `shape` broadcasts to `full` [N, C, H, W] as [1 or N, C, 1, 1]. */
function isPerChannel(shape: StaticShape | undefined, full: StaticShape): boolean {
  if (!shape || shape.length < 3 || shape.length > 4 || sameShape(shape, full)) return false
  const [n, c, h, w] = shape.length === 3 ? [1, ...shape] : shape
  return (n === 1 || n === full[0]) && c === full[1] && h === 1 && w === 1
}

// The input of a broadcastTo that repeats a value per channel over the pixels.
function broadcastSource(node: Node | undefined, full: StaticShape, graph: Graph): ValueId | undefined {
  const [source] = node?.inputs ?? []
  return node?.op === 'broadcastTo' && isPerChannel(shapeOf(graph, source), full) ? source : undefined
}

// y, where node is select(y > 0, g, 0), the gradient of y = relu(..): then y is not negative, and y > 0 where it is not 0.
function reluMaskOf(graph: Graph, makerOf: (id: ValueId) => Node | undefined, node: NodeOf<'select'>): ValueId | undefined {
  const [condition = -1, , otherwise = -1] = node.inputs
  const compare = makerOf(condition)
  if (compare?.op !== 'compare' || compare.attrs.kind !== 'greater' || !isZero(makerOf, otherwise)) return undefined
  const [y = -1, zero = -1] = compare.inputs
  if (!isZero(makerOf, zero) || makerOf(y)?.op !== 'relu') return undefined
  const [output = -1] = node.outputs
  return sameShape(typeOf(graph, y).shape, typeOf(graph, output).shape) ? y : undefined
}

function isZero(makerOf: (id: ValueId) => Node | undefined, id: ValueId): boolean {
  const node = makerOf(id)
  if (node?.op === 'broadcastTo') return isZero(makerOf, node.inputs[0] ?? -1)
  return node?.op === 'constant' && node.attrs.value.data.length === 1 && node.attrs.value.data[0] === 0
}
