// A graph as a program: a rule for every op. Ops without a rule, and instances that a rule does not take, are decomposed
// first (core's decompose). Ops that only look at elements otherwise (reshape, transpose, slice, broadcast) make no kernel.

import {
  decompose,
  type Graph,
  GraphError,
  type Node,
  type OpAttrs,
  type OpName,
  sizeOf,
  type StaticShape,
  type StaticType,
  toFloat64,
} from '@dynconv/core'
import { clamped, comparison, converted, type Expression, expressions } from '../kernels/elementwise.ts'
import { matmulKernel } from '../kernels/matmul.ts'
import { gatherKernel, padKernel, placeKernel, scatterAddKernel } from '../kernels/move.ts'
import { argMaxKernel, reduceKernel, softmaxKernel } from '../kernels/reduce.ts'
import type { Target } from '../wgsl/kernel.ts'
import { broadcastLayout, denseLayout, permuteLayout, sliceLayout } from '../wgsl/views.ts'
import { constantOperand, Context, type LowerOptions } from './context.ts'
import { fixedFirst } from './fixed.ts'
import type { Operand } from './fuse.ts'
import { normalisedConvs } from './foldNorms.ts'
import { convRules, normalisedConv } from './lowerConv.ts'
import { imageRules } from './lowerImages.ts'
import type { Program, Value } from './program.ts'
import type { Rule, Rules } from './rules.ts'

type Simple = keyof typeof expressions

const simple = (name: Simple): Rule<OpName> => (context, _attrs, inputs, outputs) => pointwise(context, name, expressions[name], inputs, outputs)

function pointwise(context: Context, name: string, expression: Expression, inputs: readonly Operand[], [output]: readonly StaticType[]): Operand {
  const { dtype, shape } = first(output)
  return context.elementwise(name, expression, inputs, dtype, shape)
}

function first<T>(value: T | undefined): T {
  if (value === undefined) throw new GraphError('webgpu: an op was given too few operands')
  return value
}

// [outer, size, inner] around an axis.
function linesOf(shape: StaticShape, axis: number): { readonly outer: number; readonly size: number; readonly inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), size: shape[axis] ?? 1, inner: sizeOf(shape.slice(axis + 1)) }
}

const softmax =
  (log: boolean): Rule<'softmax' | 'logSoftmax'> =>
  (context, { axis }, inputs, outputs) => {
    const [type, x] = [first(outputs[0]), context.dense(first(inputs[0]))]
    return context.result(type, [x], () => softmaxKernel({ target: context.target, dtype: type.dtype, ...linesOf(type.shape, axis), log }))
  }

const reduction =
  (op: 'reduceSum' | 'reduceMax'): Rule<'reduceSum' | 'reduceMax'> =>
  (context, { axes }, inputs, outputs) => {
    const [type, x] = [first(outputs[0]), context.read(first(inputs[0]))]
    return context.rooted(op, type, [x], (finish) => reduceKernel({ target: context.target, op, dtype: type.dtype, layout: x.layout, axes }, finish))
  }

const indexed =
  (op: 'gather' | 'scatterAdd'): Rule<'gather' | 'scatterAdd'> =>
  (context, { axis }, inputs, outputs) => {
    const type = first(outputs[0])
    const [data, indices] = [context.dense(first(inputs[0])), context.dense(first(inputs[1]))]
    const lines = linesOf(op === 'gather' ? data.layout.shape : type.shape, axis)
    const output = context.tensor(type.dtype, type.shape)
    if (sizeOf(type.shape) === 0) return output
    const fault = context.fault({
      message: (index) => `${op}: index ${index} is outside an axis of size ${lines.size}; use 0 to ${lines.size - 1}`,
    })
    const make = op === 'gather' ? gatherKernel : scatterAddKernel
    const kernel = make({ target: context.target, dtype: type.dtype, ...lines, count: sizeOf(indices.layout.shape), fault: fault.index })
    context.dispatch(kernel, data, indices, output, fault.buffer)
    return output
  }

// A view of something in memory; a number stays a number, in the new shape.
const viewed =
  <K extends OpName>(look: (attrs: OpAttrs[K], value: Value, shape: StaticShape) => Value['layout']): Rule<K> =>
  (context, attrs, inputs, outputs) => {
    const [operand, { shape }] = [first(inputs[0]), first(outputs[0])]
    if ('scalar' in operand) return { ...operand, shape }
    const value = context.read(operand)
    return context.view(value, look(attrs, value, shape))
  }

const rules: Rules = {
  constant: (context, { value }) => constantOperand(context, value, toFloat64(value)),
  iota: (context, { axis }, _inputs, outputs) => {
    const { dtype, shape } = first(outputs[0])
    const size = shape[axis] ?? 1
    const ramp = Float64Array.from({ length: size }, (_, i) => i)
    const line = constantOperand(context, { dtype, shape: [size] }, ramp)
    if ('scalar' in line) return { ...line, shape }
    const value = context.read(line)
    return context.view(value, { shape, strides: shape.map((_, i) => (i === axis ? 1 : 0)), offset: 0 })
  },

  add: simple('add'),
  sub: simple('sub'),
  mul: simple('mul'),
  div: simple('div'),
  min: simple('min'),
  max: simple('max'),
  pow: simple('pow'),
  select: simple('select'),
  neg: simple('neg'),
  abs: simple('abs'),
  exp: simple('exp'),
  log: simple('log'),
  sqrt: simple('sqrt'),
  rsqrt: simple('rsqrt'),
  tanh: simple('tanh'),
  sigmoid: simple('sigmoid'),
  relu: simple('relu'),
  compare: (context, { kind }, inputs, outputs) => pointwise(context, kind, comparison(kind), inputs, outputs),
  clamp: (context, attrs, inputs, outputs) => pointwise(context, 'clamp', clamped(attrs), inputs, outputs),
  cast: (context, { dtype }, inputs, outputs) => pointwise(context, 'cast', converted(dtype), inputs, outputs),
  stopGradient: 'decompose',
  customGradient: 'decompose',

  reshape: (context, _attrs, inputs, outputs) => {
    const [operand, { shape }] = [first(inputs[0]), first(outputs[0])]
    if ('scalar' in operand) return { ...operand, shape }
    return context.view(context.dense(operand), denseLayout(shape))
  },
  transpose: viewed<'transpose'>(({ permutation }, { layout }) => permuteLayout(layout, permutation)),
  broadcastTo: viewed<'broadcastTo'>((_attrs, { layout }, shape) => broadcastLayout(layout, shape)),
  slice: viewed<'slice'>(({ starts, sizes, steps }, { layout }) => sliceLayout(layout, starts, sizes, steps)),
  pad: (context, { before, value }, inputs, outputs) => {
    const [type, x] = [first(outputs[0]), context.read(first(inputs[0]))]
    const { target } = context
    return context.result(type, [x], () => padKernel({ target, dtype: type.dtype, layout: x.layout, before, shape: type.shape, value }))
  },
  concat: (context, { axis }, inputs, outputs) => {
    const { dtype, shape } = first(outputs[0])
    if (inputs.length === 1) return first(inputs[0])
    const output = context.tensor(dtype, shape)
    let start = 0
    for (const operand of inputs) {
      const x = context.read(operand)
      const { layout } = x
      if (sizeOf(layout.shape) > 0) context.dispatch(placeKernel({ target: context.target, dtype, layout, shape, axis, start }), x, output)
      start += layout.shape[axis] ?? 0
    }
    return output
  },

  gather: indexed('gather'),
  scatterAdd: indexed('scatterAdd'),
  oneHot: 'decompose',

  reduceSum: reduction('reduceSum'),
  reduceMax: reduction('reduceMax'),
  argMax: (context, { axis }, inputs, outputs) => {
    const [type, x] = [first(outputs[0]), context.dense(first(inputs[0]))]
    return context.result(type, [x], () => argMaxKernel({ target: context.target, dtype: x.dtype, ...linesOf(x.layout.shape, axis) }))
  },
  softmax: softmax(false),
  logSoftmax: softmax(true),

  matmul: (context, { transposeA, transposeB }, inputs, outputs) => {
    const type = first(outputs[0])
    const lead = type.shape.slice(0, -2)
    const side = (operand: Operand, transposed: boolean): Value => {
      const value = context.read(operand)
      const axes = value.layout.shape.map((_, i) => i)
      const swapped = transposed ? [...axes.slice(0, -2), axes.length - 1, axes.length - 2] : axes
      const layout = permuteLayout(value.layout, swapped)
      return context.view(value, broadcastLayout(layout, [...lead, ...layout.shape.slice(-2)]))
    }
    const [a, b] = [side(first(inputs[0]), transposeA), side(first(inputs[1]), transposeB)]
    const inner = a.layout.shape.at(-1) ?? 0
    const product = { target: context.target, dtype: type.dtype, a: a.layout, b: b.layout, shape: type.shape, inner }
    return context.rooted('matmul', type, [a, b], (finish) => matmulKernel(product, finish))
  },

  ...convRules,
  ...imageRules,
}

/** Whether a rule takes this very node. */
function takes(node: Node): boolean {
  if (rules[node.op] === 'decompose') return false
  // The form 'outputs' is ordinary convolutions and products.
  return !('form' in node.attrs && node.attrs.form === 'outputs')
}

/** A graph as a program, and what was chosen. */
export interface Lowered {
  readonly graph: Graph
  readonly program: Program
  readonly notes: readonly string[]
}

/** @throws GraphError for unknown sizes */
export function lower(source: Graph, target: Target, options: LowerOptions = {}): Lowered {
  const graph = decompose(source, takes)
  const context = new Context(graph, target, options)
  graph.inputs.forEach((port, index) => {
    const { dtype, shape } = context.typeOf(port.value)
    context.define(port.value, context.builder.tensor(dtype, shape, { kind: 'input', index }))
  })
  for (const state of graph.states) {
    const { dtype, shape } = context.typeOf(state.value)
    context.define(state.value, context.builder.tensor(dtype, shape, { kind: 'state', name: state.name }))
  }
  const folded = normalisedConvs(graph)
  const absorbed = new Set<Node>([...folded.values()].map(({ conv }) => conv))
  for (const node of graph.nodes) {
    if (absorbed.has(node)) continue
    const both = folded.get(node)
    if (both) {
      const { conv, norm } = both
      context.node({ op: norm.op, inputs: [...conv.inputs, ...norm.inputs.slice(1)], outputs: norm.outputs }, (inputs, outputs) => normalisedConv(context, conv, norm.attrs.epsilon, inputs, outputs))
      continue
    }
    // Boundary: the rule is the one of the node's own op; TypeScript cannot relate the two through the union.
    const rule = rules[node.op] as Rule<OpName> | 'decompose'
    if (rule === 'decompose') throw new GraphError(`webgpu: ${node.op} was not decomposed`)
    context.node(node, (inputs, outputs) => rule(context, node.attrs, inputs, outputs))
  }
  const updates = graph.states.flatMap(({ name, update }) => (update === undefined ? [] : [{ state: name, to: context.operand(update) }]))
  context.flush(new Map(updates.map(({ state, to }) => [to, state])))
  const outputs = graph.outputs.map((port) => context.dense(context.operand(port.value)))
  const updated = updates.map(({ state, to }) => ({ state, from: context.dense(to) }))
  const { builder } = context
  // A state that takes another one's value gets a copy of it, for that one may be overwritten before.
  const commits = updated.map(({ state, from }) => {
    const { bytes } = from.buffer
    if (from.buffer.source.kind !== 'state') return { state, from: from.buffer, bytes }
    const copy = builder.tensor(from.dtype, from.layout.shape)
    builder.copy(from.buffer, copy.buffer, bytes)
    return { state, from: copy.buffer, bytes }
  })
  const parted = fixedFirst(builder.steps, builder.parts, new Set(commits.map(({ state }) => state)))
  const program: Program = { buffers: builder.buffers, parts: builder.parts, ...parted, outputs, commits, faults: builder.faults }
  return { graph, program, notes: [...context.notes] }
}
