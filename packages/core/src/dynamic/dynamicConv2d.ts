// Dynamic convolution as a layer (DY-Conv: Chen et al., CVPR 2020; with ratio 0 and sigmoid routing: CondConv).
//
//   y_b = (sum_k pi_bk W_k) conv x_b + sum_k pi_bk c_k        pi = routing(x)

import { ValueError } from '../backend/errors.ts'
import { checkCount, type Conv2dLayerOptions, convGeometry, kernelShape } from '../nn/layers.ts'
import { defaultUniform } from '../nn/init.ts'
import { Module } from '../nn/module.ts'
import { Parameter } from '../nn/parameter.ts'
import type { DynamicConvForm } from '../ops/attrs.ts'
import { dynamicConv2d } from '../ops/dynamicConv.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { Routing, type RoutingKind, type RoutingNorm } from './routing.ts'

/** Options of a dynamic convolution. */
export interface DynamicConv2dOptions extends Conv2dLayerOptions {
  /** K, how many basis kernels are mixed; 4 unless given. */
  readonly numBases?: number
  /** Hidden width of the routing over inChannels; 0.25 unless given; 0: a single layer. */
  readonly ratio?: number
  /** softmax unless given. */
  readonly routing?: RoutingKind
  /** The normalisation inside the routing; none unless given. */
  readonly routingNorm?: RoutingNorm
  /** The routing's temperature at the start; 1 unless given. */
  readonly temperature?: number
  /** How it is computed; 'auto' (the cheaper one here) unless given. */
  readonly form?: DynamicConvForm
}

/**
 * A convolution whose kernel is mixed per sample from K bases: [B, I, H, W] -> [B, O, OH, OW].
 * `bases` [K, O, I/g, kh, kw], `bias` [K, O], `routing.*` (see `Routing`).
 *
 * @example new DynamicConv2d({ inChannels: 64, outChannels: 64, kernelSize: 3, padding: 1, numBases: 4 })
 */
export class DynamicConv2d extends Module {
  readonly bases: Parameter
  readonly bias: Parameter | undefined
  readonly routing: Routing
  readonly options: DynamicConv2dOptions

  /** @throws ShapeError when groups do not divide the channels; ShapeError, ValueError for options out of range */
  constructor(options: DynamicConv2dOptions) {
    super()
    this.options = options
    const { inChannels, outChannels, numBases = 4, form = 'auto' } = options
    const shape = kernelShape('DynamicConv2d', options)
    checkCount('DynamicConv2d', 'numBases', numBases)
    if (!forms.includes(form)) throw new ValueError(`DynamicConv2d: form must be ${forms.join(', ')}, got ${String(form)}`)
    const fanIn = shape[1] * shape[2] * shape[3]
    this.bases = new Parameter(defaultUniform([numBases, ...shape], fanIn))
    this.bias = options.bias === false ? undefined : new Parameter(defaultUniform([numBases, outChannels], fanIn))
    const { ratio, routing, routingNorm, temperature } = options
    this.routing = new Routing({
      inChannels,
      numBases,
      ...(ratio === undefined ? {} : { ratio }),
      ...(routing === undefined ? {} : { kind: routing }),
      ...(routingNorm === undefined ? {} : { norm: routingNorm }),
      ...(temperature === undefined ? {} : { temperature }),
    })
  }

  override forward(x: Tensor): Tensor {
    return this.mix(x, this.routing.forward(x))
  }

  /** The convolution with a mixture pi [B, K] from elsewhere: a routing shared by a block, say. */
  mix(x: Tensor, pi: Tensor): Tensor {
    return dynamicConv2d(x, this.bases.value, pi, {
      ...convGeometry(this.options),
      ...(this.bias ? { bias: this.bias.value } : {}),
      form: this.options.form ?? 'auto',
    })
  }
}

const forms: readonly DynamicConvForm[] = ['auto', 'kernels', 'outputs']
