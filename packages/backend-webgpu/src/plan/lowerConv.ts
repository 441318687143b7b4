// Convolutions, ordinary and dynamic. A dynamic convolution mixes its kernels once, in one pass over the bases, and is then
// the same dispatch as an ordinary one, whose kernel pointer moves with the sample.

import { type Conv2dAttrs, GraphError, type NodeOf, sizeOf, type StaticType } from '@dynconv/core'
import { converted } from '../kernels/elementwise.ts'
import {
  aggregatePackedKernel,
  backwardAxes,
  convDirectKernel,
  type Direction,
  forwardAxis,
  type Order,
  packedSize,
  packKernel,
  tileFor,
  unrollLimit,
} from '../kernels/convDirect.ts'
import { type Bias, type ConvShape, perGroup, weightSize } from '../kernels/convShape.ts'
import { convTiledKernel, filterGradSplit, filterGradTiledKernel, inputGradTiledKernel, mixesOnLoad, tiledOrder, tiledSplit } from '../kernels/convTiled.ts'
import { filterGradDirectKernel, type GradTile, gradTileFor } from '../kernels/filterGradDirect.ts'
import { convPlainKernel, filterGradPlainKernel, inputGradPlainKernel } from '../kernels/convPlain.ts'
import { aggregateKernel, contractKernel, contractParts, type Mixture } from '../kernels/dynamic.ts'
import { matmulKernel } from '../kernels/matmul.ts'
import { type TileSide, transformedSize, transformKernelsKernel } from '../kernels/winograd.ts'
import { sideFor } from '../kernels/winogradBlocks.ts'
import type { Finish, Kernel } from '../wgsl/kernel.ts'
import { denseLayout, permuteLayout } from '../wgsl/views.ts'
import { arithmetic, deviation, sumOver } from './arithmetic.ts'
import { type Algorithm, algorithmFor, type Pass } from './choose.ts'
import type { Context } from './context.ts'
import type { Operand, Root } from './fuse.ts'
import { type TransformedKernels, winogradConv, winogradFilterGrad, winogradKernelGrad } from './lowerWinograd.ts'
import type { Rules } from './rules.ts'
import type { Value } from './program.ts'

type ConvName = 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad' | 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new GraphError('webgpu: a convolution was given too few operands')
  return value
}

function convShape(
  context: Context,
  attrs: Conv2dAttrs,
  x: readonly number[],
  y: readonly number[],
  kernelSize: readonly [number, number],
  dtype: StaticType['dtype'],
  perSample: boolean,
): ConvShape {
  const [batch = 0, inChannels = 0, height = 0, width = 0] = x
  const [, outChannels = 0, outHeight = 0, outWidth = 0] = y
  return { target: context.target, dtype, batch, inChannels, outChannels, inSize: [height, width], outSize: [outHeight, outWidth], kernelSize, attrs, perSample }
}

const lastTwo = (shape: readonly number[]): readonly [number, number] => [shape.at(-2) ?? 1, shape.at(-1) ?? 1]

// The kernel of one weight, or of a mixture for each sample: what is needed of it, in the form that a convolution wants.
interface Weights {
  /** [O, I/g, kh, kw], or [B, O, I/g, kh, kw]. */
  readonly dense: () => Value
  /** Packed for the direct and the tiled kernels. */
  readonly packed: (direction: Direction, order?: Order) => Value
  /** Transformed for Winograd's. */
  readonly transformed: (direction: Direction, side: TileSide) => Value
  /** What mixtures are made of. */
  readonly mixture?: {
    /** Whether the bases, and what is made of them, are the same in every run. */
    readonly fixed: boolean
    readonly packed: (direction: Direction, order: Order) => Value
    readonly transformed: (direction: Direction, side: TileSide) => Value
    readonly pi: Value
    readonly numBases: number
  }
}

// `count` kernels, packed or transformed; once for all who want the same.
function packedOf(context: Context, shape: ConvShape, w: Value, { direction, order = 'channel' }: Packing, count: number): Value {
  const size = packedSize(shape, direction)
  return context.once(`packed ${direction} ${order} ${shape.attrs.groups}`, w, () =>
    context.result({ dtype: 'float32', shape: [count, size, 4] }, [w], () => packKernel(shape, direction, count, order)),
  )
}

interface Packing {
  readonly direction: Direction
  readonly order?: Order | undefined
}

function transformedOf(context: Context, shape: ConvShape, w: Value, direction: Direction, side: TileSide, count: number): Value {
  const size = transformedSize(shape, direction, side)
  return context.once(`transformed ${direction} ${side}`, w, () =>
    context.result({ dtype: 'float32', shape: [count, size] }, [w], () => transformKernelsKernel(shape, direction, count, side)),
  )
}

function shared(context: Context, shape: ConvShape, w: Value): Weights {
  return {
    dense: () => w,
    packed: (direction, order) => packedOf(context, shape, w, { direction, order }, 1),
    transformed: (direction, side) => transformedOf(context, shape, w, direction, side, 1),
  }
}

// More bases than registers: then an ordinary product.
const maxRegisterBases = 16

function mixed(context: Context, shape: ConvShape, bases: Value, pi: Value): Weights {
  const { dtype, numBases, size } = mixtureOf(shape, bases)
  // Mixing does not look at what the elements mean: they may be packed or transformed already.
  const mix = (of: Value, kernelSize: number): Value => mixedKernels(context, { ...mixtureOf(shape, bases), dtype: of.dtype, size: kernelSize }, of, pi)
  return {
    dense: () => mix(bases, size),
    packed: (direction, order) => {
      const packed = packedSize(shape, direction)
      if (dtype === 'float32' && context.isFixed(bases)) return mix(packedOf(context, shape, bases, { direction, order }, numBases), packed * 4)
      if (numBases > maxRegisterBases) return packedOf(context, shape, mix(bases, size), { direction, order }, shape.batch)
      return context.result({ dtype: 'float32', shape: [shape.batch, packed, 4] }, [bases, pi], () => aggregatePackedKernel(shape, direction, numBases, order))
    },
    mixture: {
      fixed: context.isFixed(bases),
      packed: (direction, order) => packedOf(context, shape, bases, { direction, order }, numBases),
      transformed: (direction, side) => transformedOf(context, shape, bases, direction, side, numBases),
      pi,
      numBases,
    },
    transformed: (direction, side) => mix(transformedOf(context, shape, bases, direction, side, numBases), transformedSize(shape, direction, side)),
  }
}

function mixedKernels(context: Context, mixture: Mixture, bases: Value, pi: Value): Value {
  const { dtype, batch, numBases, size } = mixture
  if (numBases <= maxRegisterBases) return context.result({ dtype, shape: [batch, size] }, [bases, pi], () => aggregateKernel(mixture))
  return product(context, pi, context.view(bases, denseLayout([numBases, size])), batch, numBases, size)
}

function transformedKernels({ transformed, mixture }: Weights, direction: Direction, side: TileSide): TransformedKernels {
  return {
    u: () => transformed(direction, side),
    mixture: mixture && { u: () => mixture.transformed(direction, side), pi: mixture.pi, numBases: mixture.numBases },
  }
}

function chosen(context: Context, pass: Pass, shape: ConvShape): Algorithm {
  const algorithm = algorithmFor(pass, shape, context.preferences)
  const { batch, inChannels, outChannels, inSize, kernelSize, perSample } = shape
  context.notes.add(`${perSample ? 'dynamic convolution' : 'convolution'}, ${pass}, [${[batch, inChannels, ...inSize].join(', ')}] -> ${outChannels} channels, ${kernelSize.join('x')}: ${algorithm}`)
  return algorithm
}

// y = x * w + bias.
function forward(context: Context, shape: ConvShape, x: Value, weights: Weights, bias: { readonly kind: Bias; readonly value?: Value }, type: StaticType): Operand {
  if (sizeOf(type.shape) === 0) return context.tensor(type.dtype, type.shape)
  const rest = bias.value ? [bias.value] : []
  const algorithm = chosen(context, 'forward', shape)
  if (algorithm === 'winograd') {
    const side = sideFor(shape, 'forward', weights.mixture?.fixed)
    return winogradConv(context, shape, { direction: 'forward', side, x, kernels: transformedKernels(weights, 'forward', side) }, type, bias)
  }
  if (algorithm === 'direct') {
    const [rows, columns] = [forwardAxis(shape, 0), forwardAxis(shape, 1)]
    const tile = tileFor(rows, columns, Math.ceil(perGroup(shape)[1] / 4), unrollLimit(shape))
    return context.rooted('conv2d', type, [x, weights.packed('forward'), ...rest], (finish) => convDirectKernel({ shape, direction: 'forward', rows, columns, tile, bias: bias.kind, finish }), true)
  }
  if (algorithm === 'plain') {
    return context.rooted('conv2d', type, [x, weights.dense(), ...rest], (finish) => convPlainKernel(shape, bias.kind, finish), true)
  }
  const { mixture } = weights
  const order = tiledOrder(shape, 'forward')
  const split = tiledSplit(shape, 'forward')
  const numBases = mixture?.fixed && mixesOnLoad(shape, mixture.numBases) ? mixture.numBases : 0
  const operands = mixture && numBases > 0 ? { w: mixture.packed('forward', order), more: [mixture.pi, ...rest] } : { w: weights.packed('forward', order), more: rest }
  return inParts(context, 'conv2d', split, type, [x, operands.w, ...operands.more], (finish) => convTiledKernel(shape, bias.kind, { numBases, split, finish }))
}

function inputGrad(context: Context, shape: ConvShape, dy: Value, weights: Weights, type: StaticType): Operand {
  if (sizeOf(type.shape) === 0) return context.tensor(type.dtype, type.shape)
  const algorithm = chosen(context, 'inputGrad', shape)
  if (algorithm === 'winograd') {
    const side = sideFor(shape, 'backward', weights.mixture?.fixed)
    return winogradConv(context, shape, { direction: 'backward', side, x: dy, kernels: transformedKernels(weights, 'backward', side) }, type, { kind: 'none' })
  }
  if (algorithm === 'plain') return context.rooted('conv2dInputGrad', type, [dy, weights.dense()], (finish) => inputGradPlainKernel(shape, finish), true)
  if (algorithm === 'tiled') {
    const split = tiledSplit(shape, 'backward')
    const w = weights.packed('backward', tiledOrder(shape, 'backward'))
    return inParts(context, 'conv2dInputGrad', split, type, [dy, w], (finish) => inputGradTiledKernel(shape, split, finish))
  }
  const packed = weights.packed('backward')
  const phases = backwardAxes(shape, 0).flatMap((rows) => backwardAxes(shape, 1).map((columns) => ({ rows, columns })))
  const kernelOf = ({ rows, columns }: (typeof phases)[number], finish?: Finish): Kernel => {
    const tile = tileFor(rows, columns, Math.ceil(perGroup(shape)[0] / 4), unrollLimit(shape))
    return convDirectKernel({ shape, direction: 'backward', rows, columns, tile, bias: 'none', finish })
  }
  const [only, ...others] = phases
  if (only && others.length === 0) return context.rooted('conv2dInputGrad', type, [dy, packed], (finish) => kernelOf(only, finish), true)
  const dx = context.tensor(type.dtype, type.shape)
  for (const phase of phases) context.dispatch(kernelOf(phase), dy, packed, dx)
  return dx
}

// dW of the samples [first, first + count), summed or each.
function filterGrad(context: Context, shape: ConvShape, x: Value, dy: Value, samples: { readonly first: number; readonly count: number }, type: StaticType): Value {
  const dw = context.tensor(type.dtype, type.shape)
  if (sizeOf(type.shape) === 0) return dw
  const algorithm = chosen(context, 'filterGrad', shape)
  if (algorithm === 'winograd') {
    winogradFilterGrad(context, shape, x, dy, samples, dw)
    return dw
  }
  const tile = algorithm === 'direct' ? gradTileFor(shape) : undefined
  if (algorithm === 'plain' || (algorithm === 'direct' && !tile)) {
    context.dispatch(filterGradPlainKernel(shape, samples), x, dy, dw)
    return dw
  }
  const split = tile ? directSplit(shape, samples.count, tile) : filterGradSplit(shape, samples.count)
  const kernel = tile ? filterGradDirectKernel(shape, samples, tile, split) : filterGradTiledKernel(shape, samples, split)
  if (split > 1) return context.dense(sumOfParts(context, kernel, split, type, [x, dy]))
  context.dispatch(kernel, x, dy, dw)
  return dw
}

// What a kernel computes: all at once, or as the sum of `split` parts.
function inParts(context: Context, name: string, split: number, type: StaticType, inputs: readonly Value[], kernel: Root['kernel']): Operand {
  return split === 1 ? context.rooted(name, type, inputs, kernel, true) : sumOfParts(context, kernel(), split, type, inputs)
}

// The sum of the parts that a kernel computes, [split, size] in float32.
function sumOfParts(context: Context, kernel: Kernel, split: number, type: StaticType, inputs: readonly Value[]): Operand {
  const parts = context.tensor('float32', [split, sizeOf(type.shape)])
  context.dispatch(kernel, ...inputs, parts)
  return sumOver(context, parts, 0, type)
}

// Few weights make few invocations: then the batch is cut, so that there is something to do for several cores.
function directSplit(shape: ConvShape, samples: number, tile: GradTile): number {
  if (shape.perSample) return 1
  const [ig, og] = perGroup(shape)
  const invocations = shape.attrs.groups * (Math.ceil(og / 4) / tile.quads) * (ig / tile.channels) * Math.ceil(shape.kernelSize[0] / tile.kernelRows)
  return Math.max(1, Math.min(samples, Math.floor(256 / invocations)))
}

function product(context: Context, a: Value, b: Value, rows: number, inner: number, columns: number): Value {
  return context.result({ dtype: a.dtype, shape: [rows, columns] }, [a, b], () =>
    matmulKernel({ target: context.target, dtype: a.dtype, a: a.layout, b: b.layout, shape: [rows, columns], inner }),
  )
}

/** The rules. */
export const convRules: Pick<Rules, ConvName> = {
  conv2d: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [x, w] = [context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    const bias = inputs[2] ? context.dense(inputs[2]) : undefined
    const shape = convShape(context, attrs, x.layout.shape, type.shape, lastTwo(w.layout.shape), type.dtype, false)
    return forward(context, shape, x, shared(context, shape, w), bias ? { kind: 'channel', value: bias } : { kind: 'none' }, type)
  },
  conv2dInputGrad: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [dy, w] = [context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    const shape = convShape(context, attrs, type.shape, dy.layout.shape, lastTwo(w.layout.shape), type.dtype, false)
    return inputGrad(context, shape, dy, shared(context, shape, w), type)
  },
  conv2dFilterGrad: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [x, dy] = [context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    const shape = convShape(context, attrs, x.layout.shape, dy.layout.shape, attrs.kernelSize, type.dtype, false)
    return filterGrad(context, shape, x, dy, { first: 0, count: shape.batch }, type)
  },

  dynamicConv2d: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [x, bases, pi] = [context.dense(need(inputs[0])), context.dense(need(inputs[1])), context.dense(need(inputs[2]))]
    const shape = convShape(context, attrs, x.layout.shape, type.shape, lastTwo(bases.layout.shape), type.dtype, true)
    const w = mixed(context, shape, bases, pi)
    if (!inputs[3]) return forward(context, shape, x, w, { kind: 'none' }, type)
    const bias = product(context, pi, context.dense(inputs[3]), shape.batch, mixtureOf(shape, bases).numBases, shape.outChannels)
    return forward(context, shape, x, w, { kind: 'sample', value: bias }, type)
  },
  dynamicConv2dInputGrad: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [dy, bases, pi] = [context.dense(need(inputs[0])), context.dense(need(inputs[1])), context.dense(need(inputs[2]))]
    const shape = convShape(context, attrs, type.shape, dy.layout.shape, lastTwo(bases.layout.shape), type.dtype, true)
    return inputGrad(context, shape, dy, mixed(context, shape, bases, pi), type)
  },
  dynamicConv2dKernelGrad: (context, attrs, inputs, outputs) => {
    const [basesType, piType] = [need(outputs[0]), need(outputs[1])]
    const [x, dy, bases, pi] = [0, 1, 2, 3].map((i) => context.dense(need(inputs[i])))
    const shape = convShape(context, attrs, need(x).layout.shape, need(dy).layout.shape, attrs.kernelSize, basesType.dtype, true)
    const chunk = attrs.chunk || Math.max(1, Math.floor(context.memoryBudgetBytes / (weightSize(shape) * 4)))
    return kernelGrad(context, shape, { x: need(x), dy: need(dy), bases: need(bases), pi: need(pi) }, chunk, basesType, piType)
  },
}

/**
 * A convolution and the normalisation of its result by given statistics (operands: the convolution's, then gamma, beta, mean and
 * variance), as one convolution with scaled kernels: (w * x + b - mean) s + beta = (s w) * x + (b - mean) s + beta,
 * s = gamma / sqrt(variance + epsilon).
 */
export function normalisedConv(context: Context, { op, attrs }: NodeOf<'conv2d'> | NodeOf<'dynamicConv2d'>, epsilon: number, inputs: readonly Operand[], [output]: readonly StaticType[]): Operand {
  const type = need(output)
  const [gamma, beta, mean, variance] = inputs.slice(-4)
  const [x, ...parameters] = inputs.slice(0, -4)
  const vector = { dtype: type.dtype, shape: [type.shape[1] ?? 0] }
  const { add, sub, mul } = arithmetic(context, vector)
  const s = context.dense(mul(need(gamma), deviation(context, need(variance), epsilon, type)))
  const w = context.dense(need(parameters[0]))
  const { shape } = w.layout
  // The axis of output channels, counted from the end, is the fourth in kernels and bases.
  const scaled = context.dense(arithmetic(context, { dtype: type.dtype, shape }).mul(w, context.view(s, denseLayout([...vector.shape, 1, 1, 1]))))
  const images = context.dense(need(x))
  const of = convShape(context, attrs, images.layout.shape, type.shape, lastTwo(shape), type.dtype, op === 'dynamicConv2d')
  context.notes.add('batch normalisation by given statistics: in the convolution before it')
  if (op === 'conv2d') {
    const bias = parameters[1]
    const shift = bias ? add(mul(sub(bias, need(mean)), s), need(beta)) : sub(need(beta), mul(need(mean), s))
    return forward(context, of, images, shared(context, of, scaled), { kind: 'channel', value: context.dense(shift) }, type)
  }
  const pi = context.dense(need(parameters[1]))
  const shift = context.dense(sub(need(beta), mul(need(mean), s)))
  const kernels = mixed(context, of, scaled, pi)
  const bias = parameters[2]
  if (!bias) return forward(context, of, images, kernels, { kind: 'channel', value: shift }, type)
  const mixture = product(context, pi, context.dense(bias), of.batch, mixtureOf(of, scaled).numBases, of.outChannels)
  const each = arithmetic(context, { dtype: type.dtype, shape: mixture.layout.shape })
  return forward(context, of, images, kernels, { kind: 'sample', value: context.dense(each.add(each.mul(mixture, s), shift)) }, type)
}

function mixtureOf({ target, dtype, batch, ...shape }: ConvShape, bases: Value): Mixture {
  return { target, dtype, batch, numBases: bases.layout.shape[0] ?? 1, size: weightSize({ target, dtype, batch, ...shape }) }
}

// Chunk by chunk: dV of its samples, which is then folded into dBases and dpi. Never more than a chunk of dV exists.
function kernelGrad(
  context: Context,
  shape: ConvShape,
  { x, dy, bases, pi }: { readonly x: Value; readonly dy: Value; readonly bases: Value; readonly pi: Value },
  chunk: number,
  basesType: StaticType,
  piType: StaticType,
): readonly Operand[] {
  const mixture = mixtureOf(shape, bases)
  const { dtype, batch, numBases, size } = mixture
  if (numBases > maxRegisterBases) return manyBases(context, shape, { x, dy, bases, pi }, basesType, piType)
  if (algorithmFor('filterGrad', shape, context.preferences) === 'winograd') {
    chosen(context, 'filterGrad', shape)
    const u = transformedOf(context, shape, bases, 'forward', 2, numBases)
    // Transformed kernels are 16/9 as large.
    return winogradKernelGrad(context, shape, { x, dy, pi, u, numBases, chunk: Math.max(1, Math.floor((chunk * 9) / 16)) }, basesType, piType)
  }
  const parts = contractParts(mixture)
  const dBases = context.tensor('float32', basesType.shape)
  const dPiParts = context.tensor('float32', [batch * numBases, parts])
  for (let start = 0; start < batch; start += chunk) {
    const samples = { first: start, count: Math.min(chunk, batch - start) }
    const dKernels = filterGrad(context, shape, x, dy, samples, { dtype, shape: [samples.count, size] })
    context.dispatch(contractKernel(mixture, { ...samples, add: start > 0 }), dKernels, pi, bases, dBases, dPiParts)
  }
  const dPi = sumOver(context, dPiParts, 1, piType)
  if (dtype === 'float32') return [dBases, dPi]
  return [context.elementwise('cast', converted(dtype), [dBases], dtype, basesType.shape), dPi]
}

function manyBases(
  context: Context,
  shape: ConvShape,
  { x, dy, bases, pi }: { readonly x: Value; readonly dy: Value; readonly bases: Value; readonly pi: Value },
  basesType: StaticType,
  piType: StaticType,
): readonly Operand[] {
  const { dtype, batch, numBases, size } = mixtureOf(shape, bases)
  const dKernels = filterGrad(context, shape, x, dy, { first: 0, count: batch }, { dtype, shape: [batch, size] })
  const transposed = (value: Value, layout: Value['layout']): Value => context.view(value, permuteLayout(layout, [1, 0]))
  const dBases = product(context, transposed(pi, pi.layout), dKernels, numBases, batch, size)
  const dPi = product(context, dKernels, transposed(bases, denseLayout([numBases, size])), batch, size, numBases)
  return [context.view(dBases, denseLayout(basesType.shape)), context.view(dPi, denseLayout(piType.shape))]
}
