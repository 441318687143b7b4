// Keeps a run that went wrong from spoiling the state: every new value is taken only when one output, the loss, is finite.
// For engines that cannot hold the new values back themselves (see Backend.guardsState).

import { GraphError } from '../backend/errors.ts'
import { type Graph, typeOf } from '../graph/graph.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { rewrite } from './rewrite.ts'

/** The largest finite float32: (2 - 2^-23) * 2^127 (IEEE 754). */
export const maxFloat32: number = (2 - 2 ** -23) * 2 ** 127

/**
 * `graph` with each state's update u of old value s replaced by select(|y| <= largest float32, u, s), where y is the scalar
 * output `output`: a NaN compares false, as infinity does.
 *
 * @throws GraphError when there is no such output, or it is no scalar of floating point
 */
export function guardState(graph: Graph, output: string): Graph {
  const port = graph.outputs.find((o) => o.name === output)
  if (!port) throw new GraphError(`guardState: there is no output '${output}'; there are: ${graph.outputs.map((o) => o.name).join(', ') || 'none'}`)
  const { dtype, shape } = typeOf(graph, port.value)
  if (shape.length !== 0 || !dtype.startsWith('float')) throw new GraphError(`guardState: output '${output}' must be a scalar of floating point, got ${dtype}[${shape.join(', ')}]`)
  let finite: Tensor | undefined
  return rewrite(graph, () => undefined, {
    mapUpdate: (update, old, get) => {
      finite ??= get(port.value).cast('float32').abs().compare('lessEqual', maxFloat32)
      return finite.select(update, old)
    },
  })
}
