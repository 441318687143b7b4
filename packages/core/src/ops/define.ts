// What an op is. Each is defined in one place, by one `defineOp`: its checks and its result's type (`infer`), its
// gradient (in ops, so that gradients of gradients work), its plain float64 meaning (`reference`, the oracle) and its
// multiply-adds. This file holds types and the identity function that checks them; the definitions stand by family.

import type { DType } from '../tensor/dtype.ts'
import type { Shape, StaticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { OpAttrs, OpName } from './attrs.ts'

/** dtype + shape: all that `infer` may look at. */
export interface ValueType {
  readonly dtype: DType
  readonly shape: Shape
}

/** A value of the reference evaluator: every dtype as float64 (a bool is 0 or 1), row-major. */
export interface RefTensor {
  readonly shape: StaticShape
  readonly data: Float64Array
}

/** What a gradient rule sees. */
export interface GradientContext<K extends OpName> {
  readonly attrs: OpAttrs[K]
  readonly inputs: readonly Tensor[]
  readonly outputs: readonly Tensor[]
  /** The gradient of the first output (zeros where the loss does not use it). */
  readonly grad: Tensor
  /** The gradient of each output; undefined where the loss does not use it. */
  readonly grads: readonly (Tensor | undefined)[]
  /** Which inputs' gradients are wanted: a rule may leave the others undefined, and should where they cost something. */
  readonly needs: readonly boolean[]
}

/** An op, in one place. */
export interface OpDef<K extends OpName> {
  readonly name: K
  /** Checks attributes and inputs, and gives the type of each output. All argument checks live here, above every backend. */
  readonly infer: (attrs: OpAttrs[K], inputs: readonly ValueType[]) => ValueType | readonly ValueType[]
  /**
   * The gradient of each input, in ops (undefined: none). 'none': the op has no gradient (an integer result, or a step).
   * Left out: the gradient is taken through `decompose`.
   */
  readonly gradient?: ((context: GradientContext<K>) => readonly (Tensor | undefined)[]) | 'none'
  /** The op computed plainly in float64. Obvious, not fast. `outputs` are the inferred types, shapes all known. */
  readonly reference: (
    attrs: OpAttrs[K],
    inputs: readonly RefTensor[],
    outputs: readonly { readonly dtype: DType; readonly shape: StaticShape }[],
  ) => RefTensor | readonly RefTensor[]
  /** Multiply-adds, from known shapes; left out: none (elementwise work is counted as bytes). */
  readonly macs?: (attrs: OpAttrs[K], inputs: readonly StaticShape[], outputs: readonly StaticShape[]) => number
  /** The same op in simpler ops, for backends that do not override it, and for gradients where there is no rule. */
  readonly decompose?: (attrs: OpAttrs[K], inputs: readonly Tensor[]) => readonly Tensor[]
}

/** The table of all ops. */
export type OpTable = { readonly [K in OpName]: OpDef<K> }

/** Defines an op (the identity: it is there for its type). */
export function defineOp<K extends OpName>(def: OpDef<K>): OpDef<K> {
  return def
}
