// Formulas, op by op, for rules.

import type { StaticShape, StaticType } from '@dynconv/core'
import { expressions } from '../kernels/elementwise.ts'
import { reduceKernel } from '../kernels/reduce.ts'
import { denseLayout } from '../wgsl/views.ts'
import type { Context } from './context.ts'
import type { Lazy, Operand } from './fuse.ts'
import type { Value } from './program.ts'

type Binary = (a: Operand, b: Operand) => Lazy

/** Elementwise arithmetic whose results are of one type. */
export function arithmetic(context: Context, { dtype, shape }: StaticType): { readonly add: Binary; readonly sub: Binary; readonly mul: Binary } {
  const op =
    (name: 'add' | 'sub' | 'mul'): Binary =>
    (a, b) =>
      context.elementwise(name, expressions[name], [a, b], dtype, shape)
  return { add: op('add'), sub: op('sub'), mul: op('mul') }
}

/** [C] as [C, 1, ...], which stretches over x [N, C, ...]. */
export function perChannel(context: Context, vector: Operand, x: StaticShape): Operand {
  const shape = [x[1] ?? 0, ...x.slice(2).map(() => 1)]
  return 'scalar' in vector ? { ...vector, shape } : context.view(context.dense(vector), denseLayout(shape))
}

/** 1 / sqrt(variance + epsilon) of each channel of x [N, C, ...]. */
export function deviation(context: Context, variance: Operand, epsilon: number, { dtype, shape: [, channels = 0] }: StaticType): Lazy {
  const sum = context.elementwise('add', expressions.add, [variance, { scalar: epsilon, dtype, shape: [] }], dtype, [channels])
  return context.elementwise('rsqrt', expressions.rsqrt, [sum], dtype, [channels])
}

/** The sum of a matrix in float32 over an axis. */
export function sumOver(context: Context, matrix: Value, axis: 0 | 1, type: StaticType): Operand {
  const sum = { target: context.target, op: 'reduceSum', dtype: 'float32', layout: matrix.layout, axes: [axis], result: type.dtype } as const
  return context.rooted('reduceSum', type, [matrix], (finish) => reduceKernel(sum, finish))
}
