// Whole graphs as TensorFlow graphs with few signatures. Several graphs over common states stand side by side: each has a
// step, which feeds its inputs and gives its outputs; each state has a feed and a value. States are variables of the session,
// in the layout in which the programs want them.
//
// Every new value, of outputs and of states, exists before the first variable is assigned (a barrier): all reads see the state
// as it was, and a run that fails on the way has changed none. A guard switches the assignments off: what depends on the dead
// branch of a Switch does not run, and a Merge goes on with the living one.

import { decompose, type DType, GraphError, type HostTensor, staticShape, type StaticShape, typeOf } from '@dynconv/core'
import type { Source } from '../executor.ts'
import { computed } from '../kernels/elementwise.ts'
import { nth } from '../kernels/shared.ts'
import { kernelTable } from '../kernels/table.ts'
import { convKernels } from './conv.ts'
import { dynamicConvKernels, takesDynamic } from './dynamicConv.ts'
import { attr, TfGraph, type TfNode, type TfValue } from './graph.ts'
import { isPlain, keyOf, type Layout, plain, storedShape } from './layout.ts'
import { Lowering, type ProgramKernels, type Target } from './lowering.ts'
import { fusesNorm, normKernels } from './norm.ts'
import { programPrimitives, type ProgramPrimitives, type ProgramQuirks } from './primitives.ts'
import { transparentKernels } from './transparent.ts'

const kernels: ProgramKernels = { ...transparentKernels, ...convKernels, ...dynamicConvKernels, ...normKernels }

/** A value of a program that is fed or fetched. */
export interface ProgramPort {
  readonly value: TfValue
  readonly dtype: DType
  readonly shape: StaticShape
}

/** A state of the programs. */
export interface ProgramState extends ProgramPort {
  readonly name: string
  /** What sets it; `value` is what it is. */
  readonly feed: TfValue
  /** A scalar that is there when `feed` has been taken. */
  readonly ready: TfValue
}

/** A program. */
export interface Program {
  readonly inputs: readonly ProgramPort[]
  readonly outputs: readonly ProgramPort[]
  /** A scalar that a step gives when everything is done. */
  readonly done: TfValue
  /** The names of the states that it knows. */
  readonly states: readonly string[]
  /** Of these, those that a step writes. */
  readonly written: readonly string[]
  readonly notes: readonly string[]
}

/** Programs in one TensorFlow graph. */
export interface Bundle {
  readonly graph: TfGraph
  /** One for each source, in their order. */
  readonly programs: readonly Program[]
  readonly states: readonly ProgramState[]
  /** An int32 scalar that is fed where nothing else is. */
  readonly nothing: TfValue
}

// A layout that a state is given may bring others to want one; it seldom takes more than two rounds.
const maxRounds = 4

/** Writes the programs of `sources`. */
export function buildBundle(sources: readonly Source[], quirks: ProgramQuirks, target: Target): Bundle {
  const table = kernelTable(programPrimitives(new TfGraph(), quirks))
  const lowered = sources.map((source) => ({
    ...source,
    graph: decompose(source.graph, (node, whole) => {
      if (node.op === 'dynamicConv2d' || node.op === 'dynamicConv2dInputGrad' || node.op === 'dynamicConv2dKernelGrad') return takesDynamic(node, whole)
      if (node.op === 'batchNorm' || node.op === 'batchNormGrad') return fusesNorm(node, whole)
      return Object.hasOwn(table, node.op)
    }),
  }))
  let layouts: ReadonlyMap<string, Layout> = new Map()
  for (let round = 1; ; round++) {
    const wishes = new Map<string, Layout>()
    const bundle = write(lowered, layouts, wishes, quirks, target)
    const next = new Map([...wishes, ...layouts])
    if (next.size === layouts.size || round === maxRounds) return bundle
    layouts = next
  }
}

interface Variable {
  readonly name: string
  readonly dtype: DType
  readonly shape: StaticShape
  readonly layout: Layout
  readonly handle: TfValue
}

// Into `wishes`: in which layouts states were asked for, or made anew.
function write(sources: readonly Source[], layouts: ReadonlyMap<string, Layout>, wishes: Map<string, Layout>, quirks: ProgramQuirks, target: Target): Bundle {
  const tf = new TfGraph()
  const p = programPrimitives(tf, quirks)
  const variables = new Map<string, Variable>()
  for (const { name, dtype, shape: declared } of sources.flatMap(({ graph }) => graph.states)) {
    if (variables.has(name)) continue
    const shape = staticShape(`tfjs: state '${name}'`, declared)
    const layout = layouts.get(name) ?? plain(shape.length)
    const type = computed(dtype)
    // A session has its variables for itself, so that a number is name enough.
    const attrs = { dtype: attr.type(type), shape: attr.shape(storedShape(shape, layout)), shared_name: attr.string(`state${variables.size}`), container: attr.string('') }
    variables.set(name, { name, dtype, shape, layout, handle: tf.one('VarHandleOp', [], attrs, 'resource', []) })
  }
  const programs = sources.map((source) => writeProgram(source, p, variables, wishes, target))
  const zero = tf.ints([0], [])
  const states = [...variables.values()].map((variable): ProgramState => {
    const { name, dtype, shape, layout, handle } = variable
    const type = computed(dtype)
    const feed = tf.placeholder(type, shape)
    const assign = tf.effect('AssignVariableOp', [handle, p.transpose(feed, layout)], { dtype: attr.type(type) })
    const back = p.transpose(readVariable(p, variable), plain(shape.length).map((axis) => layout.indexOf(axis)))
    return { name, dtype, shape, feed, ready: identity(p, zero, [assign]), value: identity(p, back, []) }
  })
  return { graph: tf, programs, states, nothing: tf.placeholder('int32', []) }
}

function writeProgram({ graph, guard }: Source, p: ProgramPrimitives, variables: ReadonlyMap<string, Variable>, wishes: Map<string, Layout>, target: Target): Program {
  const tf = p.graph
  const l = new Lowering(graph, p, kernels, target)
  const inputs = graph.inputs.map(({ value }): ProgramPort => {
    const { dtype } = typeOf(graph, value)
    const shape = l.shape(value)
    const feed = tf.placeholder(computed(dtype), shape)
    l.set(value, feed, plain(shape.length))
    return { value: feed, dtype, shape }
  })
  const states = graph.states.map((state) => {
    const variable = variables.get(state.name)
    if (!variable) throw new GraphError(`tfjs: state '${state.name}' has no variable`)
    l.set(state.value, readVariable(p, variable), variable.layout)
    return { state, variable }
  })
  l.run()

  const results = graph.outputs.map(({ value }) => ({ value: l.get(value), dtype: typeOf(graph, value).dtype, shape: l.shape(value) }))
  for (const [name, layout] of l.wishes) if (!wishes.has(name)) wishes.set(name, layout)
  const updates = states.flatMap(({ state, variable }) => {
    if (state.update === undefined) return []
    // A state whose new value is made in some layout had better have it.
    const made = l.layoutOf(state.update)
    if (!wishes.has(state.name) && keyOf(made) !== keyOf(variable.layout) && isPlain(variable.layout) && l.source(state.update) === state.update) wishes.set(state.name, made)
    return [{ variable, value: l.get(state.update, variable.layout) }]
  })
  const barrier = tf.effect('NoOp', [], {}, [...results, ...updates].map(({ value }) => value.node))
  const assign = (after: TfNode): readonly TfNode[] => updates.map(({ variable, value }) => tf.effect('AssignVariableOp', [variable.handle, value], { dtype: attr.type(computed(variable.dtype)) }, [after]))
  const guarded = guard === undefined || updates.length === 0 ? undefined : results[graph.outputs.findIndex((o) => o.name === guard)]
  if (guard !== undefined && updates.length > 0 && !guarded) throw new GraphError(`tfjs: there is no output '${guard}' to guard the states by`)
  const zero = identity(p, tf.ints([0], []), [barrier])
  const done = guarded ? whenFinite(p, guarded.value, zero, assign) : identity(p, zero, assign(barrier))
  return {
    inputs,
    outputs: results.map((r): ProgramPort => ({ ...r, value: identity(p, r.value, [done.node]) })),
    done,
    states: graph.states.map((s) => s.name),
    written: graph.states.flatMap((s) => (s.update === undefined ? [] : [s.name])),
    notes: l.notes,
  }
}

// `token`, after `effects` where the scalar `x` is finite, and without them where it is not.
function whenFinite(p: ProgramPrimitives, x: TfValue, token: TfValue, effects: (after: TfNode) => readonly TfNode[]): TfValue {
  const finite = p.graph.one('IsFinite', [x], { T: attr.type(x.dtype) }, 'bool', [])
  const type = { dtype: token.dtype, shape: token.shape }
  const branches = p.graph.op('Switch', [token, finite], { T: attr.type(token.dtype) }, [type, type])
  const [no, yes] = [nth(branches, 0), identity(p, nth(branches, 1), [])]
  return p.graph.one('Merge', [no, identity(p, yes, effects(yes.node))], { T: attr.type(token.dtype), N: attr.int(2) }, token.dtype, token.shape)
}

function readVariable(p: ProgramPrimitives, { handle, dtype, shape, layout }: Variable): TfValue {
  const type = computed(dtype)
  return p.graph.one('ReadVariableOp', [handle], { dtype: attr.type(type) }, type, storedShape(shape, layout))
}

function identity(p: ProgramPrimitives, value: TfValue, after: readonly TfNode[]): TfValue {
  return p.graph.one('Identity', [value], { T: attr.type(value.dtype) }, value.dtype, value.shape, after)
}

/** The value that feeds `nothing`. */
export const emptyFeed: HostTensor = { dtype: 'int32', shape: [], data: Int32Array.of(0) }
