// Runs functions on symbolic tensors through the oracle, for tests that compare with numbers known beforehand.

import { gradients } from '../autodiff/gradients.ts'
import { typeOf } from '../graph/graph.ts'
import { type InputSpec, trace, type TraceResult } from '../graph/trace.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import type { DType } from '../tensor/dtype.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { Shape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** A result, ready for `toEqual`. Its zeros have no sign. */
export interface Applied {
  readonly dtype: DType
  readonly shape: Shape
  readonly values: readonly number[]
}

/** Every result of `fn` on `inputs`. */
export function applyAll(fn: (...inputs: Tensor[]) => TraceResult, ...inputs: readonly HostTensor[]): readonly Applied[] {
  const { graph } = trace(fn, { inputs: inputs.map((t): InputSpec => ({ dtype: t.dtype, shape: t.shape })) })
  const { outputs } = evaluate(graph, inputs.map(toRef))
  return graph.outputs.map((port, i) => {
    const { dtype, shape } = typeOf(graph, port.value)
    return { dtype, shape, values: Array.from(outputs[i]?.data ?? [], (v) => v + 0) }
  })
}

/** The one result of `fn` on `inputs`. @throws RangeError when there are more */
export function apply(fn: (...inputs: Tensor[]) => Tensor, ...inputs: readonly HostTensor[]): Applied {
  const [result, ...rest] = applyAll(fn, ...inputs)
  if (!result || rest.length > 0) throw new RangeError(`apply: expected one result, got ${rest.length + 1}`)
  return result
}

/** The gradients of the sum of `fn`'s elements by each of `inputs`, as plain numbers. */
export function gradientsOfSum(fn: (...inputs: Tensor[]) => Tensor, ...inputs: readonly HostTensor[]): readonly (readonly number[])[] {
  return applyAll((...xs) => gradients(fn(...xs).sum(), xs), ...inputs).map((g) => g.values)
}

/** The dtype and shape of `fn`'s result for inputs of these types; sizes may be names. */
export function typeOfResult(fn: (...inputs: Tensor[]) => Tensor, ...inputs: readonly InputSpec[]): { readonly dtype: DType; readonly shape: Shape } {
  const { graph } = trace(fn, { inputs })
  const [output] = graph.outputs
  if (!output) throw new RangeError('typeOfResult: the trace made no result')
  return typeOf(graph, output.value)
}
