// The sizes of a convolution, as its kernels need them. x [N, I, H, W], weight [O, I/g, kh, kw], y [N, O, P, Q]; for dynamic
// convolutions a weight per sample, [N, O, I/g, kh, kw].

import type { Conv2dAttrs, DType } from '@dynconv/core'
import { type Binding, loaded, reads, type Target } from '../wgsl/kernel.ts'

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

/** The sizes by their usual letters. */
export interface Letters {
  /** I/g, O/g */
  readonly ig: number
  readonly og: number
  readonly H: number
  readonly W: number
  readonly P: number
  readonly Q: number
  readonly kh: number
  readonly kw: number
  readonly sh: number
  readonly sw: number
  readonly dh: number
  readonly dw: number
  readonly top: number
  readonly left: number
}

/** The sizes of a convolution by their usual letters. */
export function letters(shape: ConvShape): Letters {
  const [ig, og] = perGroup(shape)
  const { inSize, outSize, kernelSize, attrs } = shape
  const [[H, W], [P, Q], [kh, kw], [sh, sw], [dh, dw], [top, , left]] = [inSize, outSize, kernelSize, attrs.stride, attrs.dilation, attrs.padding]
  return { ig, og, H, W, P, Q, kh, kw, sh, sw, dh, dw, top, left }
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

/** The buffer of a bias, where there is one. */
export function biasBinding(bias: Bias, dtype: DType): readonly Binding[] {
  return bias === 'none' ? [] : reads(dtype, 'bias')
}

/** WGSL of the bias of channel `o` of sample `n`. */
export function biasAt({ dtype, target, outChannels }: ConvShape, bias: Bias, n: string, o: string): string {
  if (bias === 'none') return '0.0'
  return loaded(bias === 'channel' ? `bias[${o}]` : `bias[${n} * ${outChannels} + ${o}]`, dtype, target)
}
