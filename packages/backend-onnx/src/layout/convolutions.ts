// Convolutions and their gradients on blocked values, static and with a kernel for every sample.
//
// With a kernel for every sample the batch lies side by side as groups of channels: [N, C, H, W] as [1, N C, H, W] is the
// same memory in blocks too. The mixed kernels come blocked straight from one product, pi [N, K] x bases [K, n], because
// mixing is linear and the bases are stored blocked.

import { GraphError, type Node, type NodeOf, sizeOf, type ValueId } from '@dynconv/core'
import { input, output } from '../kernels/shared.ts'
import type { ModelBuilder } from '../model.ts'
import type { Context } from './context.ts'
import { filterGrad, filterGradPerSample, type FilterGradSources, kernelToTaps, tapsToKernel } from './filterGrad.ts'
import { inputGrad, turnKernels } from './inputGrad.ts'
import { conv } from './nchwc.ts'
import { forwardWalk, inputGradForm } from './support.ts'

/** What a convolution adds to its result. */
export interface Extra {
  /** [C] */
  readonly bias?: string | undefined
  /** [N, C]; only for convolutions with a kernel for every sample. */
  readonly sampleBias?: string | undefined
  /** Blocked, as the result. */
  readonly sum?: string | undefined
  /** Only forward. */
  readonly relu?: boolean | undefined
}

/** Convolutions whose result can take other terms in. */
export type ConvNode = NodeOf<'conv2d'> | NodeOf<'conv2dInputGrad'> | NodeOf<'dynamicConv2d'> | NodeOf<'dynamicConv2dInputGrad'>

/** Whether `node` is such a convolution. */
export function isConvNode(node: Node): node is ConvNode {
  return node.op === 'conv2d' || node.op === 'conv2dInputGrad' || isDynamic(node)
}

/** Whether `node` has a kernel, and may have a bias, for every sample. */
export function isDynamic(node: Node): node is NodeOf<'dynamicConv2d'> | NodeOf<'dynamicConv2dInputGrad'> {
  return node.op === 'dynamicConv2d' || node.op === 'dynamicConv2dInputGrad'
}

/** The blocked result of a convolution with what a sum adds to it. */
export function emitConv(node: ConvNode, ctx: Context, extra: Extra): string {
  if (node.op === 'conv2d') return conv2d(node, ctx, extra)
  if (node.op === 'conv2dInputGrad') return conv2dInputGrad(node, ctx, extra)
  if (node.op === 'dynamicConv2d') return dynamicConv2d(node, ctx, extra)
  return dynamicConv2dInputGrad(node, ctx, extra)
}

function conv2d(node: NodeOf<'conv2d'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  const { lowering, model } = ctx
  const own = node.inputs[2] === undefined ? undefined : lowering.get(node.inputs[2])
  const x = lowering.get(input(node, 0), kind === 'stem' ? 'plain' : 'blocked')
  const bias = plus(model, own, extra.bias)
  return conv(model, x, lowering.get(input(node, 1), 'kernel'), forwardWalk(c, c.groups), { bias, sum: extra.sum, relu: extra.relu })
}

function conv2dInputGrad(node: NodeOf<'conv2dInputGrad'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  const form = needed(node, inputGradForm(c, kind))
  const { name } = turnKernels(ctx.model, ctx.lowering.get(input(node, 1), 'kernel'), 1, c, form, ctx.block)
  const dy = ctx.blocked(input(node, 0))
  return inputGrad(ctx.model, { case: c, form, block: ctx.block, dy, kernels: name, perSample: false, bias: extra.bias, sum: extra.sum })
}

function dynamicConv2d(node: NodeOf<'dynamicConv2d'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  const { lowering, model } = ctx
  const [x, bases, pi] = [input(node, 0), input(node, 1), input(node, 2)]
  const [count = 0, ...kernel] = ctx.shape(bases)
  const mixed = model.op('MatMul', [lowering.get(pi), model.reshape(lowering.get(bases, 'kernel'), [count, sizeOf(kernel)])])
  const own = node.inputs[3] === undefined ? undefined : model.op('MatMul', [lowering.get(pi), lowering.get(node.inputs[3])])
  const bias = sampleBias(model, c, plus(model, own, extra.sampleBias), extra.bias)
  const side = (name: string, channels: number, h: number, w: number): string => model.reshape(name, [1, c.batch * channels, h, w])
  const y = conv(
    model,
    side(lowering.get(x, kind === 'stem' ? 'plain' : 'blocked'), c.inChannels, c.rows.input, c.columns.input),
    model.reshape(mixed, [c.batch * c.outChannels, ...kernel.slice(1)]),
    forwardWalk(c, c.batch * c.groups),
    {
      bias: bias === undefined ? undefined : model.reshape(bias, [c.batch * c.outChannels]),
      sum: extra.sum === undefined ? undefined : side(extra.sum, c.outChannels, c.rows.output, c.columns.output),
      relu: extra.relu,
    },
  )
  return model.reshape(y, ctx.shape(output(node)))
}

function dynamicConv2dInputGrad(node: NodeOf<'dynamicConv2dInputGrad'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  const form = needed(node, inputGradForm(c, kind))
  const { lowering, model } = ctx
  const [dy, bases, pi] = [input(node, 0), input(node, 1), input(node, 2)]
  const turned = turnKernels(model, lowering.get(bases, 'kernel'), ctx.shape(bases)[0] ?? 0, c, form, ctx.block)
  return inputGrad(model, {
    case: c,
    form,
    block: ctx.block,
    dy: ctx.blocked(dy),
    kernels: model.op('MatMul', [lowering.get(pi), turned.name]),
    perSample: true,
    bias: sampleBias(model, c, extra.sampleBias, extra.bias, c.inChannels),
    sum: extra.sum,
  })
}

/** The filter gradient, in kernel layout. */
export function conv2dFilterGrad(node: NodeOf<'conv2dFilterGrad'>, ctx: Context): string {
  const { case: c } = ctx.convolution(node)
  const { name, order } = filterGrad(ctx.model, c, sources(ctx, input(node, 0), input(node, 1)))
  return ctx.model.reshape(tapsToKernel(ctx.model, name, 1, order, c, ctx.block), ctx.shape(output(node)))
}

/** dBases (in kernel layout) and dPi: with V = pi . bases and dV [N, n], they are pi^T dV and dV bases^T. */
export function dynamicConv2dKernelGrad(node: NodeOf<'dynamicConv2dKernelGrad'>, ctx: Context): readonly [dBases: string, dPi: string] {
  const { case: c } = ctx.convolution(node)
  const { lowering, model } = ctx
  const [x, dy, bases] = [input(node, 0), input(node, 1), input(node, 2)]
  const shape = ctx.shape(bases)
  const [count = 0] = shape
  const pi = lowering.get(input(node, 3))
  const { chunk } = node.attrs
  const streamed = chunk > 0 && chunk < c.batch
  if (streamed) return streamedKernelGrad(node, ctx, chunk)
  const dv = filterGradPerSample(model, c, sources(ctx, x, dy))
  const taps = kernelToTaps(model, lowering.get(bases, 'kernel'), count, dv.order, c, ctx.block)
  const dBases = model.op('Gemm', [pi, dv.name], { transA: 1 })
  const dPi = model.op('Gemm', [dv.name, taps], { transB: 1 })
  return [model.reshape(tapsToKernel(model, dBases, count, dv.order, c, ctx.block), shape), dPi]
}

// The same for `chunk` samples at a time, so that only their dV is in memory. The engine runs nodes as soon as their
// inputs are there, which would make every dV first; so each chunk's dY waits for the sum so far, by adding 0 of it.
function streamedKernelGrad(node: NodeOf<'dynamicConv2dKernelGrad'>, ctx: Context, chunk: number): readonly [dBases: string, dPi: string] {
  const { case: c } = ctx.convolution(node)
  const { lowering, model } = ctx
  const [xPlain, dyLast, bases] = [lowering.get(input(node, 0)), ctx.channelsLast(input(node, 1)), input(node, 2)]
  const needsLast = c.columns.stride > 1
  const xLast = needsLast ? ctx.channelsLast(input(node, 0)) : ''
  const shape = ctx.shape(bases)
  const [count = 0] = shape
  const pi = lowering.get(input(node, 3))
  const dPis: string[] = []
  let sum: string | undefined
  let taps: string | undefined
  let order: 'iuvo' | 'uivo' | 'uvio' = 'iuvo'
  for (let first = 0; first < c.batch; first += chunk) {
    const samples = Math.min(chunk, c.batch - first)
    const part = (name: string): string => model.slice(name, [first], [first + samples], [0])
    const gate = (name: string): string => (sum === undefined ? name : model.op('Add', [name, model.op('Mul', [model.slice(sum, [0, 0], [1, 1], [0, 1]), model.float(0)])]))
    const dv = filterGradPerSample(model, { ...c, batch: samples }, {
      xPlain: () => part(xPlain),
      xLast: () => part(xLast),
      dyLast: () => model.reshape(gate(model.reshape(part(dyLast), [1, samples * c.rows.output * c.columns.output * c.outChannels])), [samples, c.rows.output, c.columns.output, c.outChannels]),
    })
    order = dv.order
    taps ??= kernelToTaps(model, lowering.get(bases, 'kernel'), count, order, c, ctx.block)
    dPis.push(model.op('Gemm', [dv.name, taps], { transB: 1 }))
    sum = model.op('Gemm', [part(pi), dv.name, sum ?? ''], { transA: 1 })
  }
  return [model.reshape(tapsToKernel(model, sum ?? '', count, order, c, ctx.block), shape), model.concat(dPis, 0)]
}

function sources(ctx: Context, x: ValueId, dy: ValueId): FilterGradSources {
  return { xPlain: () => ctx.lowering.get(x), xLast: () => ctx.channelsLast(x), dyLast: () => ctx.channelsLast(dy) }
}

function plus(model: ModelBuilder, a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined || b === undefined ? (a ?? b) : model.op('Add', [a, b])
}

// [N, channels] from a bias for every sample and one for all of them.
function sampleBias(
  model: ModelBuilder,
  c: { readonly batch: number; readonly outChannels: number },
  own: string | undefined,
  shared: string | undefined,
  channels: number = c.outChannels,
): string | undefined {
  if (shared === undefined) return own
  return own === undefined ? model.op('Expand', [shared, model.ints([c.batch, channels])]) : model.op('Add', [own, shared])
}

function needed<T>(node: Node, value: T | undefined): T {
  if (value === undefined) throw new GraphError(`onnx: ${node.op} does not run in blocks`)
  return value
}
