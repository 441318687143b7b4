// Decides, from the graph alone, which values lie blocked and which states are stored as kernels.
//
// Convolutions that the blocked kernels can take say what they want of their inputs and outputs. A wish spreads over all
// values of one shape that elementwise ops (and normalisations, which keep the shape) tie together, so that a weight, its
// gradient, its momentum and its new value agree and nothing is reordered between them. Whatever no wish reaches is plain.
// An assignment is a preference, not a promise: a value that is made plain is converted where it is read blocked, and the
// other way round. So a wrong guess costs time, never correctness.

import { type Graph, isStatic, type Node, roots, sameShape, type StaticShape, typeOf, type ValueId } from '@dynconv/core'
import type { Layout } from '../lowering.ts'
import { convCase, type ConvCase, type ConvKind, hasFilterGrad, inputGradForm, kindOf } from './support.ts'
import { fits } from './views.ts'

/** Layouts by value; plain where there is none. */
export interface Assignment {
  layoutOf(id: ValueId): Layout
  stateLayout(name: string): Layout
}

/** A convolution, or a gradient of one, that runs in blocks. In form outputs its output channels are those of all bases. */
export interface BlockedNode {
  readonly case: ConvCase
  readonly kind: ConvKind
}

/** Ops that work element by element on inputs of one shape (or broadcast ones), whatever the order in memory. */
export const elementwiseOps: ReadonlySet<Node['op']> = new Set<Node['op']>([
  'add', 'sub', 'mul', 'div', 'min', 'max', 'pow', 'compare', 'select', 'neg', 'abs', 'exp', 'log', 'sqrt', 'rsqrt', 'tanh',
  'sigmoid', 'relu', 'clamp', 'stopGradient',
]) // prettier-ignore

/** Normalisations per channel: images of one shape in, images of that shape out. */
export const channelNorms: ReadonlySet<Node['op']> = new Set<Node['op']>(['batchNorm', 'batchNormGrad', 'batchNormInference'])

/** Ops on windows of images, channel by channel. */
const pools: ReadonlySet<Node['op']> = new Set<Node['op']>(['maxPool2d', 'avgPool2d'])

/** The static shape of a value; undefined where a size is only a name. */
export function shapeOf(graph: Graph, id: ValueId | undefined): StaticShape | undefined {
  if (id === undefined) return undefined
  const { shape } = typeOf(graph, id)
  return isStatic(shape) ? shape : undefined
}

/** The convolution of `node` where it runs in blocks. */
export function blockedNode(graph: Graph, node: Node, block: number): BlockedNode | undefined {
  const found = describeConvolution(graph, node)
  if (!found || [...node.inputs, ...node.outputs].some((id) => typeOf(graph, id).dtype !== 'float32')) return undefined
  const byOutputs = isByOutputs(node)
  // The bases must be separate blocks of output channels.
  if (byOutputs && found.case.groups > 1) return undefined
  const kind = kindOf(found.case, block, found.dynamic && !byOutputs)
  if (kind === undefined) return undefined
  if (found.role === 'inputGrad' && !inputGradForm(found.case, kind)) return undefined
  if (found.role === 'filterGrad' && !hasFilterGrad(found.case, kind)) return undefined
  const bases = byOutputs ? (shapeOf(graph, node.inputs[node.op === 'dynamicConv2dKernelGrad' ? 2 : 1])?.[0] ?? 1) : 1
  return { case: { ...found.case, outChannels: found.case.outChannels * bases }, kind }
}

/** Whether a value is a state that the program leaves as it is: what depends on it alone is computed once. */
export function isOnlyRead(graph: Graph, id: ValueId | undefined): boolean {
  return graph.states.some((s) => s.value === id && s.update === undefined)
}

/** Whether a dynamic convolution, or a gradient of one, runs in form outputs. */
export function isByOutputs(node: Node): boolean {
  return 'form' in node.attrs && node.attrs.form === 'outputs'
}

/** A convolution, or a gradient of one, by numbers. */
export interface Described {
  readonly case: ConvCase
  /** Whether every sample has a kernel of its own. */
  readonly dynamic: boolean
  readonly role: 'forward' | 'inputGrad' | 'filterGrad'
}

/** The numbers of a convolution or of one of its gradients; undefined for other nodes, and where a size is only a name. */
export function describeConvolution(graph: Graph, node: Node): Described | undefined {
  const shape = (id: ValueId | undefined): StaticShape | undefined => shapeOf(graph, id)
  const make = (role: Described['role'], dynamic: boolean, x: ValueId | undefined, w: ValueId | undefined, y: ValueId | undefined): Described | undefined => {
    const [xs, ws, ys] = [shape(x), shape(w), shape(y)]
    return xs && ws && ys && 'groups' in node.attrs && 'dilation' in node.attrs ? { case: convCase(node.attrs, xs, ws, ys), dynamic, role } : undefined
  }
  const { inputs, outputs } = node
  if (node.op === 'conv2d') return make('forward', false, inputs[0], inputs[1], outputs[0])
  if (node.op === 'conv2dInputGrad') return make('inputGrad', false, outputs[0], inputs[1], inputs[0])
  if (node.op === 'conv2dFilterGrad') return make('filterGrad', false, inputs[0], outputs[0], inputs[1])
  if (node.op === 'dynamicConv2d') return make('forward', true, inputs[0], inputs[1], outputs[0])
  if (node.op === 'dynamicConv2dInputGrad') return make('inputGrad', true, outputs[0], inputs[1], inputs[0])
  if (node.op === 'dynamicConv2dKernelGrad') return make('filterGrad', true, inputs[0], inputs[2], inputs[1])
  return undefined
}

/** Values that a convolution wants as images, and as kernels. */
function wishes(node: Node, { kind }: BlockedNode): readonly (readonly [ValueId | undefined, Layout])[] {
  const { inputs, outputs } = node
  const x: Layout = kind === 'stem' ? 'plain' : 'blocked'
  if (node.op === 'conv2d' || node.op === 'dynamicConv2d') return [[inputs[0], x], [inputs[1], 'kernel'], [outputs[0], 'blocked']] // prettier-ignore
  if (node.op === 'conv2dInputGrad' || node.op === 'dynamicConv2dInputGrad') return [[inputs[0], 'blocked'], [inputs[1], 'kernel'], [outputs[0], 'blocked']] // prettier-ignore
  return [[inputs[0], x], [inputs[1], 'blocked'], [inputs[2], 'kernel'], [outputs[0], 'kernel']] // prettier-ignore
}

/** Assigns layouts for an engine with `block`. */
export function assign(graph: Graph, block: number): Assignment {
  const parent = new Map<ValueId, ValueId>()
  const find = (id: ValueId): ValueId => {
    let root = id
    for (let up = parent.get(root); up !== undefined && up !== root; up = parent.get(root)) root = up
    parent.set(id, root)
    return root
  }
  const tie = (a: ValueId, b: ValueId): void => {
    parent.set(find(a), find(b))
  }

  const wanted: (readonly [ValueId, Layout])[] = []
  for (const node of neededNodes(graph)) {
    const convolution = blockedNode(graph, node, block)
    if (convolution) {
      for (const [id, layout] of wishes(node, convolution)) if (id !== undefined && layout !== 'plain') wanted.push([id, layout])
    }
    for (const [a, b] of tiesOf(graph, node)) tie(a, b)
  }
  // A state's new value is stored as the state is.
  for (const { value, update } of graph.states) if (update !== undefined) tie(value, update)

  const layouts = new Map<ValueId, Layout>()
  for (const [id, layout] of wanted) if (fits(shapeOf(graph, id) ?? [], layout, block)) layouts.set(find(id), layout)
  const layoutOf = (id: ValueId): Layout => {
    const layout = layouts.get(find(id)) ?? 'plain'
    const shape = shapeOf(graph, id)
    return layout !== 'plain' && shape && fits(shape, layout, block) ? layout : 'plain'
  }
  // A pool of blocked images leaves them so.
  for (const node of neededNodes(graph)) {
    const [x, y] = [node.inputs[0] ?? -1, node.outputs[0] ?? -1]
    if (pools.has(node.op) && layoutOf(x) === 'blocked' && typeOf(graph, x).dtype === 'float32' && !layouts.has(find(y))) layouts.set(find(y), 'blocked')
  }
  const states = new Map(graph.states.map((s) => [s.name, s.dtype === 'float32' ? layoutOf(s.value) : 'plain']))
  return { layoutOf, stateLayout: (name) => (states.get(name) === 'kernel' ? 'kernel' : 'plain') }
}

function tiesOf(graph: Graph, node: Node): readonly (readonly [ValueId, ValueId])[] {
  const [output] = node.outputs
  if (output === undefined) return []
  if (elementwiseOps.has(node.op)) {
    const { shape } = typeOf(graph, output)
    return node.inputs.filter((id) => sameShape(typeOf(graph, id).shape, shape)).map((id) => [id, output])
  }
  if (!channelNorms.has(node.op)) return []
  const [x] = node.inputs
  const dy = node.op === 'batchNormGrad' ? node.inputs[4] : undefined
  return [x, dy].flatMap((id) => (id === undefined ? [] : [[id, output] as const]))
}

/** The nodes that an output or a state's update needs, in order. */
export function neededNodes(graph: Graph): readonly Node[] {
  const needed = new Set(roots(graph))
  const result: Node[] = []
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((id) => needed.has(id))) continue
    node.inputs.forEach((id) => needed.add(id))
    result.push(node)
  }
  return result.reverse()
}
