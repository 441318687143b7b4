// Convolutions and their gradients on blocked values, static and with a kernel for every sample.

import { GraphError, type Node, type NodeOf, sizeOf, type StaticShape, type ValueId } from '@dynconv/core'
import { input, output } from '../kernels/shared.ts'
import type { ModelBuilder } from '../model.ts'
import type { Context } from './context.ts'
import type { ConvNode } from './convNode.ts'
import { convByKernels, convPerSample, type Mixtures } from './convPerSample.ts'
import { depthwiseFilterGrad, type FilterGrad, filterGrad, filterGradPerSample, type FilterGradSources, kernelToTaps, tapsToKernel } from './filterGrad.ts'
import { inputGrad, turnKernels } from './inputGrad.ts'
import { type Activation, conv, type Epilogue, reorderOutput } from './nchwc.ts'
import { type ConvCase, type ConvKind, depthwiseFilterWalk, forwardWalk, inputGradForm, turnedCase, withoutGroups } from './support.ts'
import { fits } from './views.ts'
import { winogradConv, winogradConvPerSample, winogradForm } from './winogradConv.ts'

/** What a convolution adds to its result. */
export interface Extra {
  /** [C] */
  readonly bias?: string | undefined
  /** [N, C]; only for convolutions with a kernel for every sample. */
  readonly sampleBias?: string | undefined
  /** Blocked, as the result. */
  readonly sum?: string | undefined
  /** Only forward. */
  readonly activation?: Activation | undefined
  /** [C]: a factor for each channel of the result, before all else (only forward). It goes into the kernels. */
  readonly scale?: string | undefined
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
  const bias = plus(model, own === undefined ? undefined : scaled(model, own, extra.scale), extra.bias)
  const weight = scaledKernels(model, lowering.get(input(node, 1), 'kernel'), ctx.shape(input(node, 1)), extra.scale, ctx.block)
  return convolve(ctx, c, kind, x, { name: weight, onlyRead: ctx.onlyReads(input(node, 1)) }, { bias, sum: extra.sum, activation: extra.activation })
}

/** Kernels in kernel layout, and whether the program only reads them. */
export interface Kernels {
  readonly name: string
  readonly onlyRead: boolean
}

/** A convolution of `x` (blocked; plain for a stem) by kernels, in the form that is fastest. */
export function convolve({ model, block }: Context, c: ConvCase, kind: ConvKind, x: string, { name, onlyRead }: Kernels, epilogue: Epilogue): string {
  const form = kind === 'blocked' ? winogradForm(c, { perSample: false, onlyRead }) : undefined
  return form === undefined ? conv(model, x, name, forwardWalk(c, c.groups), epilogue) : winogradConv(model, form, c, x, name, block, epilogue)
}

// `values` [.., C] times `scale` [C].
function scaled(model: ModelBuilder, values: string, scale: string | undefined): string {
  return scale === undefined ? values : model.op('Mul', [values, scale])
}

// Kernels (or bases) of `shape` [.., O, I/g, kh, kw] in kernel layout, [.., O/b, the rest, b of O], times `scale` [O].
function scaledKernels(model: ModelBuilder, kernels: string, shape: StaticShape, scale: string | undefined, block: number): string {
  if (scale === undefined) return kernels
  const [outChannels = 0, ...rest] = shape.slice(-4)
  const view = [sizeOf(shape.slice(0, -4)), outChannels / block, sizeOf(rest), block]
  return model.reshape(model.op('Mul', [model.reshape(kernels, view), model.reshape(scale, [1, outChannels / block, 1, block])]), shape)
}

function conv2dInputGrad(node: NodeOf<'conv2dInputGrad'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  return inputGradient(node, ctx, c, kind, ctx.blocked(input(node, 0)), ctx.lowering.get(input(node, 1), 'kernel'), extra)
}

/** The input gradient of a static convolution by `weight` (kernel layout) from `dy` (blocked). */
export function inputGradient(node: Node, ctx: Context, c: ConvCase, kind: ConvKind, dy: string, weight: string, extra: Extra): string {
  const form = needed(node, inputGradForm(c, kind))
  const kernels = turnKernels(ctx.model, weight, 1, c, form, ctx.block).map(({ name }) => name)
  const { bias, sum } = extra
  if (form !== 'turned') return inputGrad(ctx.model, { case: c, form, block: ctx.block, dy, kernels, perSample: false, bias, sum })
  const turned = turnedCase(c)
  const kernel = ctx.model.reshape(kernels[0] ?? '', [c.inChannels, c.outChannels / c.groups, c.rows.kernel, c.columns.kernel])
  return convolve(ctx, turned, kind, dy, { name: kernel, onlyRead: false }, { bias, sum })
}

function dynamicConv2d(node: NodeOf<'dynamicConv2d'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  const { lowering, model } = ctx
  const [x, bases, pi] = [input(node, 0), input(node, 1), input(node, 2)]
  const stored = scaledKernels(model, lowering.get(bases, 'kernel'), ctx.shape(bases), extra.scale, ctx.block)
  const mixtures: Mixtures = { pi: lowering.get(pi), bases: stored, count: ctx.shape(bases)[0] ?? 0, onlyRead: ctx.onlyReads(bases), threads: ctx.threads }
  const own = node.inputs[3] === undefined ? undefined : model.op('MatMul', [mixtures.pi, scaled(model, lowering.get(node.inputs[3]), extra.scale)])
  const perSample = sampleBias(model, c, plus(model, own, extra.sampleBias), extra.bias)
  const bias = perSample === undefined ? undefined : model.reshape(perSample, [c.batch * c.outChannels])
  const images = lowering.get(x, kind === 'stem' ? 'plain' : 'blocked')
  const epilogue: Epilogue = { bias, sum: extra.sum, activation: extra.activation }
  const form = kind === 'blocked' ? winogradForm(c, { perSample: true, onlyRead: mixtures.onlyRead }) : undefined
  if (form !== undefined) return winogradConvPerSample(model, form, c, images, mixtures, ctx.block, epilogue)
  return convPerSample(model, c, images, mixtures, ctx.block, epilogue)
}

function dynamicConv2dInputGrad(node: NodeOf<'dynamicConv2dInputGrad'>, ctx: Context, extra: Extra): string {
  const { case: c, kind } = ctx.convolution(node)
  const form = needed(node, inputGradForm(c, kind))
  const { lowering, model } = ctx
  const [dy, bases, pi] = [ctx.blocked(input(node, 0)), input(node, 1), lowering.get(input(node, 2))]
  const count = ctx.shape(bases)[0] ?? 0
  const stored = lowering.get(bases, 'kernel')
  const bias = sampleBias(model, c, extra.sampleBias, extra.bias, c.inChannels)
  const epilogue: Epilogue = { bias: bias === undefined ? undefined : model.reshape(bias, [c.batch * c.inChannels]), sum: extra.sum }
  const turn = (name: string, kernels: number): readonly string[] => turnKernels(model, name, kernels, c, form, ctx.block).map((turned) => turned.name)
  // Bases that the program changes are turned in every run, which is dear: mixed kernels instead, where they are fewer.
  const few = c.batch < count && !ctx.onlyReads(bases)
  const turned = few ? turn(model.op('MatMul', [pi, model.reshape(stored, [count, lengthOf(c)])]), c.batch) : turn(stored, count)
  const [first = ''] = turned
  if (form === 'turned') {
    if (few) return convByKernels(model, turnedCase(c), dy, first, epilogue)
    return convPerSample(model, turnedCase(c), dy, { pi, bases: first, count, onlyRead: ctx.onlyReads(bases), threads: ctx.threads }, ctx.block, epilogue)
  }
  const kernels = few ? turned : turned.map((name) => model.op('MatMul', [pi, name]))
  return inputGrad(model, { case: c, form, block: ctx.block, dy, kernels, perSample: true, bias, sum: extra.sum })
}

/** The filter gradient, in kernel layout. */
export function conv2dFilterGrad(node: NodeOf<'conv2dFilterGrad'>, ctx: Context): string {
  const { case: c, kind } = ctx.convolution(node)
  const groups = kind === 'depthwise' ? 1 : c.groups
  return kernelGradient(node, ctx, c, kind, sources(ctx, input(node, 0), input(node, 1), groups), ctx.shape(output(node)))
}

/** The filter gradient of a static convolution, in kernel layout, as `shape`. */
export function kernelGradient(node: Node, { model, block }: Context, c: ConvCase, kind: ConvKind, from: FilterGradSources, shape: StaticShape): string {
  if (kind === 'depthwise') {
    const perSample = depthwiseFilterGrad(model, c, needed(node, depthwiseFilterWalk(c)), needed(node, from.xBlocked()), from.dyBlocked())
    return model.reshape(model.sum(perSample, [0], true), shape)
  }
  if (c.groups === 1) return model.reshape(tapsToKernel(model, filterGrad(model, c, from, block), 1, c, block), shape)
  const apart = withoutGroups(c)
  const { pieces, order } = filterGradPerSample(model, apart, from, block)
  const sums = pieces.map((piece) => model.sum(model.reshape(piece, [c.batch, lengthOf(c) / pieces.length]), [0], true))
  return model.reshape(tapsToKernel(model, { pieces: sums, order }, c.groups, apart, block), shape)
}

// Numbers of one kernel.
function lengthOf(c: ConvCase): number {
  return ((c.outChannels * c.inChannels) / c.groups) * c.rows.kernel * c.columns.kernel
}

/**
 * dBases (in kernel layout) and dPi: with V = pi . bases and its gradient dV [N, n], they are pi^T dV and dV bases^T.
 * With a `chunk`, for so many samples at a time, so that only their dV is in memory.
 */
export function dynamicConv2dKernelGrad(node: NodeOf<'dynamicConv2dKernelGrad'>, ctx: Context): readonly [dBases: string, dPi: string] {
  const { case: c, kind } = ctx.convolution(node)
  const { lowering, model, block } = ctx
  const [x, dy, bases, pi] = [input(node, 0), input(node, 1), input(node, 2), lowering.get(input(node, 3))]
  const [count = 0] = ctx.shape(bases)
  const stored = lowering.get(bases, 'kernel')
  const { chunk } = node.attrs
  const streams = chunk > 0 && chunk < c.batch
  const apart = kind === 'depthwise' ? 1 : c.groups
  const whole = sources(ctx, x, dy, apart)
  let sums: readonly string[] = []
  let taps: readonly string[] | undefined
  let finish = (): string => ''
  const dPis: string[] = []
  for (let first = 0; first < c.batch; first += streams ? chunk : c.batch) {
    const samples = streams ? Math.min(chunk, c.batch - first) : c.batch
    const part = (name: string, share: number): string => (streams ? model.slice(name, [first * share], [(first + samples) * share], [0]) : name)
    const from = streams ? partOf(model, whole, (name) => part(name, apart), sums[0]) : whole
    const some = { ...c, batch: samples }
    const dv = kind === 'depthwise' ? depthwiseKernels(node, model, some, from) : mixedKernels(model, some, from, block, c.batch < 2 * count)
    taps ??= dv.like ? kernelToTaps(model, stored, dv.like, count * c.groups, withoutGroups(c), block) : [stored]
    // Pieces of the bases, [count, numbers of a piece].
    const rows = taps.map((tap) => model.reshape(tap, [count, lengthOf(c) / dv.pieces.length]))
    sums = dv.pieces.map((piece, i) => model.op('Gemm', [part(pi, 1), piece, sums[i] ?? ''], { transA: 1 }))
    dPis.push(dv.pieces.reduce((sum, piece, i) => model.op('Gemm', [piece, rows[i] ?? '', sum], { transB: 1 }), ''))
    const total = sums
    finish = () => (dv.like ? tapsToKernel(model, { ...dv.like, pieces: total }, count * c.groups, withoutGroups(c), block) : (total[0] ?? ''))
  }
  return [model.reshape(finish(), ctx.shape(bases)), model.concat(dPis, 0)]
}

// dV [N, ...] in pieces; `like` says in which order, undefined: kernel layout.
interface KernelGrads {
  readonly pieces: readonly string[]
  readonly like: FilterGrad | undefined
}

function depthwiseKernels(node: Node, model: ModelBuilder, c: ConvCase, from: FilterGradSources): KernelGrads {
  const x = needed(node, from.xBlocked())
  return { pieces: [depthwiseFilterGrad(model, c, needed(node, depthwiseFilterWalk(c)), x, from.dyBlocked())], like: undefined }
}

// With `few` samples in kernel layout: else the bases and their gradients are brought into the order of dV and back.
function mixedKernels(model: ModelBuilder, c: ConvCase, from: FilterGradSources, block: number, few: boolean): KernelGrads {
  const like = filterGradPerSample(model, withoutGroups(c), from, block)
  if (few) {
    const kernels = tapsToKernel(model, like, c.batch * c.groups, withoutGroups(c), block)
    return { pieces: [model.reshape(kernels, [c.batch, lengthOf(c)])], like: undefined }
  }
  return { pieces: like.pieces.map((piece) => model.reshape(piece, [c.batch, lengthOf(c) / like.pieces.length])), like }
}

// The sources of some samples. The engine runs nodes as soon as their inputs are there, which would make every dV before
// the first is used up; so dY waits for the sum over the samples before, by adding 0 of it.
function partOf(model: ModelBuilder, whole: FilterGradSources, part: (name: string) => string, sumBefore: string | undefined): FilterGradSources {
  const gate = sumBefore === undefined ? undefined : model.op('Mul', [model.reshape(model.slice(sumBefore, [0, 0], [1, 1], [0, 1]), [1]), model.float(0)])
  const gated = (name: string): string => (gate === undefined ? part(name) : model.op('Add', [part(name), gate]))
  return {
    xPlain: () => part(whole.xPlain()),
    xBlocked: () => {
      const x = whole.xBlocked()
      return x === undefined ? undefined : part(x)
    },
    xLast: () => part(whole.xLast()),
    dyPlain: () => gated(whole.dyPlain()),
    dyLast: () => gated(whole.dyLast()),
    dyBlocked: () => gated(whole.dyBlocked()),
  }
}

/** The images of a convolution, groups as samples of their own. `dy` may be `instead`, blocked images of other channels. */
export function sources(ctx: Context, x: ValueId, dy: ValueId, groups: number, instead?: { readonly blocked: string; readonly channels: number }): FilterGradSources {
  const apart = (name: string, id: ValueId): string => {
    const [batch = 0, channels = 0, height = 0, width = 0] = ctx.shape(id)
    return groups === 1 ? name : ctx.model.reshape(name, [batch * groups, channels / groups, height, width])
  }
  const gradients = (): Pick<FilterGradSources, 'dyPlain' | 'dyLast' | 'dyBlocked'> => ({
    dyPlain: () => apart(ctx.lowering.get(dy), dy),
    dyLast: () => ctx.channelsLast(dy, groups),
    dyBlocked: () => apart(ctx.blocked(dy), dy),
  })
  return {
    xPlain: () => apart(ctx.lowering.get(x), x),
    xBlocked: () => (fits(ctx.shape(x), 'blocked', ctx.block) ? apart(ctx.blocked(x), x) : undefined),
    xLast: () => ctx.channelsLast(x, groups),
    ...(instead ? sourcesOf(ctx.model, instead) : gradients()),
  }
}

// dY from blocked images.
function sourcesOf(model: ModelBuilder, { blocked, channels }: { readonly blocked: string; readonly channels: number }): Pick<FilterGradSources, 'dyPlain' | 'dyLast' | 'dyBlocked'> {
  return { dyPlain: () => reorderOutput(model, blocked, channels), dyLast: () => reorderOutput(model, blocked, channels, true), dyBlocked: () => blocked }
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
