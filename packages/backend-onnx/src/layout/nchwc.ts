// ONNX Runtime's blocked convolution, used directly. Its CPU kernels are fastest on images [N, C/b, H, W, b] and kernels
// OIHWBiBo; its optimiser goes there only for constant weights, but the ops are registered under a domain of their own and
// take a filter that was computed in the same run. The ops check little: channels that do not fill the blocks give wrong
// numbers in silence, so every caller goes through the guards of `support.ts`. The ONNX shapes stay logical, NCHW and OIHW.

import { hostTensor } from '@dynconv/core'
import type { Attrs, ModelBuilder } from '../model.ts'

/** What the engine offers. */
export interface Nchwc {
  /** How many channels lie together: 16 with AVX-512, else 8. */
  readonly block: number
}

/** The domain of the blocked ops. */
export const nchwcDomain = 'com.microsoft.nchwc'
/** The domain of the engine's other own ops. */
export const microsoftDomain = 'com.microsoft'

const inDomain = { domain: nchwcDomain } as const

/** How a blocked convolution walks; padding is [top, left, bottom, right], as ONNX orders it. */
export interface BlockedConv {
  readonly kernelSize: readonly [number, number]
  readonly stride: readonly [number, number]
  readonly pads: readonly [number, number, number, number]
  readonly dilation: readonly [number, number]
  readonly groups: number
}

/** What a result passes through: relu, or a clamp to [min, max]. */
export type Activation = 'relu' | { readonly min: number; readonly max: number }

/** What a blocked convolution adds to its products, and what the sum passes through. */
export interface Epilogue {
  /** [O]: the name of a vector. */
  readonly bias?: string | undefined
  /** As the result, blocked. */
  readonly sum?: string | undefined
  readonly activation?: Activation | undefined
}

/** Plain [N, C, H, W] to blocked. */
export function reorderInput(model: ModelBuilder, x: string): string {
  return model.op('ReorderInput', [x], {}, inDomain)
}

/** Blocked to plain [N, C, H, W], or with `channelsLast` to [N, H, W, C]. */
export function reorderOutput(model: ModelBuilder, x: string, channels: number, channelsLast: boolean = false): string {
  return model.op('ReorderOutput', [x], { channels, channels_last: channelsLast ? 1 : undefined }, inDomain)
}

/** A convolution of blocked images `x` (or plain ones with fewer channels than a block) by `weight` in kernel layout. */
export function conv(model: ModelBuilder, x: string, weight: string, walk: BlockedConv, extra: Epilogue = {}): string {
  const attrs = {
    group: walk.groups,
    kernel_shape: walk.kernelSize,
    strides: walk.stride,
    pads: walk.pads,
    dilations: walk.dilation,
    ...activationAttrs(extra.activation),
  }
  return model.op('Conv', [x, weight, extra.bias ?? '', extra.sum ?? ''], attrs, inDomain)
}

function activationAttrs(activation: Activation | undefined): Attrs {
  if (activation === undefined) return {}
  if (activation === 'relu') return { activation: 'Relu' }
  return { activation: 'Clip', activation_params: { floats: [activation.min, activation.max] } }
}

/** `x` through an activation, as an op of its own. */
export function activate(model: ModelBuilder, x: string, activation: Activation): string {
  return activation === 'relu' ? model.op('Relu', [x]) : model.op('Clip', [x, model.float(activation.min), model.float(activation.max)])
}

/**
 * x * scale + shift per channel of a blocked [N, C, H, W], plus `sum`, through an activation: a depthwise 1x1 convolution, twice as
 * fast as a broadcast multiplication. `scale` and `shift` are [C].
 */
export function affine(model: ModelBuilder, x: string, channels: number, scale: string, extra: Epilogue = {}): string {
  return conv(model, x, model.reshape(scale, [channels, 1, 1, 1]), { ...pointwise, groups: channels }, extra)
}

/** The sum and the activation of an epilogue, where no convolution before could take them in: of a blocked [N, C, H, W]. */
export function finish(model: ModelBuilder, y: string, channels: number, { sum, activation }: Pick<Epilogue, 'sum' | 'activation'>): string {
  if (sum !== undefined && activation !== undefined) return affine(model, y, channels, filled(model, 1, [channels]), { sum, activation })
  if (sum !== undefined) return model.op('Add', [y, sum])
  return activation === undefined ? y : activate(model, y, activation)
}

/** A depthwise kernel [b, 1, kh, kw] in kernel layout, [kh, kw, b], from its taps row by row: the same for every channel. */
export function tapKernel(model: ModelBuilder, size: readonly [number, number], taps: readonly number[], block: number): string {
  return model.constant(hostTensor('float32', [block, 1, ...size], Float32Array.from(taps.flatMap((t) => new Array<number>(block).fill(t)))))
}

/** A 1x1 convolution with stride 1 and no padding. */
export const pointwise: Omit<BlockedConv, 'groups'> = { kernelSize: [1, 1], stride: [1, 1], pads: [0, 0, 0, 0], dilation: [1, 1] }

/** The mean of each channel of each sample: blocked [N, C, H, W] to [N, C, 1, 1], which is plain and blocked at once. */
export function globalAverage(model: ModelBuilder, x: string): string {
  return model.op('GlobalAveragePool', [x], {}, inDomain)
}

/** A float32 initialiser of `shape` filled with `value`. */
export function filled(model: ModelBuilder, value: number, shape: readonly number[]): string {
  return model.constant(hostTensor('float32', shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value)))
}

/** An int32 initialiser: indices of a Gather. */
export function indices(model: ModelBuilder, values: Int32Array): string {
  return model.constant(hostTensor('int32', [values.length], values))
}
