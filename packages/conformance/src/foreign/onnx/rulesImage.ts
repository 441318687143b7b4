// Convolutions, pools, normalisations and resampling. Images [N, C, L] are taken as [N, C, 1, L]; volumes are not ours.

import { avgPool2d, batchNorm, batchNormInference, conv2d, conv2dInputGrad, groupNorm, maxPool2d, type Padding2d, resize, type Size2d, type StaticShape, type Tensor } from '@dynconv/core'
import type { NodeView, Result, Rule } from './node.ts'
import { fromFront } from './rulesShape.ts'

// One or two spatial axes, as two.
function pair(n: NodeView, what: string, values: readonly number[], first: number): Size2d {
  const [a, b] = values
  if (values.length === 2 && a !== undefined && b !== undefined) return [a, b]
  return values.length === 1 && a !== undefined ? [first, a] : n.refuse(`${what} of ${values.length} axes`)
}

function asImages(n: NodeView, x: Tensor): Tensor {
  if (x.rank === 4) return x
  return x.rank === 3 ? x.reshape([...x.shape.slice(0, 2), 1, ...x.shape.slice(2)]) : n.refuse(`${x.rank - 2} spatial axes`)
}

function asBefore(y: Tensor, rank: number): Tensor {
  return rank === 3 ? y.reshape([...y.shape.slice(0, 2), ...y.shape.slice(3)]) : y
}

interface Window {
  readonly kernelSize: Size2d
  readonly stride: Size2d
  readonly dilation: Size2d
  readonly padding: Padding2d
}

// How a window of `kernel` walks over pixels of `size`. auto_pad SAME: as many windows as ceil(size / stride), the odd
// pixel of the padding at the end (UPPER) or at the beginning (LOWER).
function windowOf(n: NodeView, size: Size2d, kernel: readonly number[]): Window {
  const ones = kernel.map(() => 1)
  const kernelSize = pair(n, 'kernel_shape', kernel, 1)
  const stride = pair(n, 'strides', n.ints('strides') ?? ones, 1)
  const dilation = pair(n, 'dilations', n.ints('dilations') ?? ones, 1)
  const autoPad = n.text('auto_pad', 'NOTSET')
  const pads = n.ints('pads') ?? kernel.flatMap(() => [0, 0])
  if (autoPad === 'VALID') return { kernelSize, stride, dilation, padding: [0, 0, 0, 0] }
  if (autoPad === 'NOTSET') {
    const before = pair(n, 'pads', pads.slice(0, kernel.length), 0)
    const after = pair(n, 'pads', pads.slice(kernel.length), 0)
    return { kernelSize, stride, dilation, padding: [before[0], after[0], before[1], after[1]] }
  }
  const sides = (axis: 0 | 1): readonly [number, number] => {
    const windows = Math.ceil(size[axis] / stride[axis])
    const total = Math.max(0, (windows - 1) * stride[axis] + dilation[axis] * (kernelSize[axis] - 1) + 1 - size[axis])
    const half = Math.floor(total / 2)
    return autoPad === 'SAME_UPPER' ? [half, total - half] : [total - half, half]
  }
  return { kernelSize, stride, dilation, padding: [...sides(0), ...sides(1)] }
}

function pixels(n: NodeView): Size2d {
  return pair(n, 'spatial axes', n.shape(0).slice(2), 1)
}

function conv(n: NodeView): Tensor {
  const x = n.x(0)
  const kernel = n.ints('kernel_shape') ?? n.shape(1).slice(2)
  const { stride, dilation, padding } = windowOf(n, pixels(n), kernel)
  const y = conv2d(asImages(n, x), asImages(n, n.x(1)), { stride, dilation, padding, groups: n.int('group', 1), bias: n.maybe(2) })
  return asBefore(y, x.rank)
}

// The gradient of a convolution by its images. Where an output shape is asked for, the padding is what then is left.
function convTranspose(n: NodeView): Tensor {
  const x = n.x(0)
  const size = pixels(n)
  const kernel = n.ints('kernel_shape') ?? n.shape(1).slice(2)
  const zeros = kernel.map(() => 0)
  const extra = pair(n, 'output_padding', n.ints('output_padding') ?? zeros, 0)
  const autoPad = n.text('auto_pad', 'NOTSET')
  const shape = n.ints('output_shape')
  const groups = n.int('group', 1)
  const walk = autoPad === 'NOTSET' ? windowOf(n, size, kernel) : { ...windowOf(n, size, kernel), padding: [0, 0, 0, 0] as const }
  const span = (axis: 0 | 1): number => walk.stride[axis] * (size[axis] - 1) + extra[axis] + walk.dilation[axis] * (walk.kernelSize[axis] - 1) + 1
  const wanted: Size2d | undefined = shape ? pair(n, 'output_shape', shape, 1) : autoPad.startsWith('SAME') ? [size[0] * walk.stride[0], size[1] * walk.stride[1]] : undefined
  const sides = (axis: 0 | 1): readonly [number, number] => {
    if (!wanted) return [walk.padding[2 * axis] ?? 0, walk.padding[2 * axis + 1] ?? 0]
    const total = span(axis) - wanted[axis]
    // More than the windows reach: zeros that no window of the convolution reads.
    if (total < 0) return [0, 0]
    const half = Math.floor(total / 2)
    return autoPad === 'SAME_UPPER' ? [half, total - half] : [total - half, half]
  }
  const padding: Padding2d = [...sides(0), ...sides(1)]
  const inputSize: Size2d = wanted ?? [span(0) - padding[0] - padding[1], span(1) - padding[2] - padding[3]]
  const attrs = { stride: walk.stride, dilation: walk.dilation, padding, groups, inputSize }
  const y = conv2dInputGrad(asImages(n, x), asImages(n, n.x(1)), attrs)
  const bias = n.maybe(2)
  return asBefore(bias ? y.add(bias.reshape([1, -1, 1, 1])) : y, x.rank)
}

// ceil_mode counts a last window that is cut off by the border, as further padding at the end does where padding is no
// pixel of the result.
function ceiled(n: NodeView, w: Window, paddingIsNothing: boolean): Window {
  if (n.int('ceil_mode', 0) === 0) return w
  if (!paddingIsNothing) return n.refuse('ceil_mode=1 with count_include_pad=1')
  const size = pixels(n)
  const more = (axis: 0 | 1): number => {
    const covered = size[axis] + (w.padding[2 * axis] ?? 0) + (w.padding[2 * axis + 1] ?? 0) - w.dilation[axis] * (w.kernelSize[axis] - 1) - 1
    return Math.ceil(covered / w.stride[axis]) * w.stride[axis] - covered
  }
  const [top, bottom, left, right] = w.padding
  return { ...w, padding: [top, bottom + more(0), left, right + more(1)] }
}

function pool(n: NodeView, paddingIsNothing: boolean, apply: (x: Tensor, window: Window) => Tensor): Tensor {
  const x = n.x(0)
  const window = ceiled(n, windowOf(n, pixels(n), n.ints('kernel_shape') ?? []), paddingIsNothing)
  if (window.dilation.some((d) => d !== 1)) return n.refuse(`dilations=${window.dilation.join(',')}`)
  return asBefore(apply(asImages(n, x), window), x.rank)
}

const axesAfter = (x: Tensor, from: number): readonly number[] => Array.from({ length: x.rank - from }, (_, i) => from + i)

function batchNormalization(n: NodeView): readonly Tensor[] {
  const [x, gamma, beta, mean, variance] = [n.x(0), n.x(1), n.x(2), n.x(3), n.x(4)]
  const epsilon = n.float('epsilon', 1e-5)
  const momentum = n.float('momentum', 0.9)
  const training = n.opset >= 14 ? n.int('training_mode', 0) !== 0 : n.opset < 7 && n.int('is_test', 0) === 0
  if (n.opset < 9 && n.int('spatial', 1) === 0) return n.refuse('spatial=0')
  if (n.opset < 7) n.ints('consumed_inputs')
  if (!training) return [batchNormInference(x, gamma, beta, mean, variance, { epsilon })]
  const [y, batchMean, batchVariance] = batchNorm(x, gamma, beta, { epsilon })
  const blend = (running: Tensor, current: Tensor): Tensor => running.mul(momentum).add(current.mul(1 - momentum))
  return [y, blend(mean, batchMean), blend(variance, batchVariance)]
}

// Over all axes from `axis` on; the scale and the shift have those axes.
function layerNormalization(n: NodeView): readonly Tensor[] {
  const x = n.x(0)
  const axes = axesAfter(x, fromFront(n.int('axis', -1), x.rank))
  const mean = x.mean(axes, true)
  const centred = x.sub(mean)
  const inverse = centred.square().mean(axes, true).add(n.float('epsilon', 1e-5)).rsqrt()
  n.int('stash_type', 1)
  const scaled = centred.mul(inverse).mul(n.x(1))
  const bias = n.maybe(2)
  return [bias ? scaled.add(bias) : scaled, mean, inverse]
}

// What ONNX reads along an axis, by `coordinate_transformation_mode` and `nearest_mode`, if that is one of ours.
const coordinates: Readonly<Record<string, (j: number, scale: number, from: number, to: number) => number>> = {
  half_pixel: (j, scale) => (j + 0.5) / scale - 0.5,
  pytorch_half_pixel: (j, scale, _from, to) => (to > 1 ? (j + 0.5) / scale - 0.5 : 0),
  asymmetric: (j, scale) => j / scale,
  align_corners: (j, _scale, from, to) => (to > 1 ? (j * (from - 1)) / (to - 1) : 0),
  tf_half_pixel_for_nn: (j, scale) => (j + 0.5) / scale,
}
const roundings: Readonly<Record<string, (x: number) => number>> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
}

interface Resampling {
  readonly transform: string
  readonly rounding: string
  readonly mode: string
}

// Ours is the same where it reads the same pixels: nearest floor(j from / to), bilinear at (j + 1/2) from / to - 1/2.
function resampled(n: NodeView, x: Tensor, to: StaticShape, scales: readonly number[], { transform, rounding, mode }: Resampling): Tensor {
  const shape = n.shape(0)
  const coordinate = coordinates[transform]
  const round = roundings[rounding]
  if (!coordinate) return n.refuse(`coordinate_transformation_mode=${transform}`)
  if (mode !== 'nearest' && mode !== 'linear') return n.refuse(`mode=${mode}`)
  if (shape.length !== 4 || to[0] !== shape[0] || to[1] !== shape[1]) return n.refuse('sizes of other axes than two spatial ones')
  const isOurs = shape.every((from, axis) => {
    const [size = 1, scale = 1] = [to[axis], scales[axis]]
    return Array.from({ length: size }, (_, j) => j).every((j) => {
      const at = coordinate(j, scale, from, size)
      if (mode === 'linear') return Math.abs(at - (((j + 0.5) * from) / size - 0.5)) < 1e-9
      return Math.min(Math.max(round?.(at) ?? Number.NaN, 0), from - 1) === Math.floor((j * from) / size)
    })
  })
  if (!isOurs) return n.refuse(`mode=${mode}, ${transform}${mode === 'nearest' ? `, ${rounding}` : ''}: it reads other pixels`)
  return resize(x, { size: pair(n, 'sizes', to.slice(2), 1), mode: mode === 'linear' ? 'bilinear' : 'nearest' })
}

function resizeRule(n: NodeView): Tensor {
  const shape = n.shape(0)
  const latest = n.opset >= 11
  const given = latest ? n.known(3) : undefined
  const scales = n.known(latest ? 2 : 1)
  const sizes = given?.length ? given : shape.map((d, i) => Math.floor(d * (scales?.[i] ?? 1)))
  const [exclude] = [n.int('exclude_outside', 0), n.float('extrapolation_value', 0), n.float('cubic_coeff_a', -0.75)]
  if (exclude) return n.refuse('exclude_outside=1')
  return resampled(n, n.x(0), sizes, given?.length ? sizes.map((d, i) => d / (shape[i] ?? 1)) : (scales ?? []), {
    mode: n.text('mode', 'nearest'),
    transform: n.text('coordinate_transformation_mode', latest ? 'half_pixel' : 'asymmetric'),
    rounding: n.text('nearest_mode', latest ? 'round_prefer_floor' : 'floor'),
  })
}

function upsample(n: NodeView): Tensor {
  const shape = n.shape(0)
  const scales = (n.opset >= 9 ? n.known(1) : n.floats('scales')) ?? [1, 1, n.float('height_scale', 1), n.float('width_scale', 1)]
  const mode = n.text('mode', 'nearest')
  return resampled(n, n.x(0), shape.map((d, i) => Math.floor(d * (scales[i] ?? 1))), scales, { mode, transform: 'asymmetric', rounding: 'floor' })
}

/** The rules. */
export const imageRules: Readonly<Record<string, Rule>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: (n): Result => {
    n.int('storage_order', 0)
    return pool(n, true, (x, { kernelSize, stride, padding }) => maxPool2d(x, { kernelSize, stride, padding }))
  },
  AveragePool: (n) => {
    const countIncludePad = n.int('count_include_pad', 0) !== 0
    return pool(n, !countIncludePad, (x, { kernelSize, stride, padding }) => avgPool2d(x, { kernelSize, stride, padding, countIncludePad }))
  },
  GlobalAveragePool: (n) => n.x(0).mean(axesAfter(n.x(0), 2), true),
  GlobalMaxPool: (n) => n.x(0).maxOver(axesAfter(n.x(0), 2), true),
  BatchNormalization: batchNormalization,
  InstanceNormalization: (n) => groupNorm(n.x(0), n.x(1), n.x(2), { groups: n.shape(0)[1] ?? 1, epsilon: n.float('epsilon', 1e-5) }),
  LayerNormalization: layerNormalization,
  Resize: resizeRule,
  Upsample: upsample,
}
