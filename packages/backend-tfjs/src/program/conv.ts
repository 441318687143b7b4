// Convolutions and their gradients by TensorFlow's own kernels, in NHWC (the formulas: core's ops/conv.ts). What those refuse is
// left to the kernels that both executors share (kernels/conv.ts): gradients with dilation, or with groups of several channels.

import type { Conv2dAttrs, Size2d } from '@dynconv/core'
import { nth } from '../kernels/shared.ts'
import { attr, type TfValue } from './graph.ts'
import { hwio, nhwc } from './layout.ts'
import type { ProgramKernels } from './lowering.ts'
import type { ProgramPrimitives } from './primitives.ts'

/** The kernels. */
export const convKernels: ProgramKernels = {
  conv2d: (node, l) => {
    const { attrs } = node
    const [x, weight, bias] = [nth(node.inputs, 0), nth(node.inputs, 1), node.inputs[2]]
    const { stride, dilation, groups } = attrs
    const [outChannels, inPerGroup, height, width] = four(l.shape(weight))
    const kernelSize: Size2d = [height, width]
    const depthwise = groups > 1 && inPerGroup === 1
    if (!isOne(stride) && !isOne(dilation)) return false
    if (groups > 1 && !isOne(dilation)) return false
    if (depthwise && stride[0] !== stride[1]) return false
    const filter = l.get(weight, hwio)
    const image = l.get(x, nhwc)
    let y: TfValue
    if (depthwise) {
      y = l.p.depthwiseConv2d(padded(l.p, image, attrs), l.p.reshape(filter, [height, width, groups, outChannels / groups]), stride, dilation)
    } else {
      const padding = paddingOf(attrs, kernelSize)
      y = l.p.conv2d(padding ? image : padded(l.p, image, attrs), filter, stride, dilation, padding ?? 'VALID')
    }
    if (bias !== undefined) y = withBias(l.p, y, l.get(bias), groups)
    l.put(node, nth(node.outputs, 0), y, nhwc)
    return true
  },

  conv2dInputGrad: (node, l) => {
    const { attrs } = node
    const [dy, weight] = [nth(node.inputs, 0), nth(node.inputs, 1)]
    const [outChannels, inPerGroup, height, width] = four(l.shape(weight))
    const [batch, channels, rows, columns] = four(l.shape(nth(node.outputs, 0)))
    const depthwise = attrs.groups > 1 && inPerGroup === 1
    if (!isOne(attrs.dilation) || (depthwise ? attrs.stride[0] !== attrs.stride[1] : attrs.groups > 1)) return false
    const [top, bottom, left, right] = attrs.padding
    const filter = l.get(weight, hwio)
    const grads = l.get(dy, nhwc)
    const padding = depthwise ? undefined : paddingOf(attrs, [height, width])
    const size = padding === 'SAME' ? [batch, rows, columns, channels] : [batch, rows + top + bottom, columns + left + right, channels]
    const dx = depthwise
      ? depthwiseInputGrad(l.p, grads, l.p.reshape(filter, [height, width, attrs.groups, outChannels / attrs.groups]), size, attrs.stride)
      : l.p.conv2dInputGrad(grads, filter, size, attrs.stride, padding ?? 'VALID')
    const inside = size[1] === rows && size[2] === columns ? dx : l.p.slice(dx, [0, top, left, 0], [batch, rows, columns, channels])
    l.put(node, nth(node.outputs, 0), inside, nhwc)
    return true
  },

  conv2dFilterGrad: (node, l) => {
    const { attrs } = node
    const [x, dy] = [nth(node.inputs, 0), nth(node.inputs, 1)]
    const [outChannels, inPerGroup] = four(l.shape(nth(node.outputs, 0)))
    const [height, width] = attrs.kernelSize
    const depthwise = attrs.groups > 1 && inPerGroup === 1
    // oneDNN's kernel for filters of one tap and unequal strides writes beyond its memory (TensorFlow 2.15.1).
    if (!isOne(attrs.dilation) || attrs.stride[0] !== attrs.stride[1] || (!depthwise && attrs.groups > 1)) return false
    if (l.shape(x).includes(0) || l.shape(dy).includes(0)) return false
    const [image, grads] = [l.get(x, nhwc), l.get(dy, nhwc)]
    const filterShape = [height, width, inPerGroup, outChannels]
    if (depthwise) {
      const dw = depthwiseFilterGrad(l.p, padded(l.p, image, attrs), grads, [height, width, attrs.groups, outChannels / attrs.groups], attrs.stride)
      l.put(node, nth(node.outputs, 0), l.p.reshape(dw, filterShape), hwio)
      return true
    }
    const padding = paddingOf(attrs, attrs.kernelSize)
    l.put(node, nth(node.outputs, 0), l.p.conv2dFilterGrad(padding ? image : padded(l.p, image, attrs), grads, filterShape, attrs.stride, padding ?? 'VALID'), hwio)
    return true
  },
}

// TensorFlow fuses a bias into the convolution before it, and its fused kernel refuses groups: a change of shape keeps them apart.
function withBias(p: ProgramPrimitives, y: TfValue, bias: TfValue, groups: number): TfValue {
  if (groups === 1) return p.graph.one('BiasAdd', [y, bias], { T: attr.type('float32'), data_format: attr.string('NHWC') }, 'float32', y.shape)
  const [batch, height, width, channels] = four(y.shape)
  return p.reshape(p.binary('add', p.reshape(y, [batch * height * width, channels]), bias), y.shape)
}

/** How TensorFlow would name this padding: VALID for none, SAME where both mean the same pixels; undefined: it has no name. */
export function paddingOf({ stride, padding, dilation }: Pick<Conv2dAttrs, 'stride' | 'padding' | 'dilation'>, kernelSize: Size2d): 'VALID' | 'SAME' | undefined {
  if (padding.every((n) => n === 0)) return 'VALID'
  if (!isOne(stride)) return undefined
  const reach = [dilation[0] * (kernelSize[0] - 1), dilation[1] * (kernelSize[1] - 1)] as const
  const [top, left] = [Math.floor(reach[0] / 2), Math.floor(reach[1] / 2)]
  const same = [top, reach[0] - top, left, reach[1] - left]
  return padding.every((n, i) => n === same[i]) ? 'SAME' : undefined
}

/** An image [N, H, W, C] inside its padding. */
export function padded(p: ProgramPrimitives, x: TfValue, { padding }: Pick<Conv2dAttrs, 'padding'>): TfValue {
  const [top, bottom, left, right] = padding
  return padding.every((n) => n === 0) ? x : p.pad(x, [0, top, left, 0], [0, bottom, right, 0], 0)
}

/** Whether neither axis takes steps. */
export function isOne([a, b]: Size2d): boolean {
  return a === 1 && b === 1
}

/** The four sizes of an image or a filter. */
export function four(shape: readonly number[]): readonly [number, number, number, number] {
  return [nth(shape, 0), nth(shape, 1), nth(shape, 2), nth(shape, 3)]
}

const depthwiseAttrs = (stride: Size2d) => ({ T: attr.type('float32'), strides: attr.ints([1, ...stride, 1]), padding: attr.string('VALID'), data_format: attr.string('NHWC') })

function depthwiseInputGrad(p: ProgramPrimitives, dy: TfValue, filter: TfValue, shape: readonly number[], stride: Size2d): TfValue {
  return p.graph.one('DepthwiseConv2dNativeBackpropInput', [p.graph.ints(shape), filter, dy], depthwiseAttrs(stride), 'float32', shape)
}

function depthwiseFilterGrad(p: ProgramPrimitives, x: TfValue, dy: TfValue, shape: readonly number[], stride: Size2d): TfValue {
  return p.graph.one('DepthwiseConv2dNativeBackpropFilter', [x, p.graph.ints(shape), dy], depthwiseAttrs(stride), 'float32', shape)
}
