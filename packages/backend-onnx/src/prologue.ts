// What a program computes from its parameters alone (a normalisation folded into a kernel, a kernel transformed or turned)
// need not be computed in every run: it is cut off the model as a prologue of its own, which runs when the parameters have
// changed, and whose results are fed to the rest.

import { GraphError, type HostTensor } from '@dynconv/core'
import { neededFor, readBy, tensorProto } from './model.ts'
import { elementTypes, type GraphProto, type ModelProto, type NodeProto, type ValueInfoProto } from './proto/onnx.ts'

/** A model cut in two. */
export interface SplitModel {
  /** What runs every time; it takes `values` as inputs. */
  readonly main: ModelProto
  /** Computes `values`; undefined where nothing was worth cutting off. */
  readonly prologue: ModelProto | undefined
  /** float32 tensors, by name. */
  readonly values: readonly string[]
}

// Only ops that move or compute numbers of one type, so that every cut value is known to be float32. Not Expand: what it
// makes is larger than what it takes, and cheap.
const computing: ReadonlySet<string> = new Set([
  'Add', 'Sub', 'Mul', 'Div', 'Neg', 'Sqrt', 'Reciprocal', 'Transpose', 'MatMul', 'FusedMatMul', 'Gemm', 'Gather', 'Slice', 'Concat', 'Pad', 'ReduceSum',
]) // prettier-ignore

// Ops that take no time: both halves may have them.
const viewing: ReadonlySet<string> = new Set(['Reshape', 'Identity'])

type Kind = 'constant' | 'stored' | 'derived' | 'live'

/** Cuts off what depends on the inputs `frozen` (float32 states that this program only reads) and constants alone. */
export function splitModel(model: ModelProto, frozen: ReadonlySet<string>): SplitModel {
  const { graph } = model
  const kinds = new Map<string, Kind>(graph.initializer.map((t) => [t.name ?? '', 'constant']))
  for (const { name } of graph.input) kinds.set(name, frozen.has(name) ? 'stored' : 'live')
  const early: NodeProto[] = []
  const late: NodeProto[] = []
  for (const node of graph.node) {
    const kind = kindOf(node, kinds)
    for (const name of node.output) kinds.set(name, kind)
    const isView = viewing.has(node.opType)
    if (kind === 'derived' || (kind === 'stored' && isView) || kind === 'constant') early.push(node)
    if (kind !== 'derived' || isView) late.push(node)
  }
  const computed = new Set(early.filter((n) => !viewing.has(n.opType)).flatMap((n) => (kinds.get(n.output[0] ?? '') === 'derived' ? n.output : [])))
  const main = neededFor(graph.output.map((o) => o.name), late)
  const read = new Set([...main.flatMap(readBy), ...graph.output.map((o) => o.name)])
  const values = [...computed].filter((name) => read.has(name))
  if (values.length === 0) return { main: model, prologue: undefined, values: [] }
  return {
    main: { ...model, graph: graphOf(graph, main, graph.input.filter((i) => !frozen.has(i.name) || read.has(i.name)), graph.output) },
    prologue: { ...model, graph: prologueOf(graph, neededFor(values, early), values) },
    values,
  }
}

/** `model` with some of its inputs as constants. */
export function withConstants(model: ModelProto, values: ReadonlyMap<string, HostTensor>): ModelProto {
  const constants = [...values].map(([name, value]) => ({ ...tensorProto(value), name }))
  const { graph } = model
  return { ...model, graph: { ...graph, input: graph.input.filter((i) => !values.has(i.name)), initializer: [...graph.initializer, ...constants] } }
}

/** `model` with its cut values, whose shapes are known now, as inputs. */
export function withInputs(model: ModelProto, values: ReadonlyMap<string, HostTensor>): ModelProto {
  const inputs = [...values].map(([name, { shape }]): ValueInfoProto => floatInfo(name, shape))
  return { ...model, graph: { ...model.graph, input: [...model.graph.input, ...inputs] } }
}

function prologueOf(graph: GraphProto, nodes: readonly NodeProto[], values: readonly string[]): GraphProto {
  const read = new Set(nodes.flatMap(readBy))
  return graphOf(graph, nodes, graph.input.filter((i) => read.has(i.name)), values.map((name) => floatInfo(name, undefined)))
}

function graphOf(graph: GraphProto, node: readonly NodeProto[], input: readonly ValueInfoProto[], output: readonly ValueInfoProto[]): GraphProto {
  const read = new Set([...node.flatMap(readBy), ...output.map((o) => o.name)])
  return { name: graph.name, node, input, output, initializer: graph.initializer.filter((t) => read.has(t.name ?? '')) }
}

function floatInfo(name: string, shape: readonly number[] | undefined): ValueInfoProto {
  const dims = shape === undefined ? {} : { shape: { dim: shape.map((dimValue) => ({ dimValue })) } }
  return { name, type: { tensorType: { elemType: elementTypes.float32, ...dims } } }
}

function kindOf(node: NodeProto, kinds: ReadonlyMap<string, Kind>): Kind {
  if (node.attribute.some((a) => a.g !== undefined)) return 'live'
  const from = readBy(node).map((name): Kind => {
    const kind = kinds.get(name)
    if (kind === undefined) throw new GraphError(`onnx: ${node.opType} reads '${name}' before it is made`)
    return kind
  })
  if (from.includes('live')) return 'live'
  if (from.every((kind) => kind === 'constant')) return 'constant'
  if (viewing.has(node.opType)) return from.includes('derived') ? 'derived' : 'stored'
  // The numbers come first; what says how to move them (indices, axes) is constant.
  return computing.has(node.opType) ? 'derived' : 'live'
}
