// customGradient's node: the outputs of a function, passed through, with the number of the rule that replaces their
// gradient. inputs = the function's inputs, then its outputs; outputs = the latter again. `gradients` looks the rule up;
// a finished graph needs only the identity, which passes remove.

import { GraphError } from '../backend/errors.ts'
import { defineOp, type OpTable } from './define.ts'

export const customOps: Pick<OpTable, 'customGradient'> = {
  customGradient: defineOp({
    name: 'customGradient',
    infer: ({ outputs }, inputs) => {
      if (!Number.isInteger(outputs) || outputs < 1 || outputs > inputs.length) {
        throw new GraphError(`customGradient: outputs=${outputs} must be 1 to the number of inputs, ${inputs.length}`)
      }
      return inputs.slice(inputs.length - outputs).map(({ dtype, shape }) => ({ dtype, shape }))
    },
    gradient: 'none',
    reference: ({ outputs }, inputs) => inputs.slice(inputs.length - outputs),
    decompose: ({ outputs }, inputs) => inputs.slice(inputs.length - outputs),
  }),
}
