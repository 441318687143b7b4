// Convolution (as everywhere in this field: cross-correlation) with stride, dilation, padding per side and groups, and its
// two gradients. x [N, I, H, W], weight [O, I/g, kh, kw], y [N, O, P, Q]. With (sh, sw), (dh, dw) stride and dilation and
// c(o) = floor(o / (O/g)) * I/g the first input channel of o's group:
//
//   y[n, o, p, q] = sum_{i, r, s} x[n, c(o) + i, p sh - top + r dh, q sw - left + s dw] * weight[o, i, r, s]
//
// where x is 0 outside the image. All three ops read the same index triples (x's, weight's, y's element) of the trilinear
//
//   T(x, w, y) = sum over n, o, p, q, i, r, s of x[...] * w[o, i, r, s] * y[n, o, p, q]
//
// and each is T's derivative by one slot: conv2d(x, w) = dT/dy, conv2dInputGrad(dy, w) = dT/dx, conv2dFilterGrad(x, dy) =
// dT/dw. The gradient of <conv2d(x, w), dy> = T(x, w, dy) by x is thus conv2dInputGrad(dy, w), and so on: with g the
// gradient that flows into an op, put g in the op's own slot and take the derivative by the other two.
//
//   op                 scalar        by first input          by second input
//   conv2d             T(x, w, g)    x: inputGrad(g, w)      w: filterGrad(x, g)
//   conv2dInputGrad    T(g, w, dy)   dy: conv2d(g, w)        w: filterGrad(g, dy)
//   conv2dFilterGrad   T(x, g, dy)   x: inputGrad(dy, g)     dy: conv2d(x, g)

import { ShapeError } from '../backend/errors.ts'
import { checkDType } from '../tensor/dtype.ts'
import { formatShape, known, sameShape, type Shape, type StaticShape, sizeOf } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { Conv2dAttrs, OpAttrs, Size2d } from './attrs.ts'
import { checkInt, floats, sameDType, take } from './checks.ts'
import { checkGradSize, checkImages, checkSameBatch, checkSize2d, type Images, outputSize } from './checks2d.ts'
import { defineOp, type OpTable, type ValueType } from './define.ts'
import { type Padding, toPadding2d, toSize2d } from './options2d.ts'
import { addAt, at, refTensor } from './refs.ts'

/** How `conv2d` walks. */
export interface Conv2dOptions {
  /** [O] */
  readonly bias?: Tensor | undefined
  /** 1 unless given. */
  readonly stride?: number | Size2d
  /** 0 unless given. */
  readonly padding?: Padding
  /** 1 unless given. */
  readonly dilation?: number | Size2d
  /** 1 unless given. */
  readonly groups?: number
}

/**
 * The convolution of images `x` [N, I, H, W] with `weight` [O, I/groups, kh, kw]: [N, O, OH, OW].
 *
 * @example conv2d(x, weight, { stride: 2, padding: 1 })
 * @throws ShapeError when channels, groups or sizes do not fit, or the images have no pixels; ValueError for a padding that cannot be understood
 */
export function conv2d(x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const inputs = options.bias ? [x, weight, options.bias] : [x, weight]
  return only(x.graph.emit('conv2d', convAttrs('conv2d', weight, options), inputs))
}

/** The attributes of a convolution with `weight` [..., kh, kw]. */
export function convAttrs(who: string, weight: Tensor, options: Omit<Conv2dOptions, 'bias'>): Conv2dAttrs {
  const stride = toSize2d(who, 'stride', options.stride ?? 1)
  const dilation = toSize2d(who, 'dilation', options.dilation ?? 1)
  // A weight of another rank, or of unknown size, is for `infer` to refuse.
  const [height, width] = weight.shape.slice(-2)
  const kernelSize: Size2d = [typeof height === 'number' ? height : 1, typeof width === 'number' ? width : 1]
  return { stride, padding: toPadding2d(who, options.padding ?? 0, { kernelSize, stride, dilation }), dilation, groups: options.groups ?? 1 }
}

/** The gradient of conv2d by its images: from `dy` [N, O, OH, OW] and `weight` [O, I/groups, kh, kw] to [N, I, ...inputSize]. */
export function conv2dInputGrad(dy: Tensor, weight: Tensor, attrs: Conv2dAttrs & { readonly inputSize: Size2d }): Tensor {
  return only(dy.graph.emit('conv2dInputGrad', { ...plain(attrs), inputSize: attrs.inputSize }, [dy, weight]))
}

/** The gradient of conv2d by its weight: from `x` [N, I, H, W] and `dy` [N, O, OH, OW] to [O, I/groups, ...kernelSize]. */
export function conv2dFilterGrad(x: Tensor, dy: Tensor, attrs: Conv2dAttrs & { readonly kernelSize: Size2d }): Tensor {
  return only(x.graph.emit('conv2dFilterGrad', { ...plain(attrs), kernelSize: attrs.kernelSize }, [x, dy]))
}

/** The definitions. */
export const convOps: Pick<OpTable, 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad'> = {
  conv2d: defineOp({
    name: 'conv2d',
    // x [N, I, H, W], weight [O, I/g, kh, kw], optional bias [O]
    infer: (attrs, inputs) => {
      const names = ['x', 'weight', 'bias'] as const
      const [x, weight, bias] = inputs.length === 2 ? take('conv2d', inputs, 'x', 'weight') : take('conv2d', inputs, ...names)
      const dtype = sameDType('conv2d', names, inputs)
      const images = checkImages('conv2d', 'x', x)
      const kernels = checkKernels('conv2d', 'weight', weight)
      checkGroups('conv2d', attrs.groups, images.channels, kernels.outChannels)
      checkInPerGroup('conv2d', 'weight', kernels, images.channels, attrs.groups)
      if (bias && !sameShape(bias.shape, [kernels.outChannels])) {
        throw new ShapeError(`conv2d: bias must be [${kernels.outChannels}], got ${formatShape(bias.shape)}`)
      }
      const [height, width] = outputSize('conv2d', images.size, { ...attrs, kernelSize: kernels.size })
      return { dtype, shape: [images.batch, kernels.outChannels, height, width] }
    },
    gradient: ({ attrs, inputs, grad, needs }) => {
      const [x, weight] = take('conv2d', inputs.slice(0, 2), 'x', 'weight')
      return [
        needs[0] ? conv2dInputGrad(grad, weight, { ...attrs, inputSize: pixels(x) }) : undefined,
        needs[1] ? conv2dFilterGrad(x, grad, { ...attrs, kernelSize: pixels(weight) }) : undefined,
        needs[2] ? grad.sum([0, 2, 3]) : undefined,
      ]
    },
    reference: (attrs, [x, weight, bias], [output]) => {
      if (!x || !weight || !output) throw new RangeError('conv2d: the reference needs x, weight and the output type')
      const y = refTensor(output.shape)
      const step = attrs.stride[1]
      if (bias) {
        const [, channels = 0, height = 0, width = 0] = output.shape
        y.data.forEach((_, i) => addAt(y.data, i, at(bias.data, Math.floor(i / (height * width)) % channels)))
      }
      forEachRow(geometry(attrs, x.shape, weight.shape, output.shape), (ix, iw, iy, count) => {
        const w = at(weight.data, iw)
        for (let j = 0; j < count; j++) addAt(y.data, iy + j, at(x.data, ix + j * step) * w)
      })
      return y
    },
    macs: (_attrs, [, weight], [y]) => sizeOf(y ?? []) * sizeOf((weight ?? []).slice(1)),
  }),

  conv2dInputGrad: defineOp({
    name: 'conv2dInputGrad',
    // dy [N, O, P, Q], weight [O, I/g, kh, kw]
    infer: (attrs, inputs) => {
      const who = 'conv2dInputGrad'
      const [dy, weight] = take(who, inputs, 'dy', 'weight')
      const dtype = sameDType(who, ['dy', 'weight'], inputs)
      const grads = checkImages(who, 'dy', dy)
      return { dtype, shape: inputGradShape(who, attrs, grads, checkKernels(who, 'weight', weight)) }
    },
    gradient: ({ attrs, inputs, grad, needs }) => {
      const [dy, weight] = take('conv2dInputGrad', inputs, 'dy', 'weight')
      return [
        needs[0] ? conv2d(grad, weight, plain(attrs)) : undefined,
        needs[1] ? conv2dFilterGrad(grad, dy, { ...attrs, kernelSize: pixels(weight) }) : undefined,
      ]
    },
    reference: (attrs, [dy, weight], [output]) => {
      if (!dy || !weight || !output) throw new RangeError('conv2dInputGrad: the reference needs dy, weight and the output type')
      const dx = refTensor(output.shape)
      const step = attrs.stride[1]
      forEachRow(geometry(attrs, output.shape, weight.shape, dy.shape), (ix, iw, iy, count) => {
        const w = at(weight.data, iw)
        for (let j = 0; j < count; j++) addAt(dx.data, ix + j * step, at(dy.data, iy + j) * w)
      })
      return dx
    },
    macs: (_attrs, [dy, weight]) => sizeOf(dy ?? []) * sizeOf((weight ?? []).slice(1)),
  }),

  conv2dFilterGrad: defineOp({
    name: 'conv2dFilterGrad',
    // x [N, I, H, W], dy [N, O, P, Q]
    infer: (attrs, inputs) => {
      const who = 'conv2dFilterGrad'
      const [x, dy] = take(who, inputs, 'x', 'dy')
      const dtype = sameDType(who, ['x', 'dy'], inputs)
      const images = checkImages(who, 'x', x)
      const grads = checkImages(who, 'dy', dy)
      checkSameBatch(who, 'x', images.batch, 'dy', grads.batch)
      checkGroups(who, attrs.groups, images.channels, grads.channels)
      checkGradSize(who, 'dy', grads.size, images.size, outputSize(who, images.size, attrs))
      return { dtype, shape: [grads.channels, images.channels / attrs.groups, ...attrs.kernelSize] }
    },
    gradient: ({ attrs, inputs, grad, needs }) => {
      const [x, dy] = take('conv2dFilterGrad', inputs, 'x', 'dy')
      return [
        needs[0] ? conv2dInputGrad(dy, grad, { ...attrs, inputSize: pixels(x) }) : undefined,
        needs[1] ? conv2d(x, grad, plain(attrs)) : undefined,
      ]
    },
    reference: (attrs, [x, dy], [output]) => {
      if (!x || !dy || !output) throw new RangeError('conv2dFilterGrad: the reference needs x, dy and the output type')
      const dw = refTensor(output.shape)
      const step = attrs.stride[1]
      forEachRow(geometry(attrs, x.shape, output.shape, dy.shape), (ix, iw, iy, count) => {
        let sum = 0
        for (let j = 0; j < count; j++) sum += at(x.data, ix + j * step) * at(dy.data, iy + j)
        addAt(dw.data, iw, sum)
      })
      return dw
    },
    macs: (_attrs, [, dy], [dw]) => sizeOf(dy ?? []) * sizeOf((dw ?? []).slice(1)),
  }),
}

/** A checked [O, I/g, kh, kw]. */
export interface Kernels {
  readonly outChannels: number
  readonly inPerGroup: number
  readonly size: Size2d
}

/** `value` as kernels [O, I/g, kh, kw], none of them 0. @throws ShapeError, DTypeError */
export function checkKernels(who: string, what: string, value: ValueType): Kernels {
  checkDType(who, what, value.dtype, floats)
  const { shape } = value
  if (shape.length !== 4) throw new ShapeError(`${who}: ${what} must be [O, I/groups, kh, kw], got ${formatShape(shape)}`)
  const [outChannels = 0, inPerGroup = 0, height = 0, width = 0] = shape.map((d) => known(who, `each size of ${what}`, d))
  if (outChannels * inPerGroup * height * width === 0) throw new ShapeError(`${who}: ${what} must not be empty, got ${formatShape(shape)}`)
  return { outChannels, inPerGroup, size: [height, width] }
}

/** Throws unless `groups` divides both channel counts. */
export function checkGroups(who: string, groups: number, inChannels: number, outChannels: number): void {
  checkInt(who, 'groups', groups, 1)
  if (inChannels % groups !== 0) throw new ShapeError(`${who}: groups=${groups} must divide inChannels=${inChannels}`)
  if (outChannels % groups !== 0) throw new ShapeError(`${who}: groups=${groups} must divide outChannels=${outChannels}`)
}

/** Throws unless kernels take as many channels as a group of x has. */
export function checkInPerGroup(who: string, what: string, kernels: Kernels, inChannels: number, groups: number): void {
  if (kernels.inPerGroup * groups === inChannels) return
  const share = groups === 1 ? `x has ${inChannels}` : `x has ${inChannels / groups} (inChannels=${inChannels} in groups=${groups})`
  throw new ShapeError(`${who}: ${what} takes ${kernels.inPerGroup} channels a group, but ${share}`)
}

/** Throws unless dy has the kernels' output channels. */
export function checkOutChannels(who: string, channels: number, kernels: Kernels): void {
  if (channels !== kernels.outChannels) throw new ShapeError(`${who}: dy has ${channels} channels, but the kernels make ${kernels.outChannels}`)
}

/** [N, I, ...inputSize]: the images whose convolution with `kernels` has a gradient like `dy`. @throws ShapeError where there are none */
export function inputGradShape(who: string, attrs: OpAttrs['conv2dInputGrad'], dy: Images, kernels: Kernels): Shape {
  const channels = kernels.inPerGroup * attrs.groups
  checkGroups(who, attrs.groups, channels, kernels.outChannels)
  checkOutChannels(who, dy.channels, kernels)
  checkSize2d(who, 'inputSize', attrs.inputSize)
  checkGradSize(who, 'dy', dy.size, attrs.inputSize, outputSize(who, attrs.inputSize, { ...attrs, kernelSize: kernels.size }))
  return [dy.batch, channels, ...attrs.inputSize]
}

// Only the attributes of conv2d itself, so that equal convolutions have equal attributes.
function plain({ stride, padding, dilation, groups }: Conv2dAttrs): Conv2dAttrs {
  return { stride, padding, dilation, groups }
}

/** Height and width: the last two axes. */
export function pixels(t: Tensor): Size2d {
  const [height, width] = t.shape.slice(-2)
  return [known('conv2d', 'the height', height), known('conv2d', 'the width', width)]
}

interface Geometry extends Conv2dAttrs {
  readonly x: StaticShape
  readonly weight: StaticShape
  readonly y: StaticShape
}

function geometry(attrs: Conv2dAttrs, x: StaticShape, weight: StaticShape, y: StaticShape): Geometry {
  return { ...plain(attrs), x, weight, y }
}

/**
 * Visits the index triples of T as rows: for flat indices (x, weight, y) and count, the elements x + j * strideWidth and
 * y + j, j < count, meet at that weight. A row runs along q with n, o, i, r, s, p fixed; it holds the q whose column
 * q sw - left + s dw lies in [0, W): ceil((left - s dw) / sw) <= q <= floor((W - 1 + left - s dw) / sw).
 */
function forEachRow(g: Geometry, visit: (x: number, weight: number, y: number, count: number) => void): void {
  const [batch = 0, inChannels = 0, height = 0, width = 0] = g.x
  const [outChannels = 0, inPerGroup = 0, kh = 0, kw = 0] = g.weight
  const [, , outHeight = 0, outWidth = 0] = g.y
  const outPerGroup = outChannels / g.groups
  const [top, , left] = g.padding
  for (let n = 0; n < batch; n++) {
    for (let o = 0; o < outChannels; o++) {
      const firstChannel = Math.floor(o / outPerGroup) * inPerGroup
      const yPlane = (n * outChannels + o) * outHeight * outWidth
      for (let i = 0; i < inPerGroup; i++) {
        const xPlane = (n * inChannels + firstChannel + i) * height * width
        for (let r = 0; r < kh; r++) {
          for (let s = 0; s < kw; s++) {
            const weight = ((o * inPerGroup + i) * kh + r) * kw + s
            const shift = s * g.dilation[1] - left
            const first = Math.max(0, Math.ceil(-shift / g.stride[1]))
            const last = Math.min(outWidth - 1, Math.floor((width - 1 - shift) / g.stride[1]))
            if (last < first) continue
            for (let p = 0; p < outHeight; p++) {
              const row = p * g.stride[0] - top + r * g.dilation[0]
              if (row < 0 || row >= height) continue
              visit(xPlane + row * width + first * g.stride[1] + shift, weight, yPlane + p * outWidth + first, last - first + 1)
            }
          }
        }
      }
    }
  }
}
