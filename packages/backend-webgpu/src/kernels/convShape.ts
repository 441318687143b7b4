// The sizes of a convolution, as its kernels need them. x [N, I, H, W], weight [O, I/g, kh, kw], y [N, O, P, Q]; for dynamic
// convolutions a weight per sample, [N, O, I/g, kh, kw].

import type { Conv2dAttrs, DType } from '@dynconv/core'
import type { Target } from '../wgsl/kernel.ts'

/** A convolution, or a gradient of it. */
export interface ConvShape {
  readonly target: Target
  readonly dtype: DType
  readonly batch: number
  readonly inChannels: number
  readonly outChannels: number
  readonly inSize: readonly [height: number, width: number]
  readonly outSize: readonly [height: number, width: number]
  readonly kernelSize: readonly [height: number, width: number]
  readonly attrs: Conv2dAttrs
  /** Whether each sample has a weight of its own. */
  readonly perSample: boolean
}

/** I/g and O/g. */
export function perGroup({ inChannels, outChannels, attrs }: ConvShape): readonly [inPerGroup: number, outPerGroup: number] {
  return [inChannels / attrs.groups, outChannels / attrs.groups]
}

/** Elements of one weight. */
export function weightSize(shape: ConvShape): number {
  return shape.outChannels * perGroup(shape)[0] * shape.kernelSize[0] * shape.kernelSize[1]
}

/** Multiply-adds of the whole. */
export function convMacs(shape: ConvShape): number {
  return shape.batch * weightSize(shape) * shape.outSize[0] * shape.outSize[1]
}

/** A bias for each channel, or for each sample and channel. */
export type Bias = 'none' | 'channel' | 'sample'
