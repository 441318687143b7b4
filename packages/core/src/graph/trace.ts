// From a function on symbolic tensors to a graph.

import { GraphError } from '../backend/errors.ts'
import { ops } from '../ops/table.ts'
import type { DType } from '../tensor/dtype.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { Shape } from '../tensor/shape.ts'
import { only, Tensor } from '../tensor/tensor.ts'
import { GraphBuilder } from './builder.ts'
import type { Graph } from './graph.ts'
import { currentScope, Scope, type StateSource, withScope } from './scope.ts'

/** An input of a trace. */
export interface InputSpec {
  readonly shape: Shape
  /** float32 unless given. */
  readonly dtype?: DType
  /** `input0`, `input1`, ... unless given. */
  readonly name?: string
}

/** What a traced function may return. */
export type TraceResult = Tensor | readonly Tensor[] | { readonly [name: string]: Tensor }

/** A trace's result. */
export interface Traced {
  readonly graph: Graph
  /** The states that the graph uses, by name, with their values at the start. */
  readonly sources: ReadonlyMap<string, StateSource>
}

/** How to trace. */
export interface TraceOptions {
  readonly inputs: readonly InputSpec[]
  /** Names of the parameters and modules in use (see `Module`). */
  readonly names?: ReadonlyMap<object, string>
  /** Whether tensors put aside with `record` become outputs too, named `tap:<path>`. */
  readonly taps?: boolean
}

/**
 * Runs `fn` on symbolic inputs and returns the graph of what it did.
 *
 * @example trace((x) => x.mul(2), { inputs: [{ shape: [3] }] }).graph
 * @throws GraphError when it returns nothing; whatever the ops' checks find
 */
export function trace(fn: (...inputs: Tensor[]) => TraceResult, options: TraceOptions): Traced {
  const builder = new GraphBuilder(ops)
  const scope = new Scope(builder, options.names ?? new Map())
  const inputs = options.inputs.map((spec, i) => builder.input(spec.name ?? `input${i}`, spec.dtype ?? 'float32', spec.shape))
  const result: TraceResult | undefined = withScope(scope, () => fn(...inputs))
  // A `forward` of plain JavaScript may have forgotten its return.
  if (typeof result !== 'object') throw new GraphError(`trace: the traced function returned ${String(result)}; return a tensor, a list or a record of tensors`)
  for (const [name, value] of named(result)) builder.output(name, value)
  if (options.taps) for (const [path, value] of scope.taps) builder.output(`tap:${path}`, value)
  return { graph: builder.build(), sources: scope.sources }
}

function named(result: TraceResult): readonly (readonly [string, Tensor])[] {
  if (result instanceof Tensor) return [['output0', result]]
  if (Array.isArray(result)) return (result as readonly Tensor[]).map((t, i) => [`output${i}`, t] as const)
  return Object.entries(result as { readonly [name: string]: Tensor })
}

/** A constant of the running trace. @throws GraphError outside a trace */
export function constant(value: HostTensor): Tensor {
  return only(currentScope('constant').builder.emit('constant', { value }, []))
}

/** 0, 1, 2, ... along `axis` of a tensor of `shape`, in the running trace. @throws GraphError outside a trace */
export function iota(shape: Shape, axis: number = 0, dtype: DType = 'int32'): Tensor {
  return only(currentScope('iota').builder.emit('iota', { shape, axis, dtype }, []))
}
