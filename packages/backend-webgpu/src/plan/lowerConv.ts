// Convolutions, ordinary and dynamic. A dynamic convolution mixes its kernels once, in one pass over the bases, and is then
// the same dispatch as an ordinary one, whose kernel pointer moves with the sample.

import { type Conv2dAttrs, GraphError, sizeOf, type StaticType } from '@dynconv/core'
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
import { reduceKernel } from '../kernels/reduce.ts'
import { convPlainKernel, filterGradPlainKernel, inputGradPlainKernel } from '../kernels/convPlain.ts'
import { aggregateKernel, contractKernel, contractParts, type Mixture, sumRowsKernel } from '../kernels/dynamic.ts'
import { matmulKernel } from '../kernels/matmul.ts'
import { type TileSide, transformedSize, transformKernelsKernel } from '../kernels/winograd.ts'
import { sideFor } from '../kernels/winogradBlocks.ts'
import { denseLayout, permuteLayout } from '../wgsl/views.ts'
import { type Algorithm, algorithmFor, type Pass } from './choose.ts'
import type { Context } from './context.ts'
import type { Operand } from './fuse.ts'
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
function forward(context: Context, shape: ConvShape, x: Value, weights: Weights, bias: { readonly kind: Bias; readonly value?: Value }, type: StaticType): Value {
  const y = context.tensor(type.dtype, type.shape)
  if (sizeOf(type.shape) === 0) return y
  const rest = bias.value ? [bias.value] : []
  const algorithm = chosen(context, 'forward', shape)
  if (algorithm === 'winograd') {
    const side = sideFor(shape, 'forward', weights.mixture?.fixed)
    winogradConv(context, shape, { direction: 'forward', side, x, kernels: transformedKernels(weights, 'forward', side) }, y, bias)
    return y
  }
  if (algorithm === 'direct') {
    const [rows, columns] = [forwardAxis(shape, 0), forwardAxis(shape, 1)]
    const tile = tileFor(rows, columns, Math.ceil(perGroup(shape)[1] / 4), unrollLimit(shape))
    context.dispatch(convDirectKernel({ shape, direction: 'forward', rows, columns, tile, bias: bias.kind }), x, weights.packed('forward'), y, ...rest)
    return y
  }
  if (algorithm === 'plain') {
    context.dispatch(convPlainKernel(shape, bias.kind), x, weights.dense(), y, ...rest)
    return y
  }
  const { mixture } = weights
  const order = tiledOrder(shape, 'forward')
  const split = tiledSplit(shape, 'forward')
  const numBases = mixture?.fixed && mixesOnLoad(shape, mixture.numBases) ? mixture.numBases : 0
  const operands = mixture && numBases > 0 ? { w: mixture.packed('forward', order), more: [mixture.pi, ...rest] } : { w: weights.packed('forward', order), more: rest }
  inParts(context, split, y, (to) => context.dispatch(convTiledKernel(shape, bias.kind, { numBases, split }), x, operands.w, to, ...operands.more))
  return y
}

function inputGrad(context: Context, shape: ConvShape, dy: Value, weights: Weights, type: StaticType): Value {
  const dx = context.tensor(type.dtype, type.shape)
  if (sizeOf(type.shape) === 0) return dx
  const algorithm = chosen(context, 'inputGrad', shape)
  if (algorithm === 'winograd') {
    const side = sideFor(shape, 'backward', weights.mixture?.fixed)
    winogradConv(context, shape, { direction: 'backward', side, x: dy, kernels: transformedKernels(weights, 'backward', side) }, dx, { kind: 'none' })
    return dx
  }
  if (algorithm === 'plain') {
    context.dispatch(inputGradPlainKernel(shape), dy, weights.dense(), dx)
    return dx
  }
  if (algorithm === 'tiled') {
    const split = tiledSplit(shape, 'backward')
    const w = weights.packed('backward', tiledOrder(shape, 'backward'))
    inParts(context, split, dx, (to) => context.dispatch(inputGradTiledKernel(shape, split), dy, w, to))
    return dx
  }
  const packed = weights.packed('backward')
  for (const rows of backwardAxes(shape, 0)) {
    for (const columns of backwardAxes(shape, 1)) {
      const tile = tileFor(rows, columns, Math.ceil(perGroup(shape)[0] / 4), unrollLimit(shape))
      context.dispatch(convDirectKernel({ shape, direction: 'backward', rows, columns, tile, bias: 'none' }), dy, packed, dx)
    }
  }
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
  inParts(context, split, dw, (to) => context.dispatch(kernel, x, dy, to))
  return dw
}

// A dense result that `dispatch` writes, or whose `split` parts in float32 it writes, [split, size], which are then added up.
function inParts(context: Context, split: number, result: Value, dispatch: (to: Value) => void): void {
  if (split === 1) {
    dispatch(result)
    return
  }
  const size = sizeOf(result.layout.shape)
  const parts = context.tensor('float32', [split, size])
  dispatch(parts)
  const layout = denseLayout([split, size])
  context.dispatch(reduceKernel({ target: context.target, op: 'reduceSum', dtype: 'float32', layout, axes: [0], result: result.dtype }), parts, result)
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
  const { target, dtype, batch, numBases, size } = mixture
  if (numBases > maxRegisterBases) return manyBases(context, shape, { x, dy, bases, pi }, basesType, piType)
  if (algorithmFor('filterGrad', shape, context.preferences) === 'winograd') {
    chosen(context, 'filterGrad', shape)
    const u = transformedOf(context, shape, bases, 'forward', 2, numBases)
    // Transformed kernels are 16/9 as large.
    return winogradKernelGrad(context, shape, { x, dy, pi, u, numBases, chunk: Math.max(1, Math.floor((chunk * 9) / 16)) }, basesType, piType)
  }
  const parts = contractParts(mixture)
  const dBases = context.tensor('float32', basesType.shape)
  const dPiParts = context.tensor('float32', [batch, numBases, parts])
  for (let start = 0; start < batch; start += chunk) {
    const samples = { first: start, count: Math.min(chunk, batch - start) }
    const dKernels = filterGrad(context, shape, x, dy, samples, { dtype, shape: [samples.count, size] })
    context.dispatch(contractKernel(mixture, { ...samples, add: start > 0 }), dKernels, pi, bases, dBases, dPiParts)
  }
  const dPi = context.result(piType, [dPiParts], () => sumRowsKernel(target, dtype, batch * numBases, parts))
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
