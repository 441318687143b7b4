// Batch normalisation on blocked images (the formulas: core's ops/norm.ts). What is affine per channel is a depthwise 1x1
// convolution, which adds residuals and applies an activation on the way; sums over pixels are the engine's global average.
//
// The variance is the mean of the squares of c = x - mean, not E[x^2] - mean^2, which loses all digits where the mean is
// large against the deviation. c is made once and serves the result, its gradient, and nothing reads x again. With M
// values per channel and r = 1 / sqrt(variance + epsilon):
//
//   y = A c + beta    with A = gamma r
//   dbeta = sum(dy),   dgamma = r sum(dy c)
//   dx = A (dy - dbeta / M - c r dgamma / M) = A dy + B dbeta + (B dgamma r) c    with B = -A / M

import { type NodeOf, sizeOf, type StaticShape } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { input, output } from '../kernels/shared.ts'
import type { Context } from './context.ts'
import { emitConv, type Extra } from './convolutions.ts'
import type { ConvNode } from './convNode.ts'
import { affine, conv, globalAverage, pointwise } from './nchwc.ts'

/** What is left to emit of a normalisation: a * first + b * second + bias, with what a sum adds. */
export interface PendingAffine {
  readonly channels: number
  readonly first: { readonly x: string; readonly scale: string }
  readonly second?: { readonly x: string; readonly scale: string }
  /** [C] */
  readonly bias: string
}

/** A normalisation that goes into the kernels of the convolution before it. */
export interface PendingFold {
  readonly into: ConvNode
  /** [C] */
  readonly scale: string
  readonly bias: string
}

/** A normalisation whose result is to be emitted. */
export type PendingNorm = PendingAffine | PendingFold

/** The result of a pending normalisation. A bias in `extra` adds to its own. */
export function emitNorm(ctx: Context, p: PendingNorm, extra: Extra): string {
  const { model } = ctx
  const bias = extra.bias === undefined ? p.bias : model.op('Add', [p.bias, extra.bias])
  if ('into' in p) return emitConv(p.into, ctx, { ...extra, bias, scale: p.scale })
  const sum = p.second ? affine(model, p.second.x, p.channels, p.second.scale, { sum: extra.sum }) : extra.sum
  return affine(model, p.first.x, p.channels, p.first.scale, { bias, sum, activation: extra.activation })
}

/** Batch statistics: sets mean and variance, leaves y to be emitted. */
export function batchNorm(node: NodeOf<'batchNorm'>, ctx: Context): PendingAffine {
  const { lowering, model } = ctx
  const x = input(node, 0)
  const [, channels = 0] = ctx.shape(x)
  const mean = channelMean(model, ctx.blocked(x))
  lowering.set(output(node, 1), mean)
  const centred = ctx.centred(x, mean)
  const variance = model.op('Mul', [channelDot(model, centred, centred, ctx.shape(x)), model.float(channels / sizeOf(ctx.shape(x)))])
  lowering.set(output(node, 2), variance)
  const scale = scaleOf(ctx, lowering.get(input(node, 1)), variance, node.attrs.epsilon)
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
  const count = sizeOf(shape) / channels
  const dGamma = mul(r, channelDot(model, dy ?? '', centred, shape))
  const dBeta = mul(channelMean(model, dy ?? ''), model.float(count))
  lowering.set(output(node, 1), dGamma)
  lowering.set(output(node, 2), dBeta)
  const a = scaleOf(ctx, gamma ?? '', variance ?? '', node.attrs.epsilon)
  const b = mul(a, model.float(-1 / count))
  return {
    channels,
    first: { x: dy ?? '', scale: a },
    second: { x: centred, scale: mul(mul(b, dGamma), r) },
    bias: mul(b, dBeta),
  }
}

/** y with given statistics. */
export function batchNormInference(node: NodeOf<'batchNormInference'>, ctx: Context): PendingNorm {
  const { lowering, model } = ctx
  const x = input(node, 0)
  const [, channels = 0] = ctx.shape(x)
  const [gamma = '', beta = '', mean = '', variance = ''] = [1, 2, 3, 4].map((i) => lowering.get(input(node, i)))
  const scale = model.op('Mul', [gamma, inverseDeviation(ctx, variance, node.attrs.epsilon)])
  const bias = model.op('Sub', [beta, model.op('Mul', [mean, scale])])
  const into = ctx.plan.folds.get(node)
  return into ? { into, scale, bias } : { channels, first: { x: ctx.blocked(x), scale }, bias }
}

/** The mean of each channel of blocked images, over pixels first, then over the batch: [C]. */
function channelMean(model: ModelBuilder, x: string): string {
  return model.op('ReduceMean', [globalAverage(model, x)], { axes: [0, 2, 3], keepdims: 0 })
}

// The sum of a b for each channel of blocked images a, b of `shape`: [C]. With all samples side by side it is a depthwise
// convolution of a whose kernel is b: one value for each sample and channel, and no product is written.
function channelDot(model: ModelBuilder, a: string, b: string, shape: StaticShape): string {
  const [n = 0, c = 0, h = 0, w = 0] = shape
  const walk = { ...pointwise, kernelSize: [h, w], groups: n * c } as const
  const sums = conv(model, model.reshape(a, [1, n * c, h, w]), model.reshape(b, [n * c, 1, h, w]), walk)
  return model.sum(model.reshape(sums, [n, c]), [0], false)
}

// gamma / sqrt(variance + epsilon), shared by a normalisation's forward and backward.
function scaleOf(ctx: Context, gamma: string, variance: string, epsilon: number): string {
  return ctx.once(`scale:${gamma}:${variance}:${epsilon}`, () => ctx.model.op('Mul', [gamma, inverseDeviation(ctx, variance, epsilon)]))
}

// 1 / sqrt(variance + epsilon)
function inverseDeviation(ctx: Context, variance: string, epsilon: number): string {
  const { model } = ctx
  return ctx.once(`deviation:${variance}:${epsilon}`, () => model.op('Reciprocal', [model.op('Sqrt', [model.op('Add', [variance, model.float(epsilon)])])]))
}
