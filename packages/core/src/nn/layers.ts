// Ordinary layers. Names, shapes and defaults are PyTorch's.

import { ShapeError, ValueError } from '../backend/errors.ts'
import type { Padding2d, Size2d } from '../ops/attrs.ts'
import { checkWindow } from '../ops/checks2d.ts'
import { type Conv2dOptions, conv2d } from '../ops/conv.ts'
import { batchNorm, batchNormInference, groupNorm } from '../ops/norm.ts'
import { toPadding2d, toSize2d } from '../ops/options2d.ts'
import { avgPool2d, maxPool2d } from '../ops/pool.ts'
import { known } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { defaultUniform, filled } from './init.ts'
import { Module } from './module.ts'
import { Buffer, Parameter } from './parameter.ts'

/** Throws unless `value` is a positive integer. */
export function checkCount(who: string, name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw new ValueError(`${who}: ${name} must be a positive integer, got ${value}`)
}

/** Options of a convolution's geometry: a number stands for both directions (padding: for all four sides). */
export interface Conv2dLayerOptions {
  readonly inChannels: number
  readonly outChannels: number
  readonly kernelSize: number | Size2d
  readonly stride?: number | Size2d
  readonly padding?: number | readonly [height: number, width: number] | Padding2d | 'same' | 'valid'
  readonly dilation?: number | Size2d
  readonly groups?: number
  /** Whether there is a bias; true unless given. */
  readonly bias?: boolean
}

/** The parts of `Conv2dLayerOptions` that the op takes. */
export function convGeometry(options: Conv2dLayerOptions): Omit<Conv2dOptions, 'bias'> {
  const { stride, padding, dilation, groups } = options
  return {
    ...(stride === undefined ? {} : { stride }),
    ...(padding === undefined ? {} : { padding }),
    ...(dilation === undefined ? {} : { dilation }),
    ...(groups === undefined ? {} : { groups }),
  }
}

/** Checks all of a convolution's geometry, and gives the shape of one kernel, [O, I/g, kh, kw]. */
export function kernelShape(who: string, options: Conv2dLayerOptions): readonly [number, number, number, number] {
  const { inChannels, outChannels, groups = 1 } = options
  const kernelSize = toSize2d(who, 'kernelSize', options.kernelSize)
  const [stride, dilation] = [toSize2d(who, 'stride', options.stride ?? 1), toSize2d(who, 'dilation', options.dilation ?? 1)]
  checkWindow(who, { kernelSize, stride, dilation, padding: toPadding2d(who, options.padding ?? 0, { kernelSize, stride, dilation }) })
  for (const [name, n] of Object.entries({ inChannels, outChannels, groups })) checkCount(who, name, n)
  if (inChannels % groups) throw new ShapeError(`${who}: groups=${groups} must divide inChannels=${inChannels}`)
  if (outChannels % groups) throw new ShapeError(`${who}: groups=${groups} must divide outChannels=${outChannels}`)
  return [outChannels, inChannels / groups, ...kernelSize]
}

/** Convolution: [N, C_in, H, W] -> [N, C_out, OH, OW]. `weight` [O, I/g, kh, kw], `bias` [O]. */
export class Conv2d extends Module {
  readonly weight: Parameter
  readonly bias: Parameter | undefined
  readonly options: Conv2dLayerOptions

  /** @throws ShapeError when groups do not divide the channels; ShapeError, ValueError for a geometry that cannot be */
  constructor(options: Conv2dLayerOptions) {
    super()
    this.options = options
    const shape = kernelShape('Conv2d', options)
    const fanIn = shape[1] * shape[2] * shape[3]
    this.weight = new Parameter(defaultUniform(shape, fanIn))
    this.bias = options.bias === false ? undefined : new Parameter(defaultUniform([options.outChannels], fanIn))
  }

  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight.value, { ...convGeometry(this.options), ...(this.bias ? { bias: this.bias.value } : {}) })
  }
}

/** y = x W^T + b: [.., in] -> [.., out]. `weight` [out, in], `bias` [out]. */
export class Linear extends Module {
  readonly weight: Parameter
  readonly bias: Parameter | undefined

  constructor(options: { readonly inFeatures: number; readonly outFeatures: number; readonly bias?: boolean }) {
    super()
    const { inFeatures, outFeatures } = options
    checkCount('Linear', 'inFeatures', inFeatures)
    checkCount('Linear', 'outFeatures', outFeatures)
    this.weight = new Parameter(defaultUniform([outFeatures, inFeatures], inFeatures))
    this.bias = options.bias === false ? undefined : new Parameter(defaultUniform([outFeatures], inFeatures))
  }

  override forward(x: Tensor): Tensor {
    const y = x.matmul(this.weight.value, { transposeB: true })
    return this.bias ? y.add(this.bias.value) : y
  }
}

/**
 * Batch normalisation over [N, C, H, W] (Ioffe and Szegedy, 2015): batch statistics in training, running ones in
 * inference. As in PyTorch: running = (1 - momentum) running + momentum batch, with the unbiased batch variance.
 */
export class BatchNorm2d extends Module {
  readonly weight: Parameter
  readonly bias: Parameter
  readonly running_mean: Buffer
  readonly running_var: Buffer
  readonly momentum: number
  readonly epsilon: number

  constructor(channels: number, options: { readonly momentum?: number; readonly epsilon?: number } = {}) {
    super()
    checkCount('BatchNorm2d', 'channels', channels)
    this.weight = new Parameter(filled([channels], 1))
    this.bias = new Parameter(filled([channels], 0))
    this.running_mean = new Buffer(filled([channels], 0))
    this.running_var = new Buffer(filled([channels], 1))
    this.momentum = options.momentum ?? 0.1
    this.epsilon = options.epsilon ?? 1e-5
  }

  override forward(x: Tensor): Tensor {
    const [gamma, beta] = [this.weight.value, this.bias.value]
    if (!this.training) return batchNormInference(x, gamma, beta, this.running_mean.value, this.running_var.value, { epsilon: this.epsilon })
    const [y, mean, variance] = batchNorm(x, gamma, beta, { epsilon: this.epsilon })
    const count = [0, 2, 3].reduce((n, axis) => n * known('BatchNorm2d', 'the batch and image size in training', x.shape[axis]), 1)
    if (count < 2) throw new ShapeError(`BatchNorm2d: training needs more than one value per channel, got [${x.shape.join(', ')}]; use a larger batch, or eval()`)
    const unbiased = variance.mul(count / (count - 1))
    this.running_mean.value = this.running_mean.value.mul(1 - this.momentum).add(mean.mul(this.momentum))
    this.running_var.value = this.running_var.value.mul(1 - this.momentum).add(unbiased.mul(this.momentum))
    return y
  }
}

/** Group normalisation over [N, C, ...] (Wu and He, 2018). */
export class GroupNorm extends Module {
  readonly weight: Parameter
  readonly bias: Parameter
  readonly groups: number
  readonly epsilon: number

  constructor(groups: number, channels: number, options: { readonly epsilon?: number } = {}) {
    super()
    checkCount('GroupNorm', 'groups', groups)
    checkCount('GroupNorm', 'channels', channels)
    if (channels % groups) throw new ShapeError(`GroupNorm: groups=${groups} must divide channels=${channels}`)
    this.groups = groups
    this.epsilon = options.epsilon ?? 1e-5
    this.weight = new Parameter(filled([channels], 1))
    this.bias = new Parameter(filled([channels], 0))
  }

  override forward(x: Tensor): Tensor {
    return groupNorm(x, this.weight.value, this.bias.value, { groups: this.groups, epsilon: this.epsilon })
  }
}

/** A layer without state, from a function. @example new Lambda((x) => x.clamp(0, 6)) */
export class Lambda extends Module {
  readonly #fn: (x: Tensor) => Tensor

  constructor(fn: (x: Tensor) => Tensor) {
    super()
    this.#fn = fn
  }

  override forward(x: Tensor): Tensor {
    return this.#fn(x)
  }
}

/** max(x, 0) */
export class ReLU extends Module {
  override forward(x: Tensor): Tensor {
    return x.relu()
  }
}

/** min(max(x, 0), 6) */
export class ReLU6 extends Module {
  override forward(x: Tensor): Tensor {
    return x.clamp(0, 6)
  }
}

/** 1 / (1 + e^-x) */
export class Sigmoid extends Module {
  override forward(x: Tensor): Tensor {
    return x.sigmoid()
  }
}

/** tanh x */
export class Tanh extends Module {
  override forward(x: Tensor): Tensor {
    return x.tanh()
  }
}

/** Options of a pooling layer. */
export interface PoolOptions {
  readonly kernelSize: number | Size2d
  /** The kernel's size unless given. */
  readonly stride?: number | Size2d
  readonly padding?: number | readonly [height: number, width: number] | Padding2d
}

/** The largest of each window: [N, C, H, W] -> [N, C, OH, OW]. */
export class MaxPool2d extends Module {
  readonly options: PoolOptions

  constructor(options: PoolOptions) {
    super()
    this.options = options
  }

  override forward(x: Tensor): Tensor {
    return maxPool2d(x, this.options)
  }
}

/** The mean of each window: [N, C, H, W] -> [N, C, OH, OW]. */
export class AvgPool2d extends Module {
  readonly options: PoolOptions & { readonly countIncludePad?: boolean }

  constructor(options: PoolOptions & { readonly countIncludePad?: boolean }) {
    super()
    this.options = options
  }

  override forward(x: Tensor): Tensor {
    return avgPool2d(x, this.options)
  }
}

/** The mean of each channel: [N, C, H, W] -> [N, C]. */
export class GlobalAvgPool2d extends Module {
  override forward(x: Tensor): Tensor {
    return x.mean([2, 3])
  }
}

/** All axes after the first become one. */
export class Flatten extends Module {
  override forward(x: Tensor): Tensor {
    return x.flatten(1)
  }
}

/** x unchanged. */
export class Identity extends Module {
  override forward(x: Tensor): Tensor {
    return x
  }
}

/** Modules one after the other; parts are named by their position. */
export class Sequential extends Module {
  readonly [index: number]: Module
  readonly length: number

  constructor(...modules: readonly Module[]) {
    super()
    modules.forEach((module, i) => Object.defineProperty(this, i, { value: module, enumerable: true }))
    this.length = modules.length
  }

  override forward(x: Tensor): Tensor {
    return Array.from({ length: this.length }, (_, i) => this[i]).reduce((y, module) => (module ? module.forward(y) : y), x)
  }
}
