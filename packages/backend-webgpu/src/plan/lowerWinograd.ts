// Convolutions by Winograd's minimal filtering (kernels/winograd.ts): transforms around 16 matrix products.

import type { StaticType } from '@dynconv/core'
import type { Direction } from '../kernels/convDirect.ts'
import type { Bias, ConvShape } from '../kernels/convShape.ts'
import { contractKernel, contractParts } from '../kernels/dynamic.ts'
import { type PackedProduct, packedProductKernel, packedSplit } from '../kernels/registerGemm.ts'
import { maxSharedQuads, mixedProductsKernel, mixedSplit, packedTiledKernel, packedTiledSplit } from '../kernels/tiledGemm.ts'
import {
  type Images,
  kernelGradientKernel,
  pointsOf,
  tileCounts,
  type TileGrid,
  tileGrid,
  type TileSide,
  transformedSize,
  transformImagesKernel,
  winogradChannels,
  winogradOutputKernel,
} from '../kernels/winograd.ts'
import { blockedOutputKernel, blockedPatchesKernel, blockedProductsKernel, blocksFor, patchesSize, productsOf } from '../kernels/winogradBlocks.ts'
import { sumOver } from './arithmetic.ts'
import type { Context } from './context.ts'
import type { Operand } from './fuse.ts'
import type { Value } from './program.ts'

// From how many invocations on a software adapter's threads share the work evenly.
const enoughInvocations = 256

function product(context: Context, a: Value, b: Value, what: Omit<PackedProduct, 'target'>): Value {
  const { target } = context
  const columns = Math.ceil(what.columns / 4) * 4
  const c = context.tensor('float32', [what.split, what.batches, what.rows, columns])
  const kernel = (target.kind === 'gpu' ? packedTiledKernel : packedProductKernel)({ target, ...what })
  context.dispatch(kernel, a, b, c)
  return c
}

function transformed(context: Context, grid: TileGrid, images: Images, x: Value, fastest: 'tile' | 'channel'): Value {
  const { tiles, arrays } = tileCounts(grid)
  const line = fastest === 'tile' ? [images.channels, Math.ceil(tiles / 4) * 4] : [tiles, images.channels]
  const v = context.tensor('float32', [arrays, pointsOf(grid.side), ...line])
  context.dispatch(transformImagesKernel(grid, images, fastest), x, v)
  return v
}

/** The transformed kernels of a direction and a side. */
export interface TransformedKernels {
  /** U: of all samples, or of each. */
  readonly u: () => Value
  /** What the samples' are mixed of. */
  readonly mixture?: { readonly u: () => Value; readonly pi: Value; readonly numBases: number } | undefined
}

/** y = x * w + bias, or dx from dy. */
export function winogradConv(
  context: Context,
  shape: ConvShape,
  { direction, side, x, kernels }: { readonly direction: Direction; readonly side: TileSide; readonly x: Value; readonly kernels: TransformedKernels },
  type: StaticType,
  bias: { readonly kind: Bias; readonly value?: Value },
): Operand {
  const [summed, computed] = winogradChannels(shape, direction)
  const [from, to] = direction === 'forward' ? [shape.inSize, shape.outSize] : [shape.outSize, shape.inSize]
  const [top, , left] = shape.attrs.padding
  const padding = direction === 'forward' ? ([top, left] as const) : ([2 - top, 2 - left] as const)
  const grid = tileGrid(shape, to, side)
  const { tiles, arrays } = tileCounts(grid)
  const images = { channels: summed, size: from, padding }
  const rest = bias.value ? [bias.value] : []
  if (context.target.kind === 'software') {
    const blocks = blocksFor(productsOf(shape, direction, side, kernels.mixture?.numBases))
    const mixture = blocks.samples === undefined ? undefined : kernels.mixture
    const u = mixture ? mixture.u() : kernels.u()
    const v = context.tensor('float32', [patchesSize(grid, summed, blocks), 4])
    context.dispatch(blockedPatchesKernel(grid, images, blocks), x, v)
    const p = context.tensor('float32', [arrays, pointsOf(side), tiles, computed])
    context.dispatch(blockedProductsKernel(grid, summed, computed, blocks, mixture?.numBases), u, v, p, ...(mixture ? [mixture.pi] : []))
    return context.rooted('winograd', type, [p, ...rest], (finish) => blockedOutputKernel(grid, computed, to, bias.kind, finish), true)
  }
  const v = transformed(context, grid, images, x, 'tile')
  const points = pointsOf(side)
  const size = { label: 'winograd products', batches: points * arrays, rows: computed, columns: tiles, inner: summed }
  const { value: p, split } = cardProducts(context, kernels, v, size, { points, samples: arrays })
  return context.rooted('winograd', type, [p, ...rest], (finish) => winogradOutputKernel(grid, computed, to, bias.kind, split, finish), true)
}

// The most vec4s of a sample's tiles with which kernels are mixed as they are loaded: what one workgroup takes.
const maxMixedQuads = 16

// The products on a card. A sample with few tiles has less to multiply than kernels to mix: these are then mixed as they are
// loaded, once for all samples where a workgroup can take them all.
function cardProducts(
  context: Context,
  { u, mixture }: TransformedKernels,
  v: Value,
  size: Omit<PackedProduct, 'target' | 'split'>,
  { points, samples }: { readonly points: number; readonly samples: number },
): { readonly value: Value; readonly split: number } {
  const { target } = context
  const quads = Math.ceil(size.columns / 4)
  const result = (split: number): Value => context.tensor('float32', [split, size.batches, size.rows, quads * 4])
  const mixed = mixture && mixture.numBases <= 8 && mixture.pi.dtype === 'float32' ? { numBases: mixture.numBases, points, samples } : undefined
  if (mixture && mixed && quads <= maxSharedQuads && samples > 2) {
    const split = mixedSplit(size, { points, samples })
    const value = result(split)
    context.dispatch(mixedProductsKernel({ target, ...size, split }, mixed), mixture.u(), v, value, mixture.pi)
    return { value, split }
  }
  const split = packedTiledSplit(size)
  const value = result(split)
  if (mixture && mixed && quads <= maxMixedQuads) context.dispatch(packedTiledKernel({ target, ...size, split }, mixed), mixture.u(), v, value, mixture.pi)
  else context.dispatch(packedTiledKernel({ target, ...size, split }), u(), v, value)
  return { value, split }
}

/** Samples, from `first` on. */
export interface Samples {
  readonly first: number
  readonly count: number
}

// Transformed gradients of the kernel, [part, count or 1, 16, I, O].
function transformedGradient(context: Context, shape: ConvShape, x: Value, dy: Value, { first, count }: Samples): { readonly u: Value; readonly split: number } {
  const [top, , left] = shape.attrs.padding
  const grid = tileGrid({ ...shape, batch: count }, shape.outSize, 2)
  const { tiles, arrays } = tileCounts(grid)
  const patches = transformed(context, grid, { channels: shape.inChannels, size: shape.inSize, first, padding: [top, left] }, x, 'channel')
  const tilesOfDy = transformed(context, grid, { channels: shape.outChannels, size: shape.outSize, first }, dy, 'channel')
  const size = { rows: shape.inChannels, columns: shape.outChannels, inner: tiles, batches: 16 * arrays }
  const split = shape.perSample ? 1 : context.target.kind === 'gpu' ? packedTiledSplit(size) : packedSplit(size, enoughInvocations)
  return { u: product(context, patches, tilesOfDy, { label: 'winograd gradient products', ...size, split }), split }
}

/** dW of these samples, summed or each. */
export function winogradFilterGrad(context: Context, shape: ConvShape, x: Value, dy: Value, samples: Samples, dw: Value): void {
  const { u, split } = transformedGradient(context, shape, x, dy, samples)
  context.dispatch(kernelGradientKernel(shape, shape.perSample ? samples.count : 1, split), u, dw)
}

/** A dynamic convolution's gradient with respect to bases and pi. */
export interface MixedGradient {
  readonly x: Value
  readonly dy: Value
  readonly pi: Value
  /** The transformed bases, [K, 16, I, O]. */
  readonly u: Value
  readonly numBases: number
  /** How many samples' gradients may be there at a time. */
  readonly chunk: number
}

/**
 * dBases and dpi, taken apart in the transformed domain: dW = G^T dU G makes <dW, W> = <dU, G W G^T>, and the sum over samples
 * of pi dU is transformed back once a basis.
 */
export function winogradKernelGrad(context: Context, shape: ConvShape, { x, dy, pi, u, numBases, chunk }: MixedGradient, bases: StaticType, piType: StaticType): readonly Operand[] {
  const { target, dtype, batch } = shape
  const size = transformedSize(shape, 'forward', 2)
  const mixture = { target, dtype, batch, numBases, size }
  const parts = contractParts(mixture)
  const sums = context.tensor('float32', [numBases, size])
  const dPiParts = context.tensor('float32', [batch * numBases, parts])
  for (let first = 0; first < batch; first += chunk) {
    const samples = { first, count: Math.min(chunk, batch - first) }
    const gradient = transformedGradient(context, shape, x, dy, samples)
    context.dispatch(contractKernel(mixture, { ...samples, add: first > 0 }), gradient.u, pi, u, sums, dPiParts)
  }
  const dBases = context.tensor(bases.dtype, bases.shape)
  context.dispatch(kernelGradientKernel(shape, numBases, 1), sums, dBases)
  return [dBases, sumOver(context, dPiParts, 1, piType)]
}
