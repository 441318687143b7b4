// Form "outputs" of a dynamic convolution on blocked values: one ordinary convolution by all bases, K O channels, then a sum
// weighted by pi (the formulas: core's ops/dynamicConvForms.ts). Stored bases [K, O/b, I/b, kh, kw, b, b] are the blocked
// kernels of K O channels as they lie, and blocked results [N, K O/b, P, Q, b] are [N, K, n] with n = O P Q, in the same
// order as a blocked [N, O, P, Q]. So nothing is reordered:
//
//   y      = pi [N, 1, K] . Y [N, K, n]                     Y  = conv(x, bases)
//   dx     = inputGrad(Z, bases)                            Z  = pi [N, K, 1] dy [N, 1, n]
//   dBases = filterGrad(x, Z),   dPi = Y [N, K, n] . dy [N, n, 1]

import { type NodeOf, sizeOf, type ValueId } from '@dynconv/core'
import { input, output } from '../kernels/shared.ts'
import type { Context } from './context.ts'
import { convolve, inputGradient, kernelGradient, sources } from './convolutions.ts'

/** Dynamic ops that run in this form. */
export type OutputsNode = NodeOf<'dynamicConv2d'> | NodeOf<'dynamicConv2dInputGrad'> | NodeOf<'dynamicConv2dKernelGrad'>

/** y, blocked. */
export function convByOutputs(node: NodeOf<'dynamicConv2d'>, ctx: Context): string {
  const { model, lowering, block } = ctx
  const shape = ctx.shape(output(node))
  const [batch = 0, channels = 0, height = 0, width = 0] = shape
  const mixed = model.op('MatMul', [mixtures(node, ctx, 2, 'row'), everyResult(node, ctx)])
  const bias = node.inputs[3]
  if (bias === undefined) return model.reshape(mixed, shape)
  const own = model.reshape(model.op('MatMul', [lowering.get(input(node, 2)), lowering.get(bias)]), [batch, channels / block, 1, block])
  return model.reshape(model.op('Add', [model.reshape(mixed, [batch, channels / block, height * width, block]), own]), shape)
}

/** dx, blocked. */
export function inputGradByOutputs(node: NodeOf<'dynamicConv2dInputGrad'>, ctx: Context): string {
  const { case: c, kind } = ctx.convolution(node)
  return inputGradient(node, ctx, c, kind, weighted(node, ctx, 2, 0), side(ctx, input(node, 1)), {})
}

/** dBases in kernel layout, and dPi. */
export function kernelGradByOutputs(node: NodeOf<'dynamicConv2dKernelGrad'>, ctx: Context): readonly [dBases: string, dPi: string] {
  const { case: c, kind } = ctx.convolution(node)
  const { model } = ctx
  const [x, dy, bases] = [input(node, 0), input(node, 1), input(node, 2)]
  const z = weighted(node, ctx, 3, 1)
  const from = sources(ctx, x, dy, 1, { blocked: z, channels: c.outChannels })
  const dBases = kernelGradient(node, ctx, c, kind, from, ctx.shape(bases))
  const [batch = 0, ...rest] = ctx.shape(dy)
  const [count = 0] = ctx.shape(bases)
  const dPi = model.op('MatMul', [everyResult(node, ctx), model.reshape(ctx.blocked(dy), [batch, sizeOf(rest), 1])])
  return [dBases, model.reshape(dPi, [batch, count])]
}

// Y as [N, K, n]; x and the bases stand first and second in a convolution, first and third in its kernel gradient.
function everyResult(node: NodeOf<'dynamicConv2d'> | NodeOf<'dynamicConv2dKernelGrad'>, ctx: Context): string {
  const { case: c, kind } = ctx.convolution(node)
  const bases = input(node, node.op === 'dynamicConv2d' ? 1 : 2)
  const x = ctx.lowering.get(input(node, 0), kind === 'stem' ? 'plain' : 'blocked')
  const y = convolve(ctx, c, kind, x, { name: side(ctx, bases), onlyRead: ctx.onlyReads(bases) }, {})
  const [count = 0] = ctx.shape(bases)
  return ctx.model.reshape(y, [c.batch, count, (c.outChannels / count) * c.rows.output * c.columns.output])
}

// Bases [K, O, I, kh, kw] as the kernels of K O channels.
function side(ctx: Context, bases: ValueId): string {
  const [count = 0, channels = 0, ...rest] = ctx.shape(bases)
  return ctx.model.reshape(ctx.lowering.get(bases, 'kernel'), [count * channels, ...rest])
}

// Z as blocked [N, K O, P, Q].
function weighted(node: OutputsNode, ctx: Context, pi: number, dy: number): string {
  const { case: c } = ctx.convolution(node)
  const [batch = 0, ...rest] = ctx.shape(input(node, dy))
  const grads = ctx.model.reshape(ctx.blocked(input(node, dy)), [batch, 1, sizeOf(rest)])
  return ctx.model.reshape(ctx.model.op('Mul', [mixtures(node, ctx, pi, 'column'), grads]), [batch, c.outChannels, c.rows.output, c.columns.output])
}

// pi as [N, 1, K] or [N, K, 1].
function mixtures(node: OutputsNode, ctx: Context, pi: number, as: 'row' | 'column'): string {
  const [batch = 0, count = 0] = ctx.shape(input(node, pi))
  return ctx.model.reshape(ctx.lowering.get(input(node, pi)), as === 'row' ? [batch, 1, count] : [batch, count, 1])
}
