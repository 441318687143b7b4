// Chooses how every dynamic convolution is computed: sets `form` of dynamicConv2d and of its two gradients where it is
// 'auto', and `chunk` of dynamicConv2dKernelGrad where it is 0. Each node is judged by itself, by a cost model that a
// backend may bring along. What the forms are, and what they cost in multiply-adds, stands in ops/dynamicConv.ts.
//
// Bytes that a form moves beyond what both do (reading x, dy and the bases, writing the result). With n = O * I/g * kh * kw,
// s bytes an element, V the per-sample kernels [B, n] and Y the results by base [B, K, O, P, Q]:
//
//                             kernels                             outputs
//   dynamicConv2d             V written, read       2 B n s       Y written, read                      2 B K O P Q s
//   dynamicConv2dInputGrad    V written, read       2 B n s       pi dY written, read                  2 B K O P Q s
//   dynamicConv2dKernelGrad   dV written, read      3 B n s       pi dY and Y written, read            4 B K O P Q s
//                             twice (dW, dpi)

import { ValueError } from '../backend/errors.ts'
import { type Graph, isOp, type Node, producers, typeOf, type ValueId } from '../graph/graph.ts'
import type { DynamicConv2dAttrs, DynamicConv2dKernelGradAttrs, OpName, Size2d } from '../ops/attrs.ts'
import type { OpDef } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { bytesPerElement, type DType } from '../tensor/dtype.ts'
import { isStatic, type StaticShape, sizeOf } from '../tensor/shape.ts'
import { rewrite } from './rewrite.ts'

/** The dynamic ops. */
export type DynamicConvOp = 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

/** A form that a plan can choose. */
export type PlannedForm = 'kernels' | 'outputs'

/** The instance that is to be planned. All sizes are known. */
export interface DynamicConvLayer extends Omit<DynamicConv2dAttrs, 'form'> {
  readonly op: DynamicConvOp
  readonly dtype: DType
  /** B */
  readonly batch: number
  /** K */
  readonly numBases: number
  /** I */
  readonly inChannels: number
  /** O */
  readonly outChannels: number
  readonly kernelSize: Size2d
  /** Of x. */
  readonly inputSize: Size2d
  /** Of y. */
  readonly outputSize: Size2d
  /** Multiply-adds of each form. */
  readonly macs: Readonly<Record<PlannedForm, number>>
  /** Bytes that each form moves beyond what both move. */
  readonly extraBytes: Readonly<Record<PlannedForm, number>>
}

/** What a form costs on an engine: any unit, less is better. */
export interface DynamicConvCost {
  /** What the numbers are, for people: `seconds`. */
  readonly unit: string
  /** The cost of `layer` in `form`; infinity where the engine cannot. */
  readonly estimate: (layer: DynamicConvLayer, form: PlannedForm) => number
}

/** A decision, with its reason. */
export interface FormChoice {
  /** The index of the node in the planned graph. */
  readonly node: number
  readonly op: DynamicConvOp
  /** The state that the bases are read from (`layer1.0.conv1.bases`), or else the value's number (`%7`). */
  readonly bases: string
  /** Undefined while the batch is unknown. */
  readonly layer: DynamicConvLayer | undefined
  readonly form: PlannedForm
  /** How many samples' kernels the kernel gradient holds at a time; 0: all, or not a kernel gradient. */
  readonly chunk: number
  /** The predicted costs of both forms, in `unit`; undefined where there was nothing to choose. */
  readonly costs: Readonly<Record<PlannedForm, number>> | undefined
  readonly unit: string
  readonly reason: string
}

/** How to plan. */
export interface PlanOptions {
  /** `arithmeticAndBytes` unless given. */
  readonly cost?: DynamicConvCost | undefined
  /** The most bytes that the per-sample kernels of a kernel gradient may take; 256 MiB unless given. */
  readonly memoryBudgetBytes?: number | undefined
}

/** A graph with a form in every dynamic convolution. */
export interface Plan {
  readonly graph: Graph
  /** In the order of the nodes. */
  readonly choices: readonly FormChoice[]
}

/** What the per-sample kernels of a kernel gradient may take unless a caller says otherwise. */
export const defaultMemoryBudgetBytes: number = 256 * 2 ** 20

// Multiply-adds that an engine does in the time in which it moves one byte: for a core of 50 G multiply-adds and 12 GB a
// second as for an accelerator of 10 T and 2 TB a second, about 4.
const macsPerByte = 4

/** The cost on an engine that nobody has measured: multiply-adds, and bytes at the price of 4 each. */
export const arithmeticAndBytes: DynamicConvCost = {
  unit: 'multiply-adds (a byte counts 4)',
  estimate: ({ macs, extraBytes }, form) => macs[form] + macsPerByte * extraBytes[form],
}

/**
 * Chooses the form of every dynamic convolution and the chunk of every kernel gradient.
 *
 * @example const { graph, choices } = planDynamicConv(step); console.log(formatChoices(choices))
 * @throws ValueError for a budget that is not a positive number
 */
export function planDynamicConv(graph: Graph, options: PlanOptions = {}): Plan {
  const budgetBytes = options.memoryBudgetBytes ?? defaultMemoryBudgetBytes
  if (!(budgetBytes > 0)) throw new ValueError(`planDynamicConv: memoryBudgetBytes=${String(budgetBytes)} must be positive`)
  const cost = options.cost ?? arithmeticAndBytes
  const choices: FormChoice[] = []
  const nameOf = basesNames(graph)
  const planned = rewrite(graph, (node, inputs, { builder }, index) => {
    if (!isDynamic(node)) return undefined
    const layer = describe(graph, node)
    const { form, costs, reason } = choose(node.attrs, layer, cost)
    const chunk = isOp(node, 'dynamicConv2dKernelGrad') ? chunkOf(node.attrs, layer, form, budgetBytes) : 0
    choices.push({ node: index, op: node.op, bases: nameOf(basesOf(node)), layer, form, chunk, costs, unit: cost.unit, reason })
    const attrs = isOp(node, 'dynamicConv2dKernelGrad') ? { ...node.attrs, form, chunk } : { ...node.attrs, form }
    return builder.emit<DynamicConvOp>(node.op, attrs, inputs)
  })
  return { graph: planned, choices }
}

/** Decisions for people, one a line. */
export function formatChoices(choices: readonly FormChoice[]): string {
  return choices.map(formatChoice).join('\n')
}

/** A decision as one line, for people. */
export function formatChoice(choice: FormChoice): string {
  const { op, bases, layer, form, chunk, reason } = choice
  const shapes = layer
    ? ` [${layer.batch}, ${layer.inChannels}, ${layer.inputSize.join(', ')}] -> ${layer.outChannels} channels, ${layer.kernelSize.join('x')}, K=${layer.numBases}` +
      (layer.groups > 1 ? `, groups=${layer.groups}` : '')
    : ''
  return `${op} ${bases}${shapes}: form ${form}${chunk ? ` in chunks of ${chunk} samples` : ''} (${reason})`
}

type DynamicNode = Extract<Node, { readonly op: DynamicConvOp }>

// Where each op finds what: the images x (or their size), the result's side y (or dy), and the bases.
const slots: { readonly [K in DynamicConvOp]: { readonly x: number | 'output'; readonly y: number | 'output'; readonly bases: number } } = {
  dynamicConv2d: { x: 0, y: 'output', bases: 1 },
  dynamicConv2dInputGrad: { x: 'output', y: 0, bases: 1 },
  dynamicConv2dKernelGrad: { x: 0, y: 1, bases: 2 },
}

// How often V, or Y, is written or read (see the head).
const moves: { readonly [K in DynamicConvOp]: Readonly<Record<PlannedForm, number>> } = {
  dynamicConv2d: { kernels: 2, outputs: 2 },
  dynamicConv2dInputGrad: { kernels: 2, outputs: 2 },
  dynamicConv2dKernelGrad: { kernels: 3, outputs: 4 },
}

function isDynamic(node: Node): node is DynamicNode {
  return Object.hasOwn(slots, node.op)
}

function basesOf(node: DynamicNode): ValueId {
  return node.inputs[slots[node.op].bases] ?? -1
}

function describe(graph: Graph, node: DynamicNode): DynamicConvLayer | undefined {
  const types = node.inputs.map((id) => typeOf(graph, id))
  const inputs = types.flatMap(({ shape }) => (isStatic(shape) ? [shape] : []))
  const outputs = node.outputs.flatMap((id) => {
    const { shape } = typeOf(graph, id)
    return isStatic(shape) ? [shape] : []
  })
  if (inputs.length < node.inputs.length || outputs.length < node.outputs.length) return undefined
  const at = (slot: number | 'output'): StaticShape => (slot === 'output' ? outputs[0] : inputs[slot]) ?? []
  const where = slots[node.op]
  const [batch = 0, inChannels = 0, height = 0, width = 0] = at(where.x)
  const [, outChannels = 0, outHeight = 0, outWidth = 0] = at(where.y)
  const bases = at(where.bases)
  const [numBases = 0, , , kernelHeight = 0, kernelWidth = 0] = bases
  const dtype = types[0]?.dtype ?? 'float32'
  const { stride, padding, dilation, groups } = node.attrs
  const moved = batch * bytesPerElement(dtype)
  const def = ops[node.op] as OpDef<OpName>
  const macsOf = (form: PlannedForm): number => def.macs?.({ ...node.attrs, form }, inputs, outputs) ?? 0
  return {
    op: node.op,
    dtype,
    batch,
    numBases,
    inChannels,
    outChannels,
    kernelSize: [kernelHeight, kernelWidth],
    inputSize: [height, width],
    outputSize: [outHeight, outWidth],
    stride,
    padding,
    dilation,
    groups,
    macs: { kernels: macsOf('kernels'), outputs: macsOf('outputs') },
    extraBytes: {
      kernels: moves[node.op].kernels * moved * sizeOf(bases.slice(1)),
      outputs: moves[node.op].outputs * moved * numBases * outChannels * outHeight * outWidth,
    },
  }
}

function choose({ form }: DynamicConv2dAttrs, layer: DynamicConvLayer | undefined, cost: DynamicConvCost): Pick<FormChoice, 'form' | 'costs' | 'reason'> {
  // An open batch leaves no choice: of two equal forms the other one then serves.
  if (form !== 'auto' && (layer || form === 'outputs')) return { form, costs: undefined, reason: 'asked for' }
  if (!layer) return { form: 'outputs', costs: undefined, reason: 'the batch is not known, which form kernels needs' }
  if (layer.batch === 0) return { form: 'outputs', costs: undefined, reason: 'the batch is empty' }
  const costs = { kernels: cost.estimate(layer, 'kernels'), outputs: cost.estimate(layer, 'outputs') }
  const best = costs.outputs < costs.kernels ? 'outputs' : 'kernels'
  return { form: best, costs, reason: `kernels ${show(costs.kernels)}, outputs ${show(costs.outputs)} ${cost.unit}` }
}

// The largest chunk whose kernels, c n s bytes, fit the budget; 0 where all of them do; a single sample at least.
function chunkOf({ chunk }: DynamicConv2dKernelGradAttrs, layer: DynamicConvLayer | undefined, form: PlannedForm, budgetBytes: number): number {
  if (chunk !== 0 || form !== 'kernels' || !layer) return chunk
  const { outChannels, inChannels, groups, kernelSize, dtype, batch } = layer
  const perSample = outChannels * (inChannels / groups) * sizeOf(kernelSize) * bytesPerElement(dtype)
  return perSample * batch <= budgetBytes ? 0 : Math.max(1, Math.floor(budgetBytes / perSample))
}

// The state behind a value, seen through what does not change its identity for people: casts and reshapes.
function basesNames(graph: Graph): (id: ValueId) => string {
  const made = producers(graph)
  const states = new Map(graph.states.map((s) => [s.value, s.name]))
  const walk = (id: ValueId): string | undefined => {
    const name = states.get(id)
    if (name !== undefined) return name
    const node = graph.nodes[made.get(id) ?? -1]
    const [source] = node?.inputs ?? []
    return node && source !== undefined && (node.op === 'cast' || node.op === 'reshape') ? walk(source) : undefined
  }
  return (id) => walk(id) ?? `%${id}`
}

function show(cost: number): string {
  return Number.isFinite(cost) ? Number(cost.toPrecision(3)).toExponential() : String(cost)
}
