// Which form each dynamic convolution and each of its gradients takes: candidates from a table, the likeliest first. The table
// is from measurements on TensorFlow 2.15 with oneDNN on two cores, with AVX2 and with AVX-512 (batches of 1, 8 and 64; 16 to
// 512 channels; 7 to 56 pixels); where the two differ, or a size decides, there are several candidates, and probe.node.ts
// tries them. All forms give the same result. On a graphics card a loop costs a launch for each sample, so everything goes in
// one there; that is reasoning, until it is measured.

import type { DynamicConvLayer, Padding2d } from '@dynconv/core'

/** A dynamic convolution of one group without dilation. */
export type DynamicLayer = Pick<DynamicConvLayer, 'batch' | 'numBases' | 'inChannels' | 'outChannels' | 'kernelSize' | 'inputSize' | 'outputSize' | 'stride' | 'padding'>

/**
 * - loop: a convolution for each sample.
 * - grouped: samples side by side as channels, in one convolution with a group for each.
 * - columns: every pixel's neighbourhood as a row, one product of matrices for each sample.
 * - taps: the same tap by tap, each with its own part of the kernels.
 */
export type ForwardForm = 'loop' | 'grouped' | 'columns' | 'taps'

/**
 * - loop: a gradient kernel for each sample.
 * - grouped: samples side by side as channels, in one gradient with a group for each; not on TensorFlow's own kernels.
 * - flipped: a grouped forward convolution of dY with kernels turned round.
 * - turned: neighbourhoods of dY as rows, times kernels turned round.
 * - columns: dY times each kernel, the rows added up where they were read.
 */
export type InputGradForm = 'loop' | 'grouped' | 'flipped' | 'turned' | 'columns'

/**
 * - loop: a gradient kernel for each sample.
 * - grouped: samples side by side as channels, in one gradient with a group for each; not on TensorFlow's own kernels.
 * - rows: columns of x shifted along the width only, dY shifted along the height.
 * - columns: neighbourhoods of x times dY.
 * - turned: neighbourhoods of dY times x; the gradient of the images in form turned has made them already.
 */
export type KernelGradForm = 'loop' | 'grouped' | 'rows' | 'columns' | 'turned'

/** The forms of each of the three. */
export interface FormNames {
  readonly forward: ForwardForm
  readonly inputGrad: InputGradForm
  readonly kernelGrad: KernelGradForm
}

/** What is computed in a form. */
export type FormKind = keyof FormNames

/** The kinds. */
export const formKinds: readonly FormKind[] = ['forward', 'inputGrad', 'kernelGrad']

/** A form. */
export interface Form<F extends string = string> {
  readonly name: F
  /** How many samples stand side by side in a grouped or flipped form; all unless given. */
  readonly together?: number
}

/**
 * Whose kernels compute: cuDNN's on a graphics card, oneDNN's on the processor, or TensorFlow's own there, which have no
 * gradients of convolutions in groups.
 */
export type Device = 'gpu' | 'onednn' | 'cpu'

/** A choice, with what to say of it after its name. */
export interface Choice<F extends string = string> {
  readonly form: Form<F>
  readonly why: string
}

/** Chooses. */
export type Forms = { readonly [K in FormKind]: (layer: DynamicLayer) => Choice<FormNames[K]> }

/** The forms among which one is the best for a layer. */
export type Candidates = { readonly [K in FormKind]: readonly Form<FormNames[K]>[] }

/** The first of each list of candidates. */
export function tableForms(device: Device): Forms {
  const first = <K extends FormKind>(kind: K): Forms[K] => ((layer) => ({ form: candidates(layer, device)[kind][0] ?? { name: 'loop' }, why: '' })) as Forms[K]
  return { forward: first('forward'), inputGrad: first('inputGrad'), kernelGrad: first('kernelGrad') }
}

/** What is worth trying, the likeliest first. */
export function candidates(layer: DynamicLayer, device: Device): Candidates {
  const { batch, inChannels, outChannels, outputSize, stride } = layer
  const strided = stride[0] !== 1 || stride[1] !== 1
  const flips = flippedPadding(layer).every((n) => n >= 0)
  const together = device === 'gpu' ? batch : sideBySideSamples(batch, Math.max(inChannels, outChannels))
  // The side of a square of as many pixels.
  const side = Math.sqrt(outputSize[0] * outputSize[1])
  const wide = Math.min(inChannels, outChannels) >= 64
  const list = <F extends string>(names: readonly F[], without: readonly F[]): readonly Form<F>[] =>
    names.filter((name) => !without.includes(name)).map((name) => (name === 'grouped' || name === 'flipped' ? { name, together } : { name }))
  const row = table(device, batch, wide, strided, side)
  const alone = together === 1
  const ungrouped = alone ? (['grouped'] as const) : []
  const unturned = flips && !strided ? [] : (['turned'] as const)
  const ungroupedGrads = alone || device === 'cpu' ? (['grouped'] as const) : []
  return {
    forward: list(row.forward, [...ungrouped, ...(strided ? (['taps'] as const) : [])]),
    inputGrad: list(row.inputGrad, [...ungroupedGrads, ...unturned, ...(flips && !alone ? [] : (['flipped'] as const)), ...(strided ? (['columns'] as const) : [])]),
    kernelGrad: list(row.kernelGrad, [...ungroupedGrads, ...unturned, ...(strided ? (['rows'] as const) : [])]),
  }
}

type Row = { readonly [K in FormKind]: readonly FormNames[K][] }

function table(device: Device, batch: number, wide: boolean, strided: boolean, side: number): Row {
  if (device === 'gpu') return { forward: ['grouped', 'columns'], inputGrad: ['columns', 'loop', 'grouped', 'flipped'], kernelGrad: ['columns', 'grouped'] }
  const small = side <= 8
  const middle = side <= 16
  if (batch === 1) return { forward: small ? ['taps', 'columns', 'loop'] : ['loop'], inputGrad: ['loop', 'columns'], kernelGrad: ['columns', 'loop'] }
  if (!wide) {
    return {
      forward: small ? ['grouped', 'columns', 'loop'] : ['grouped', 'loop'],
      inputGrad: device === 'cpu' ? ['flipped', 'loop'] : ['grouped', 'loop'],
      kernelGrad: strided ? ['grouped', 'columns', 'loop'] : middle ? ['grouped', 'rows', 'columns'] : ['grouped', 'loop', 'rows', 'columns'],
    }
  }
  return {
    forward: small ? ['taps', 'columns', 'loop', 'grouped'] : middle ? ['taps', 'loop', 'grouped'] : ['loop', 'grouped'],
    inputGrad: small && !strided ? ['turned', 'columns', 'flipped', 'loop'] : ['loop', 'grouped', 'flipped'],
    kernelGrad: small ? ['turned', 'columns', 'rows', 'grouped', 'loop'] : middle || batch <= 16 ? ['columns', 'rows', 'grouped', 'loop'] : ['loop', 'grouped', 'rows', 'columns'],
  }
}

/**
 * The padding of the convolution that `flipped` is. With dz the gradient dy with stride - 1 zeros behind each of its P rows,
 * dx[h] = sum over r of dz[h + top - r] W[r]: with W turned round kh - 1 - top rows before dz, and as many behind it as make H
 * rows of dx.
 */
export function flippedPadding({ kernelSize, inputSize, outputSize, stride, padding: [top, , left] }: DynamicLayer): Padding2d {
  const [height, width] = kernelSize
  return [height - 1 - top, inputSize[0] - outputSize[0] * stride[0] + top, width - 1 - left, inputSize[1] - outputSize[1] * stride[1] + left]
}

/** How many samples stand side by side: with more channels than 512 the lines of a pixel push each other out of the cache. */
function sideBySideSamples(batch: number, channels: number): number {
  return divisorUpTo(batch, Math.max(1, Math.min(16, Math.floor(512 / channels))))
}

/** The largest divisor of n that is at most `limit`. */
export function divisorUpTo(n: number, limit: number): number {
  for (let d = Math.min(n, limit); d > 1; d--) if (n % d === 0) return d
  return 1
}
