// The oracle: runs a graph in float64, node by node, through each op's own `reference`. Slow and plain on purpose.

import { GraphError, ShapeError } from '../backend/errors.ts'
import { type Graph, typeOf } from '../graph/graph.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, RefTensor } from '../ops/define.ts'
import { ops } from '../ops/table.ts'
import { type HostTensor, toFloat64 } from '../tensor/hostTensor.ts'
import { formatShape, sameShape, sizeOf, staticShape } from '../tensor/shape.ts'

/** What a run of the oracle gives. */
export interface Evaluation {
  /** The graph's outputs, in order. */
  readonly outputs: readonly RefTensor[]
  /** States after the run, by name (those that the graph does not write as they were). */
  readonly states: ReadonlyMap<string, RefTensor>
}

/** A host tensor as the oracle takes it. */
export function toRef(t: HostTensor): RefTensor {
  return { shape: t.shape, data: toFloat64(t) }
}

/**
 * Runs `graph` on float64 `inputs` (in the graph's order), with `states` by name.
 *
 * @throws ShapeError for an input of another shape; GraphError for a missing input or state
 */
export function evaluate(graph: Graph, inputs: readonly RefTensor[], states: ReadonlyMap<string, RefTensor> = new Map()): Evaluation {
  const env = new Map<number, RefTensor>()
  const bind = (what: string, id: number, value: RefTensor | undefined): void => {
    if (!value) throw new GraphError(`evaluate: ${what} was not given`)
    const { shape } = typeOf(graph, id)
    if (!sameShape(shape, value.shape) || value.data.length !== sizeOf(value.shape)) {
      throw new ShapeError(`evaluate: ${what} must be ${formatShape(shape)}, got ${formatShape(value.shape)} with ${value.data.length} elements`)
    }
    env.set(id, value)
  }
  graph.inputs.forEach((port, i) => bind(`input '${port.name}'`, port.value, inputs[i]))
  for (const state of graph.states) bind(`state '${state.name}'`, state.value, states.get(state.name))

  const get = (id: number): RefTensor => {
    const value = env.get(id)
    if (!value) throw new GraphError(`evaluate: value %${id} is read before it is made`)
    return value
  }
  for (const node of graph.nodes) {
    const outputs = node.outputs.map((id) => {
      const { dtype, shape } = typeOf(graph, id)
      return { dtype, shape: staticShape(`evaluate: ${node.op}`, shape) }
    })
    const def = ops[node.op] as OpDef<OpName>
    const result = def.reference(node.attrs, node.inputs.map(get), outputs)
    const list = Array.isArray(result) ? (result as readonly RefTensor[]) : [result as RefTensor]
    node.outputs.forEach((id, i) => bind(`${node.op}: result ${i}`, id, list[i]))
  }
  return {
    outputs: graph.outputs.map((o) => get(o.value)),
    states: new Map(graph.states.map((s) => [s.name, get(s.update ?? s.value)])),
  }
}
