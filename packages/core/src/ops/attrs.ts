// The attributes of every op: the table that types the rest of the library (`OpDef<K>`, a backend's kernel table).
// Images are NCHW, kernels OIHW, everywhere; a backend may lay values out as it likes.

import type { DType } from '../tensor/dtype.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { Shape } from '../tensor/shape.ts'

/** An op without attributes. */
export type NoAttrs = Readonly<Record<never, never>>

/** Height, width. */
export type Size2d = readonly [height: number, width: number]

/** Padding of each side, in pixels. */
export type Padding2d = readonly [top: number, bottom: number, left: number, right: number]

/** How a kernel walks over an image. */
export interface Conv2dAttrs {
  readonly stride: Size2d
  readonly padding: Padding2d
  readonly dilation: Size2d
  readonly groups: number
}

/** How a window walks over an image. */
export interface Pool2dAttrs {
  readonly kernelSize: Size2d
  readonly stride: Size2d
  readonly padding: Padding2d
}

/** How a dynamic convolution is computed (see dynamicConv.ts). */
export type DynamicConvForm = 'auto' | 'kernels' | 'outputs'

/** A dynamic convolution: a Conv2d, its form, and how many samples its kernel gradient holds at a time (0: chosen by the plan). */
export interface DynamicConv2dAttrs extends Conv2dAttrs {
  readonly form: DynamicConvForm
}

/** How the kernel gradient of a dynamic convolution streams: `chunk` samples' kernels in memory at a time (0: all). */
export interface DynamicConv2dKernelGradAttrs extends DynamicConv2dAttrs {
  readonly kernelSize: Size2d
  readonly chunk: number
}

/** Comparisons. */
export type Comparison = 'equal' | 'notEqual' | 'less' | 'lessEqual' | 'greater' | 'greaterEqual'

/** Interpolations of `resize`; both take pixel centres at half integers. */
export type ResizeMode = 'nearest' | 'bilinear'

/** Attributes by op. The inputs of each op stand in its definition (ops/*.ts). */
export interface OpAttrs {
  // Sources
  readonly constant: { readonly value: HostTensor }
  readonly iota: { readonly shape: Shape; readonly axis: number; readonly dtype: DType }
  // Elementwise, inputs broadcast
  readonly add: NoAttrs
  readonly sub: NoAttrs
  readonly mul: NoAttrs
  readonly div: NoAttrs
  readonly min: NoAttrs
  readonly max: NoAttrs
  readonly pow: NoAttrs
  readonly compare: { readonly kind: Comparison }
  readonly select: NoAttrs
  // Elementwise, one input
  readonly neg: NoAttrs
  readonly abs: NoAttrs
  readonly exp: NoAttrs
  readonly log: NoAttrs
  readonly sqrt: NoAttrs
  readonly rsqrt: NoAttrs
  readonly tanh: NoAttrs
  readonly sigmoid: NoAttrs
  readonly relu: NoAttrs
  readonly clamp: { readonly min: number; readonly max: number }
  readonly cast: { readonly dtype: DType }
  readonly stopGradient: NoAttrs
  readonly customGradient: { readonly rule: number; readonly outputs: number }
  // Shape
  readonly reshape: { readonly shape: Shape }
  readonly transpose: { readonly permutation: readonly number[] }
  readonly broadcastTo: { readonly shape: Shape }
  readonly slice: { readonly starts: readonly number[]; readonly sizes: readonly number[]; readonly steps: readonly number[] }
  readonly pad: { readonly before: readonly number[]; readonly after: readonly number[]; readonly value: number }
  readonly concat: { readonly axis: number }
  // Indexing
  readonly gather: { readonly axis: number }
  readonly scatterAdd: { readonly axis: number; readonly size: number }
  readonly oneHot: { readonly depth: number; readonly dtype: DType }
  // Reductions
  readonly reduceSum: { readonly axes: readonly number[]; readonly keepDims: boolean }
  readonly reduceMax: { readonly axes: readonly number[]; readonly keepDims: boolean }
  readonly argMax: { readonly axis: number }
  readonly softmax: { readonly axis: number }
  readonly logSoftmax: { readonly axis: number }
  // Products
  readonly matmul: { readonly transposeA: boolean; readonly transposeB: boolean }
  readonly conv2d: Conv2dAttrs
  readonly conv2dInputGrad: Conv2dAttrs & { readonly inputSize: Size2d }
  readonly conv2dFilterGrad: Conv2dAttrs & { readonly kernelSize: Size2d }
  // Pools
  readonly maxPool2d: Pool2dAttrs
  readonly maxPool2dGrad: Pool2dAttrs
  readonly avgPool2d: Pool2dAttrs & { readonly countIncludePad: boolean }
  readonly avgPool2dGrad: Pool2dAttrs & { readonly countIncludePad: boolean; readonly inputSize: Size2d }
  // Norms
  readonly batchNorm: { readonly epsilon: number }
  readonly batchNormGrad: { readonly epsilon: number }
  readonly batchNormInference: { readonly epsilon: number }
  readonly groupNorm: { readonly groups: number; readonly epsilon: number }
  // Resampling
  readonly resize: { readonly size: Size2d; readonly mode: ResizeMode }
  readonly resizeGrad: { readonly inputSize: Size2d; readonly mode: ResizeMode }
  // Dynamic convolution
  readonly dynamicConv2d: DynamicConv2dAttrs
  readonly dynamicConv2dInputGrad: DynamicConv2dAttrs & { readonly inputSize: Size2d }
  readonly dynamicConv2dKernelGrad: DynamicConv2dKernelGradAttrs
}

/** The name of an op. */
export type OpName = keyof OpAttrs
