// Batch normalisation on blocked images (the formulas: core's ops/norm.ts). What is affine per channel is a depthwise 1x1
// convolution, which adds residuals and applies relu on the way; sums over pixels are the engine's global average.
//
// The variance is the mean of the squares of c = x - mean, not E[x^2] - mean^2, which loses all digits where the mean is
// large against the deviation. c is made once and serves the result, its gradient, and nothing reads x again. With M
// values per channel and r = 1 / sqrt(variance + epsilon):
//
//   y = (gamma r) c + beta
//   dbeta = M mean(dy),   dgamma = M t with t = r mean(dy c)
//   dx = gamma r (dy - dbeta / M - c r dgamma / M) = A dy - A mean(dy) - (A r t) c    with A = gamma r

import { type NodeOf, sizeOf } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { input, output } from '../kernels/shared.ts'
import type { Context } from './context.ts'
import { affine, type Epilogue, globalAverage } from './nchwc.ts'

/** What is left to emit of a normalisation: a * first + b * second + bias, with what a sum adds. */
export interface PendingAffine {
  readonly channels: number
  readonly first: { readonly x: string; readonly scale: string }
  readonly second?: { readonly x: string; readonly scale: string }
  /** [C] */
  readonly bias: string
}

/** The result of a pending normalisation. A bias in `extra` adds to its own. */
export function emitAffine(model: ModelBuilder, p: PendingAffine, extra: Epilogue): string {
  const bias = extra.bias === undefined ? p.bias : model.op('Add', [p.bias, extra.bias])
  const sum = p.second ? affine(model, p.second.x, p.channels, p.second.scale, { sum: extra.sum }) : extra.sum
  return affine(model, p.first.x, p.channels, p.first.scale, { bias, sum, relu: extra.relu })
}

/** Batch statistics: sets mean and variance, leaves y to be emitted. */
export function batchNorm(node: NodeOf<'batchNorm'>, ctx: Context): PendingAffine {
  const { lowering, model } = ctx
  const x = input(node, 0)
  const [, channels = 0] = ctx.shape(x)
  const mean = channelMean(model, ctx.blocked(x))
  lowering.set(output(node, 1), mean)
  const centred = ctx.centred(x, mean)
  const variance = channelMean(model, model.op('Mul', [centred, centred]))
  lowering.set(output(node, 2), variance)
  const scale = model.op('Mul', [lowering.get(input(node, 1)), inverseDeviation(ctx, variance, node.attrs.epsilon)])
  return { channels, first: { x: centred, scale }, bias: lowering.get(input(node, 2)) }
}

/** Sets dgamma and dbeta, leaves dx to be emitted. */
export function batchNormGrad(node: NodeOf<'batchNormGrad'>, ctx: Context): PendingAffine {
  const { lowering, model } = ctx
  const [x, gamma, mean, variance, dy] = [input(node, 0), ...[1, 2, 3].map((i) => lowering.get(input(node, i))), ctx.blocked(input(node, 4))] as const
  const mul = (a: string, b: string): string => model.op('Mul', [a, b])
  const shape = ctx.shape(x)
  const [, channels = 1] = shape
  const centred = ctx.centred(x, mean ?? '')
  const r = inverseDeviation(ctx, variance ?? '', node.attrs.epsilon)
  const dyMean = channelMean(model, dy ?? '')
  const t = mul(r, channelMean(model, mul(dy ?? '', centred)))
  const count = model.float(sizeOf(shape) / channels)
  lowering.set(output(node, 1), mul(t, count))
  lowering.set(output(node, 2), mul(dyMean, count))
  const a = mul(gamma ?? '', r)
  const minusA = model.op('Neg', [a])
  return {
    channels,
    first: { x: dy ?? '', scale: a },
    second: { x: centred, scale: mul(minusA, mul(r, t)) },
    bias: mul(minusA, dyMean),
  }
}

/** y with given statistics. */
export function batchNormInference(node: NodeOf<'batchNormInference'>, ctx: Context): PendingAffine {
  const { lowering, model } = ctx
  const x = input(node, 0)
  const [, channels = 0] = ctx.shape(x)
  const [gamma = '', beta = '', mean = '', variance = ''] = [1, 2, 3, 4].map((i) => lowering.get(input(node, i)))
  const scale = model.op('Mul', [gamma, inverseDeviation(ctx, variance, node.attrs.epsilon)])
  const bias = model.op('Sub', [beta, model.op('Mul', [mean, scale])])
  return { channels, first: { x: ctx.blocked(x), scale }, bias }
}

/** The mean of each channel of blocked images, over pixels first, then over the batch: [C]. */
function channelMean(model: ModelBuilder, x: string): string {
  return model.op('ReduceMean', [globalAverage(model, x)], { axes: [0, 2, 3], keepdims: 0 })
}

// 1 / sqrt(variance + epsilon)
function inverseDeviation(ctx: Context, variance: string, epsilon: number): string {
  const { model } = ctx
  return ctx.once(`deviation:${variance}:${epsilon}`, () => model.op('Reciprocal', [model.op('Sqrt', [model.op('Add', [variance, model.float(epsilon)])])]))
}
