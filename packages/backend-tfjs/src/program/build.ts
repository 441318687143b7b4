// A whole graph as one TensorFlow graph with few signatures: `step` feeds inputs and gives outputs, `init` feeds all states,
// `read` gives all states. States are variables of the session, in the layout in which the program wants them.
//
// Every new value, of outputs and of states, exists before the first variable is assigned (a barrier): all reads see the state
// as it was, and a run that fails on the way has changed none.

import { decompose, type DType, type Graph, type HostTensor, staticShape, type StaticShape, typeOf } from '@dynconv/core'
import { computed } from '../kernels/elementwise.ts'
import { kernelTable } from '../kernels/table.ts'
import { convKernels } from './conv.ts'
import { dynamicConvKernels, takesDynamic } from './dynamicConv.ts'
import { attr, TfGraph, type TfNode, type TfValue } from './graph.ts'
import { isPlain, keyOf, type Layout, plain, storedShape } from './layout.ts'
import { Lowering, type ProgramKernels, type Target } from './lowering.ts'
import { fusesNorm, normKernels } from './norm.ts'
import { programPrimitives, type ProgramQuirks } from './primitives.ts'
import { transparentKernels } from './transparent.ts'

const kernels: ProgramKernels = { ...transparentKernels, ...convKernels, ...dynamicConvKernels, ...normKernels }

/** A value of the program that is fed or fetched. */
export interface ProgramPort {
  readonly value: TfValue
  readonly dtype: DType
  readonly shape: StaticShape
}

/** A state of the program. */
export interface ProgramState extends ProgramPort {
  readonly name: string
  /** What `init` feeds; `value` is what `read` gives. */
  readonly feed: TfValue
  readonly written: boolean
}

/** A program. */
export interface Program {
  readonly graph: TfGraph
  readonly inputs: readonly ProgramPort[]
  readonly outputs: readonly ProgramPort[]
  readonly states: readonly ProgramState[]
  /** A scalar that `step` gives when everything is done. */
  readonly done: TfValue
  /** The same of `init`. */
  readonly ready: TfValue
  /** An int32 scalar that is fed where nothing else is. */
  readonly nothing: TfValue
  readonly notes: readonly string[]
}

// A layout that a state is given may bring others to want one; it seldom takes more than two rounds.
const maxRounds = 4

/** Writes the program of `graph`, whose shapes are all known. */
export function buildProgram(graph: Graph, quirks: ProgramQuirks, target: Target): Program {
  const table = kernelTable(programPrimitives(new TfGraph(), quirks))
  const lowered = decompose(graph, (node, whole) => {
    if (node.op === 'dynamicConv2d' || node.op === 'dynamicConv2dInputGrad' || node.op === 'dynamicConv2dKernelGrad') return takesDynamic(node, whole)
    if (node.op === 'batchNorm' || node.op === 'batchNormGrad') return fusesNorm(node, whole)
    return Object.hasOwn(table, node.op)
  })
  let layouts: ReadonlyMap<string, Layout> = new Map()
  for (let round = 1; ; round++) {
    const { program, wishes } = write(lowered, layouts, quirks, target)
    const next = new Map([...layouts, ...wishes])
    const settled = next.size === layouts.size
    if (settled || round === maxRounds) return program
    layouts = next
  }
}

function write(graph: Graph, layouts: ReadonlyMap<string, Layout>, quirks: ProgramQuirks, target: Target): { readonly program: Program; readonly wishes: ReadonlyMap<string, Layout> } {
  const tf = new TfGraph()
  const p = programPrimitives(tf, quirks)
  const l = new Lowering(graph, p, kernels, target)
  const inputs = graph.inputs.map(({ value }): ProgramPort => {
    const { dtype } = typeOf(graph, value)
    const shape = l.shape(value)
    const feed = tf.placeholder(computed(dtype), shape)
    l.set(value, feed, plain(shape.length))
    return { value: feed, dtype, shape }
  })
  const variables = graph.states.map((s, i) => {
    const shape = staticShape(`tfjs: state '${s.name}'`, s.shape)
    const layout = layouts.get(s.name) ?? plain(shape.length)
    const dtype = computed(s.dtype)
    const stored = storedShape(shape, layout)
    // A session has its variables for itself, so that a number is name enough.
    const handle = tf.one('VarHandleOp', [], { dtype: attr.type(dtype), shape: attr.shape(stored), shared_name: attr.string(`state${i}`), container: attr.string('') }, 'resource', [])
    const read = tf.one('ReadVariableOp', [handle], { dtype: attr.type(dtype) }, dtype, stored)
    l.set(s.value, read, layout)
    return { state: s, shape, layout, dtype, handle, read }
  })
  l.run()

  const results = graph.outputs.map(({ value }) => ({ value: l.get(value), dtype: typeOf(graph, value).dtype, shape: l.shape(value) }))
  const wishes = new Map(l.wishes)
  const updates = variables.flatMap(({ state, layout, handle, dtype }) => {
    if (state.update === undefined) return []
    // A state whose new value is made in some layout had better have it.
    const made = l.layoutOf(state.update)
    if (!wishes.has(state.name) && keyOf(made) !== keyOf(layout) && isPlain(layout) && l.source(state.update) === state.update) wishes.set(state.name, made)
    return [{ handle, dtype, value: l.get(state.update, layout) }]
  })
  const barrier = tf.effect('NoOp', [], {}, [...results, ...updates].map(({ value }) => value.node))
  const assigned = updates.map(({ handle, dtype, value }) => tf.effect('AssignVariableOp', [handle, value], { dtype: attr.type(dtype) }, [barrier]))
  const identity = (value: TfValue, after: readonly TfNode[]): TfValue => tf.one('Identity', [value], { T: attr.type(value.dtype) }, value.dtype, value.shape, after)
  const zero = tf.ints([0], [])
  const outputs = results.map((r): ProgramPort => ({ ...r, value: identity(r.value, assigned) }))
  const done = identity(zero, assigned.length ? assigned : [barrier])

  const states = variables.map(({ state, shape, layout, dtype, handle, read }) => {
    const feed = tf.placeholder(dtype, shape)
    const assign = tf.effect('AssignVariableOp', [handle, p.transpose(feed, layout)], { dtype: attr.type(dtype) })
    const back = p.transpose(read, plain(shape.length).map((axis) => layout.indexOf(axis)))
    return { state: { name: state.name, value: identity(back, []), dtype: state.dtype, shape, feed, written: state.update !== undefined }, assign }
  })
  const ready = identity(zero, states.map((s) => s.assign))
  const nothing = tf.placeholder('int32', [])
  const program: Program = { graph: tf, inputs, outputs, states: states.map((s) => s.state), done, ready, nothing, notes: l.notes }
  return { program, wishes }
}

/** The value that feeds `nothing`. */
export const emptyFeed: HostTensor = { dtype: 'int32', shape: [], data: Int32Array.of(0) }
