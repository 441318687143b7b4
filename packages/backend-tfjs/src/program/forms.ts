// How each dynamic convolution and each of its gradients is computed: a table from measurements on TensorFlow 2.15 with oneDNN
// on two cores (batches of 1, 8 and 64; 16 to 512 channels; 7 to 56 pixels). All forms give the same result. On a graphics
// card a loop costs a launch for each sample, so everything goes in one there.

import type { Size2d } from '@dynconv/core'

/** A dynamic convolution of one group without dilation. */
export interface DynamicLayer {
  readonly batch: number
  readonly inChannels: number
  readonly outChannels: number
  readonly inputSize: Size2d
  readonly outputSize: Size2d
  readonly stride: Size2d
  /** Whether the gradient of x is a forward convolution with kernels turned round. */
  readonly flips: boolean
}

/**
 * - loop: a convolution for each sample.
 * - grouped: the samples side by side as channels, [1, H, W, B C], in one convolution with B groups.
 * - columns: every pixel's neighbourhood as a row, one product of matrices for each sample.
 */
export type ForwardForm = 'loop' | 'grouped' | 'columns'

/**
 * - loop: a gradient kernel for each sample.
 * - flipped: a grouped forward convolution of dY with kernels turned round.
 * - columns: dY times each kernel, the rows added up where they were read.
 */
export type InputGradForm = 'loop' | 'flipped' | 'columns'

/**
 * - loop: a gradient kernel for each sample.
 * - rows: columns of x shifted along the width only, dY shifted along the height.
 * - columns: neighbourhoods of x times dY.
 */
export type KernelGradForm = 'loop' | 'rows' | 'columns'

/** A choice for all three. */
export interface Forms {
  readonly forward: ForwardForm
  readonly inputGrad: InputGradForm
  readonly kernelGrad: KernelGradForm
}

/** The forms for a layer. */
export function chooseForms(layer: DynamicLayer, device: 'cpu' | 'gpu'): Forms {
  const strided = layer.stride[0] !== 1 || layer.stride[1] !== 1
  if (device === 'gpu') return { forward: 'grouped', inputGrad: strided ? 'loop' : 'columns', kernelGrad: 'columns' }
  const narrow = Math.min(layer.inChannels, layer.outChannels) < 64
  // The side of a square of as many pixels.
  const side = Math.sqrt(layer.outputSize[0] * layer.outputSize[1])
  return {
    forward: forwardForm(layer, narrow, strided, side),
    inputGrad: inputGradForm(layer, narrow, strided, side),
    kernelGrad: kernelGradForm(layer, narrow, strided, side),
  }
}

function forwardForm({ batch, inChannels }: DynamicLayer, narrow: boolean, strided: boolean, side: number): ForwardForm {
  if (batch === 1) return 'loop'
  if (narrow) return strided || side > 8 ? 'grouped' : 'columns'
  return !strided && side <= 8 && (inChannels <= 64 || inChannels >= 512) ? 'columns' : 'loop'
}

function inputGradForm({ batch, flips }: DynamicLayer, narrow: boolean, strided: boolean, side: number): InputGradForm {
  if (strided || batch === 1) return 'loop'
  if (side <= 8) return 'columns'
  return narrow && flips ? 'flipped' : 'loop'
}

function kernelGradForm({ batch }: DynamicLayer, narrow: boolean, strided: boolean, side: number): KernelGradForm {
  if (strided) return side <= 8 || narrow ? 'columns' : 'loop'
  if (side <= 8) return 'columns'
  if (narrow) return 'rows'
  return side <= 16 || batch <= 16 ? 'columns' : 'loop'
}
