// What a piece of work amounts to, counted and not measured: multiply-adds, and the bytes that must move at the least.

import { type Backend, bytesOf, cost, crossEntropy, type Graph, type HostTensor, hostTensor, type Module, type Node, prepare, sgd, traceModule, traceStep, typeOf } from '@dynconv/core'

/** Multiply-adds and bytes of one run. */
export interface Work {
  /** Multiply-adds of the graph as it was planned. */
  readonly macs: number
  /** Multiply-adds with every dynamic convolution in form "kernels", which never needs more than form "outputs". */
  readonly leastMacs: number
  /** Inputs, outputs and state read once, and state that a step changes written once; what lies between layers is not counted, for it may stay in caches. */
  readonly bytes: number
  /** State alone: parameters, statistics, an optimizer's moments. */
  readonly stateBytes: number
  /** The kernels of all samples that dynamic convolutions mix, forward. */
  readonly mixedBytes: number
}

/** Counts a planned graph. */
export function workOf(graph: Graph): Work {
  const bytes = (values: readonly { readonly value: number }[]): number => values.reduce((sum, { value }) => sum + bytesOf(typeOf(graph, value)), 0)
  const stateBytes = bytes(graph.states)
  const writtenBytes = bytes(graph.states.filter((s) => s.update !== undefined))
  return {
    macs: cost(graph).macs,
    leastMacs: cost({ ...graph, nodes: graph.nodes.map(inKernels) }).macs,
    bytes: bytes(graph.inputs) + bytes(graph.outputs) + stateBytes + writtenBytes,
    stateBytes,
    mixedBytes: graph.nodes.reduce((sum, node) => sum + mixedBytesOf(graph, node), 0),
  }
}

function mixedBytesOf(graph: Graph, node: Node): number {
  const [, bases, pi] = node.inputs
  if (node.op !== 'dynamicConv2d' || bases === undefined || pi === undefined) return 0
  const [count = 0] = typeOf(graph, bases).shape
  const [batch = 0] = typeOf(graph, pi).shape
  return (bytesOf(typeOf(graph, bases)) / Number(count)) * Number(batch)
}

function inKernels(node: Node): Node {
  if (node.op === 'dynamicConv2d') return { ...node, attrs: { ...node.attrs, form: 'kernels' } }
  if (node.op === 'dynamicConv2dInputGrad') return { ...node, attrs: { ...node.attrs, form: 'kernels' } }
  return node.op === 'dynamicConv2dKernelGrad' ? { ...node, attrs: { ...node.attrs, form: 'kernels' } } : node
}

/** Counts a network in inference, as `backend` plans it. */
export function inferenceWork(net: Module, images: HostTensor, backend: Backend): Work {
  return workOf(prepare(traceModule(net, { inputs: [{ shape: images.shape }] }).graph, backend).graph)
}

/** Counts a training step of a network, as `backend` plans it. */
export function stepWork(net: Module, images: HostTensor, backend: Backend): Work {
  const batch = images.shape[0] ?? 0
  return workOf(prepare(traceStep(net, { backend, ...stepOptions() }, images, hostTensor('int32', [batch], new Int32Array(batch))), backend).graph)
}

/** How every training step here trains: cross entropy, SGD with momentum. */
export function stepOptions(): { readonly loss: ReturnType<typeof crossEntropy>; readonly optimizer: ReturnType<typeof sgd>; readonly metrics: () => Record<string, never> } {
  return { loss: crossEntropy(), optimizer: sgd({ lr: 0.01, momentum: 0.9 }), metrics: () => ({}) }
}
