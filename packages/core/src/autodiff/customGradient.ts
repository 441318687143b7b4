// A function whose gradient is given by hand.

import { GraphError } from '../backend/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import type { Tensor } from '../tensor/tensor.ts'

/**
 * Calls `forward` on `inputs` and returns its outputs, with `backward` in place of their gradient: it receives the
 * gradients of the outputs (zeros where there is none) and returns those of the inputs (undefined: none).
 *
 * @example
 * // The straight-through estimator: rounds forward, passes the gradient unchanged.
 * const [y] = customGradient([x], ([x]) => [step(x)], ([g]) => [g])
 */
export function customGradient(
  inputs: readonly Tensor[],
  forward: (inputs: readonly Tensor[]) => readonly Tensor[],
  backward: (grads: readonly Tensor[]) => readonly (Tensor | undefined)[],
): readonly Tensor[] {
  const builder = inputs[0]?.graph
  if (!(builder instanceof GraphBuilder)) throw new GraphError('customGradient: needs at least one input, from the running trace')
  const outputs = forward(inputs)
  const rule = builder.customRules.push((grads) => {
    const result = backward(grads)
    if (result.length !== inputs.length) throw new GraphError(`customGradient: backward returned ${result.length} gradients for ${inputs.length} inputs`)
    return result
  })
  return builder.emit('customGradient', { rule: rule - 1, outputs: outputs.length }, [...inputs, ...outputs])
}
