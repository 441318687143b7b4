// A whole graph as one ONNX model: inputs and states in, outputs and next states out.

import { bytesOf, type DType, type Graph, type StaticShape, staticShape, typeOf } from '@dynconv/core'
import { plainKernels } from './kernels/table.ts'
import { type Layout, type LayoutPolicy, Lowering } from './lowering.ts'
import { ModelBuilder } from './model.ts'
import { emitUpdates, planUpdates } from './updates.ts'
import { encodeModel, type ModelProto } from './proto/onnx.ts'

/** A state as the model sees it. */
export interface ProgramState {
  readonly name: string
  readonly dtype: DType
  readonly shape: StaticShape
  readonly layout: Layout
  /** The model's input that reads it. */
  readonly input: string
  /** The model's output with its next value; undefined: it stays. */
  readonly next: string | undefined
}

/** How to run a model. */
export interface ProgramInfo {
  /** The model's name of each input and output of the graph, in order. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly states: readonly ProgramState[]
  /** All results together, next states included. */
  readonly resultBytes: number
  /** The model's constants. */
  readonly constants: { readonly count: number; readonly bytes: number }
  /** What was chosen, a line each. */
  readonly notes: readonly string[]
}

/** A model and how to run it. */
export interface Program extends ProgramInfo {
  readonly model: Uint8Array
}

/** Lowers `graph`, whose shapes are all known. */
export function buildProgram(graph: Graph, policy?: LayoutPolicy): Program {
  const { model, ...info } = lowerProgram(graph, policy)
  return { model: encodeModel(model), ...info }
}

/** The same, the model as a message. */
export function lowerProgram(graph: Graph, policy?: LayoutPolicy): ProgramInfo & { readonly model: ModelProto } {
  const model = new ModelBuilder()
  const lowering = new Lowering({ graph, model, kernels: plainKernels, policy })
  const inputs = graph.inputs.map(({ name, value }) => {
    const { dtype, shape } = lowering.type(value)
    lowering.bind(value, model.input(`input.${name}`, dtype, shape))
    return `input.${name}`
  })
  const states = graph.states.map((s): ProgramState => {
    const layout = policy?.stateLayout(s.name) ?? 'plain'
    const shape = staticShape(`onnx: state '${s.name}'`, s.shape)
    const input = model.input(`state.${s.name}`, s.dtype, shape)
    lowering.bind(s.value, input, layout)
    return { name: s.name, dtype: s.dtype, shape, layout, input, next: s.update === undefined ? undefined : `next.${s.name}` }
  })
  const updates = planUpdates(graph)
  const grouped = new Set(updates.groups.flatMap((g) => g.states))
  lowering.run([...graph.outputs.map((o) => o.value), ...graph.states.flatMap((s) => (s.update === undefined || grouped.has(s.name) ? [] : [s.update])), ...updates.leaves])
  const together = emitUpdates(updates, lowering)
  const outputs = graph.outputs.map(({ name, value }) => {
    const { dtype, shape } = typeOf(graph, value)
    model.output(`output.${name}`, lowering.stored(value), dtype, shape)
    return `output.${name}`
  })
  graph.states.forEach((s, i) => {
    const state = states[i]
    if (s.update === undefined || state?.next === undefined) return
    model.output(state.next, together.get(s.name) ?? lowering.stored(s.update, state.layout), state.dtype, state.shape)
  })
  const built = model.build({ name: 'dynconv' })
  const constants = built.graph.initializer.reduce(({ count, bytes }, t) => ({ count: count + 1, bytes: bytes + t.rawData.byteLength }), { count: 0, bytes: 0 })
  const results = [...graph.outputs, ...graph.states.filter((s) => s.update !== undefined)]
  const resultBytes = results.reduce((sum, { value }) => sum + bytesOf(typeOf(graph, value)), 0)
  return { model: built, inputs, outputs, states, resultBytes, constants, notes: lowering.notes }
}
