// The two equal forms of a dynamic convolution and of its gradients in ordinary ops (dynamicConv.ts defines them), for
// backends without kernels of their own, for the planner to weigh, and for derivatives of any order.
//
// Groups. In form kernels channel b I + c belongs to group floor((b I + c) / (I/g)) = b g + floor(c / (I/g)), and output
// b O + o to b g + floor(o / (O/g)): sample b's groups, in order, as they should. In form outputs a group must hold its
// output channels of every base together, so the K O channels are ordered group-major: (group, k, o in the group). The
// bases [K, O, ...] = [K, g, O/g, ...] are transposed to [g, K, O/g, ...], and outputs and gradients are split likewise.

import { type Dim, known } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { DynamicConv2dAttrs, DynamicConv2dKernelGradAttrs, Size2d } from './attrs.ts'
import { conv2d, conv2dFilterGrad, conv2dInputGrad, pixels } from './conv.ts'

/**
 * Whether form outputs is taken. 'auto' is what no plan has decided: kernels, except where that is impossible, with an
 * unknown batch; nor can an empty batch have B g groups.
 */
export function isOutputs({ form }: DynamicConv2dAttrs, batch: Dim | undefined): boolean {
  return form === 'outputs' || batch === 0 || (form === 'auto' && typeof batch === 'string')
}

/** y [B, O, P, Q], without the bias. */
export function mixedConv(attrs: DynamicConv2dAttrs, x: Tensor, bases: Tensor, pi: Tensor): Tensor {
  return isOutputs(attrs, x.shape[0]) ? convByOutputs(attrs, x, bases, pi) : convByKernels(attrs, x, bases, pi)
}

/** dx [B, I, ...inputSize]. */
export function mixedInputGrad(attrs: DynamicConv2dAttrs & { readonly inputSize: Size2d }, dy: Tensor, bases: Tensor, pi: Tensor): Tensor {
  const split = groupMajor(bases, attrs.groups)
  if (isOutputs(attrs, dy.shape[0])) return conv2dInputGrad(split.weigh(dy, pi), split.weight(), attrs)
  const batch = known('dynamicConv2dInputGrad', batchOfKernels, dy.shape[0])
  const dx = conv2dInputGrad(sideBySide(dy), aggregate(bases, pi), { ...attrs, groups: batch * attrs.groups })
  return dx.reshape([batch, split.inPerGroup * attrs.groups, ...attrs.inputSize])
}

/** dBases [K, O, I/g, kh, kw] and dPi [B, K]. */
export function mixedKernelGrad(attrs: DynamicConv2dKernelGradAttrs, x: Tensor, dy: Tensor, bases: Tensor, pi: Tensor): readonly Tensor[] {
  return isOutputs(attrs, x.shape[0]) ? kernelGradByOutputs(attrs, x, dy, bases, pi) : kernelGradByKernels(attrs, x, dy, bases, pi)
}

// Form kernels

const batchOfKernels = "the batch (in form 'kernels')"

/** V as the weight of one convolution over all samples: [B O, I/g, kh, kw]. */
function aggregate(bases: Tensor, pi: Tensor): Tensor {
  const [count = 0, channels = 0, ...rest] = bases.shape
  const batch = known('dynamicConv2d', batchOfKernels, pi.shape[0])
  const kernels = pi.matmul(bases.reshape([count, -1]))
  return kernels.reshape([batch * known('dynamicConv2d', 'outChannels', channels), ...rest])
}

/** [B, C, H, W] as [1, B C, H, W]. */
function sideBySide(images: Tensor): Tensor {
  const [batch, channels, height = 0, width = 0] = images.shape
  const total = known('dynamicConv2d', batchOfKernels, batch) * known('dynamicConv2d', 'channels', channels)
  return images.reshape([1, total, height, width])
}

function convByKernels(attrs: DynamicConv2dAttrs, x: Tensor, bases: Tensor, pi: Tensor): Tensor {
  const batch = known('dynamicConv2d', batchOfKernels, x.shape[0])
  const y = conv2d(sideBySide(x), aggregate(bases, pi), { ...attrs, groups: batch * attrs.groups })
  const [, , height = 0, width = 0] = y.shape
  return y.reshape([batch, bases.shape[1] ?? 0, height, width])
}

// Streams over the batch: only `chunk` samples' dV live at a time, since each adds its part to dBases at once.
function kernelGradByKernels(attrs: DynamicConv2dKernelGradAttrs, x: Tensor, dy: Tensor, bases: Tensor, pi: Tensor): readonly Tensor[] {
  const batch = known('dynamicConv2dKernelGrad', batchOfKernels, x.shape[0])
  const rows = bases.reshape([bases.shape[0] ?? 0, -1])
  const chunk = attrs.chunk === 0 ? batch : Math.min(attrs.chunk, batch)
  const dPis: Tensor[] = []
  let dRows: Tensor | undefined
  for (let start = 0; start < batch; start += chunk) {
    const count = Math.min(chunk, batch - start)
    const [xs, dys, pis] = count === batch ? [x, dy, pi] : [x.narrow(0, start, count), dy.narrow(0, start, count), pi.narrow(0, start, count)]
    const dKernels = conv2dFilterGrad(sideBySide(xs), sideBySide(dys), { ...attrs, groups: count * attrs.groups }).reshape([count, rows.shape[1] ?? 0])
    const part = pis.matmul(dKernels, { transposeA: true })
    dRows = dRows ? dRows.add(part) : part
    dPis.push(dKernels.matmul(rows, { transposeB: true }))
  }
  const [first] = dPis
  if (!dRows || !first) throw new RangeError('dynamicConv2dKernelGrad: an empty batch has no chunks')
  return [dRows.reshape(bases.shape), dPis.length === 1 ? first : only(x.graph.emit('concat', { axis: 0 }, dPis))]
}

// Form outputs

// K bases in the order of one convolution, and back. Ranks stay at 4 or less, as engines like best.
interface GroupMajor {
  readonly inPerGroup: number
  /** The bases as the weight of one convolution: [g K O/g, I/g, kh, kw]. */
  weight(): Tensor
  /** The inverse: a gradient of that weight as one of the bases, [K, O, I/g, kh, kw]. */
  unsplit(weight: Tensor): Tensor
  /** [pi_bk dY_b]_k in the order of the weight's outputs: [B, g K O/g, P, Q]. */
  weigh(dy: Tensor, pi: Tensor): Tensor
  /** The result of the convolution as [B, g, K, O/g * P * Q]. */
  byBase(y: Tensor): Tensor
}

function groupMajor(bases: Tensor, groups: number): GroupMajor {
  const [count = 0, outChannels = 0, inPerGroup = 0, height = 0, width = 0] = bases.shape.map((d) => known('dynamicConv2d', 'each size of bases', d))
  const share = outChannels / groups
  const kernels = share * inPerGroup * height * width
  return {
    inPerGroup,
    weight: () => {
      const split = groups === 1 ? bases : bases.reshape([count, groups, kernels]).transpose([1, 0, 2])
      return split.reshape([groups * count * share, inPerGroup, height, width])
    },
    unsplit: (weight) => {
      const split = groups === 1 ? weight : weight.reshape([groups, count, kernels]).transpose([1, 0, 2])
      return split.reshape(bases.shape)
    },
    weigh: (dy, pi) => {
      const [batch = 0, , p = 0, q = 0] = dy.shape
      const weighed = dy.reshape([batch, groups, 1, share * pixelsOf(dy)]).mul(pi.reshape([batch, 1, count, 1]))
      return weighed.reshape([batch, groups * count * share, p, q])
    },
    byBase: (y) => y.reshape([y.shape[0] ?? 0, groups, count, share * pixelsOf(y)]),
  }
}

function pixelsOf(images: Tensor): number {
  const [height, width] = pixels(images)
  return height * width
}

// y[b, group, :] = sum_k pi[b, k] Y[b, group, k, :], a product [1, K] x [K, O/g * P * Q] for each sample and group.
function convByOutputs(attrs: DynamicConv2dAttrs, x: Tensor, bases: Tensor, pi: Tensor): Tensor {
  const split = groupMajor(bases, attrs.groups)
  const all = conv2d(x, split.weight(), attrs)
  const [batch = 0, , height = 0, width = 0] = all.shape
  const [count = 0, channels = 0] = bases.shape
  return pi.reshape([batch, 1, 1, count]).matmul(split.byBase(all)).reshape([batch, channels, height, width])
}

// dpi[b, k] = sum over groups of Y[b, group, k, :] . dY[b, group, :].
function kernelGradByOutputs(attrs: DynamicConv2dKernelGradAttrs, x: Tensor, dy: Tensor, bases: Tensor, pi: Tensor): readonly Tensor[] {
  const split = groupMajor(bases, attrs.groups)
  const dBases = split.unsplit(conv2dFilterGrad(x, split.weigh(dy, pi), attrs))
  const y = split.byBase(conv2d(x, split.weight(), attrs))
  const [batch = 0, groups = 0, , size = 0] = y.shape
  const dots = y.matmul(dy.reshape([batch, groups, size, 1]))
  return [dBases, dots.sum([1]).reshape(pi.shape)]
}
