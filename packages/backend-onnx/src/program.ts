// A whole graph as one ONNX model: inputs and states in, outputs and next states out.

import { type Graph, type HostTensor, staticShape, typeOf } from '@dynconv/core'
import { plainKernels } from './kernels/table.ts'
import { type Layout, type LayoutPolicy, Lowering } from './lowering.ts'
import { ModelBuilder } from './model.ts'

/** A state as the model sees it. */
export interface ProgramState {
  readonly name: string
  readonly dtype: HostTensor['dtype']
  readonly shape: HostTensor['shape']
  readonly layout: Layout
  /** The model's input that reads it. */
  readonly input: string
  /** The model's output with its next value; undefined: it stays. */
  readonly output: string | undefined
}

/** A model and how to run it. */
export interface Program {
  readonly model: Uint8Array
  /** The model's name of each input and output of the graph, in order. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly states: readonly ProgramState[]
  /** The model's constants. */
  readonly constants: { readonly count: number; readonly bytes: number }
  /** What was chosen, a line each. */
  readonly notes: readonly string[]
}

/** Lowers `graph`, whose shapes are all known. */
export function buildProgram(graph: Graph, policy?: LayoutPolicy): Program {
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
    return { name: s.name, dtype: s.dtype, shape, layout, input, output: s.update === undefined ? undefined : `next.${s.name}` }
  })
  lowering.run()
  const outputs = graph.outputs.map(({ name, value }) => {
    const { dtype, shape } = typeOf(graph, value)
    model.output(`output.${name}`, lowering.stored(value), dtype, shape)
    return `output.${name}`
  })
  graph.states.forEach((s, i) => {
    const state = states[i]
    if (s.update !== undefined && state?.output !== undefined) model.output(state.output, lowering.stored(s.update, state.layout), s.dtype, s.shape)
  })
  const built = model.build({ name: 'dynconv' })
  const constants = built.graph.initializer.reduce(({ count, bytes }, t) => ({ count: count + 1, bytes: bytes + t.rawData.byteLength }), { count: 0, bytes: 0 })
  return { model: model.encode({ name: 'dynconv' }), inputs, outputs, states, constants, notes: lowering.notes }
}
