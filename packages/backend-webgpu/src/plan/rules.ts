// What a lowering rule is.

import type { OpAttrs, OpName, StaticType } from '@dynconv/core'
import type { Context } from './context.ts'
import type { Operand } from './fuse.ts'

/** How an op becomes part of a program. */
export type Rule<K extends OpName> = (
  context: Context,
  attrs: OpAttrs[K],
  inputs: readonly Operand[],
  outputs: readonly StaticType[],
) => Operand | readonly Operand[]

/** A rule for each op, or that it is decomposed. */
export type Rules<K extends OpName = OpName> = { readonly [N in K]: Rule<N> | 'decompose' }
