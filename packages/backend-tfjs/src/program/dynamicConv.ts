// Dynamic convolution and its gradients in NHWC (the formulas: core's ops/dynamicConv.ts; the forms: forms.ts). With taps
// T = kh kw and V_b = sum_k pi_bk W_k as [T I, O]:
//
//   grouped   x [B, H, W, I] -> [1, H, W, B I], V -> [kh, kw, I, B O]; TensorFlow takes B I channels over filters of I as B groups
//   columns   y_b = col_b V_b,   col_b [P Q, T I];   dV_b = col_b^T dY_b
//   columns   dcol_b = dY_b V_b^T [P Q, T I], and with stride 1, tap (r, s) of pixel (p, q) read x at (p - top + r, q - left + s):
//             dx[h, w] = sum over (r, s) of dcol[h + top - r, w + left - s, (r, s)]
//   flipped   with stride 1, dx = conv(dY, V turned round), padding kh - 1 - top and so on: V turned round is linear in V, so
//             the K bases are turned round instead of the B kernels
//   rows      with stride 1, X_b = the kw shifts of a padded row side by side [(H' Q), kw I]; for each r,
//             dV_b[r] = X_b^T (dY_b, moved down by r rows in H' rows)

import type { Conv2dAttrs, Graph, Node, NodeOf, Size2d } from '@dynconv/core'
import { formatShape, staticShape, typeOf } from '@dynconv/core'
import { nth, product, range } from '../kernels/shared.ts'
import { four, isOne, padded, paddingOf } from './conv.ts'
import type { DynamicLayer, Forms } from './forms.ts'
import { attr, type TfNode, type TfValue } from './graph.ts'
import { basesLayout, nhwc, plain } from './layout.ts'
import type { Lowering, ProgramKernels } from './lowering.ts'
import type { ProgramPrimitives } from './primitives.ts'

type DynamicName = 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

/** Whether a dynamic convolution is written here; others are decomposed. */
export function takesDynamic(node: Node, graph: Graph): boolean {
  if (node.op !== 'dynamicConv2d' && node.op !== 'dynamicConv2dInputGrad' && node.op !== 'dynamicConv2dKernelGrad') return false
  const { shape, dtype } = typeOf(graph, nth(node.inputs, 0))
  const { form, groups, dilation } = node.attrs
  return dtype === 'float32' && form !== 'outputs' && groups === 1 && isOne(dilation) && !staticShape('tfjs', shape).includes(0)
}

interface Layer extends DynamicLayer {
  readonly attrs: Conv2dAttrs
  readonly kernelSize: Size2d
  readonly forms: Forms
}

/** The kernels. */
export const dynamicConvKernels: ProgramKernels = {
  dynamicConv2d: (node, l) => {
    if (!takesDynamic(node, l.graph)) return false
    const [x, bases, pi, bias] = node.inputs
    const y = nth(node.outputs, 0)
    if (x === undefined || bases === undefined || pi === undefined) return false
    const layer = describe(l, node, l.shape(x), l.shape(y), l.shape(bases))
    explain(l, node, layer, layer.forms.forward)
    const mixed = forward(l.p, layer, l.get(x, nhwc), kernels(l, bases, pi, layer))
    const shared = bias === undefined ? mixed : l.p.binary('add', mixed, l.p.reshape(l.p.matmul(l.get(pi), l.get(bias), false, false), [layer.batch, 1, 1, layer.outChannels]))
    l.put(node, y, shared, nhwc)
    return true
  },

  dynamicConv2dInputGrad: (node, l) => {
    if (!takesDynamic(node, l.graph)) return false
    const [dy, bases, pi] = [nth(node.inputs, 0), nth(node.inputs, 1), nth(node.inputs, 2)]
    const dx = nth(node.outputs, 0)
    const layer = describe(l, node, l.shape(dx), l.shape(dy), l.shape(bases))
    explain(l, node, layer, layer.forms.inputGrad)
    const grads = l.get(dy, nhwc)
    const value =
      layer.forms.inputGrad === 'flipped'
        ? flipped(l.p, layer, grads, l.get(bases, basesLayout), l.get(pi))
        : layer.forms.inputGrad === 'columns'
          ? inputColumns(l.p, layer, grads, kernels(l, bases, pi, layer))
          : inputLoop(l.p, layer, grads, kernels(l, bases, pi, layer))
    l.put(node, dx, value, nhwc)
    return true
  },

  dynamicConv2dKernelGrad: (node, l) => {
    if (!takesDynamic(node, l.graph)) return false
    const [x, dy, bases, pi] = [nth(node.inputs, 0), nth(node.inputs, 1), nth(node.inputs, 2), nth(node.inputs, 3)]
    const layer = describe(l, node, l.shape(x), l.shape(dy), l.shape(bases))
    const { p } = l
    const { chunk } = node.attrs
    const step = chunk === 0 ? layer.batch : Math.min(chunk, layer.batch)
    explain(l, node, layer, `${layer.forms.kernelGrad}${step < layer.batch ? `, ${step} samples at a time` : ''}`)
    const wide = l.get(bases, basesLayout)
    const rows = p.reshape(wide, [nth(wide.shape, 0), product(wide.shape.slice(1))])
    const [images, grads, mixture] = [l.get(x, nhwc), l.get(dy, nhwc), l.get(pi)]
    const dPis: TfValue[] = []
    let dRows: TfValue | undefined
    for (let start = 0; start < layer.batch; start += step) {
      const count = Math.min(step, layer.batch - start)
      // Each chunk waits for the sums of the one before, so that only one of them has its kernels' gradients in memory.
      const after = dRows ? [dRows.node, nth(dPis, dPis.length - 1).node] : []
      const part = (t: TfValue): TfValue => (count === layer.batch ? t : narrow(p, t, start, count, after))
      const dV = kernelGrads(p, { ...layer, batch: count }, part(images), part(grads))
      const sum = p.matmul(part(mixture), dV, true, false)
      dRows = dRows ? p.binary('add', dRows, sum) : sum
      dPis.push(p.matmul(dV, rows, false, true))
    }
    if (!dRows) return false
    l.put(node, nth(node.outputs, 0), p.reshape(dRows, wide.shape), basesLayout)
    l.put(node, nth(node.outputs, 1), p.concat(dPis, 0), plain(2))
    return true
  },
}

function describe(l: Lowering, node: NodeOf<DynamicName>, x: readonly number[], y: readonly number[], bases: readonly number[]): Layer {
  const { attrs } = node
  const [batch, inChannels, height, width] = four(x)
  const [, outChannels, p, q] = four(y)
  const kernelSize: Size2d = [nth(bases, 3), nth(bases, 4)]
  const [top, bottom, left, right] = attrs.padding
  const flips = isOne(attrs.stride) && Math.max(top, bottom) < kernelSize[0] && Math.max(left, right) < kernelSize[1]
  const layer: DynamicLayer = { batch, inChannels, outChannels, inputSize: [height, width], outputSize: [p, q], stride: attrs.stride, flips }
  const forms = l.target.forms(layer)
  // See the filter gradient in conv.ts.
  const unequal = attrs.stride[0] !== attrs.stride[1] && forms.kernelGrad === 'loop'
  return { ...layer, attrs, kernelSize, forms: unequal ? { ...forms, kernelGrad: 'columns' } : forms }
}

function explain(l: Lowering, node: NodeOf<DynamicName>, layer: Layer, form: string): void {
  const { batch, inChannels, outChannels, inputSize, kernelSize } = layer
  l.note(`${node.op} ${formatShape([batch, inChannels, ...inputSize])} -> ${outChannels} channels, ${kernelSize.join('x')}: ${form}`)
}

// V [B, T I O], made once for the convolution and the gradient of its images.
function kernels(l: Lowering, bases: number, pi: number, layer: Layer): TfValue {
  const key = `kernels ${bases} ${pi}`
  const [known] = l.memo.get(key) ?? []
  if (known) return known
  const wide = l.get(bases, basesLayout)
  const size = product(layer.kernelSize) * layer.inChannels * layer.outChannels
  const mixed = l.p.matmul(l.get(pi), l.p.reshape(wide, [nth(wide.shape, 0), size]), false, false)
  l.memo.set(key, [mixed])
  return mixed
}

function forward(p: ProgramPrimitives, layer: Layer, x: TfValue, V: TfValue): TfValue {
  const { batch, inChannels, outChannels, outputSize, attrs, kernelSize, forms } = layer
  const taps = product(kernelSize)
  if (forms.forward === 'columns') {
    const y = p.matmul(columns(p, layer, x), p.reshape(V, [batch, taps * inChannels, outChannels]), false, false)
    return p.reshape(y, [batch, ...outputSize, outChannels])
  }
  const padding = paddingOf(attrs, kernelSize)
  const image = padding ? x : padded(p, x, attrs)
  const walk = (images: TfValue, filter: TfValue): TfValue => p.conv2d(images, filter, attrs.stride, attrs.dilation, padding ?? 'VALID')
  if (forms.forward === 'grouped') {
    const filter = sideBySideKernels(p, V, batch, [...kernelSize, inChannels], outChannels)
    return apart(p, walk(sideBySide(p, image), filter), batch)
  }
  const filters = p.unpack(p.reshape(V, [batch, ...kernelSize, inChannels, outChannels]))
  const samples = p.split(image, batch)
  return p.concat(filters.map((filter, b) => walk(nth(samples, b), filter)), 0)
}

function inputLoop(p: ProgramPrimitives, layer: Layer, dy: TfValue, V: TfValue): TfValue {
  const { batch, inChannels, outChannels, inputSize, attrs, kernelSize } = layer
  const [top, bottom, left, right] = attrs.padding
  const padding = paddingOf(attrs, kernelSize)
  const whole = padding ? inputSize : ([inputSize[0] + top + bottom, inputSize[1] + left + right] as const)
  const filters = p.unpack(p.reshape(V, [batch, ...kernelSize, inChannels, outChannels]))
  const samples = p.split(dy, batch)
  const dx = p.concat(filters.map((filter, b) => p.conv2dInputGrad(nth(samples, b), filter, [1, ...whole, inChannels], attrs.stride, padding ?? 'VALID')), 0)
  return padding ? dx : p.slice(dx, [0, top, left, 0], [batch, ...inputSize, inChannels])
}

function inputColumns(p: ProgramPrimitives, layer: Layer, dy: TfValue, V: TfValue): TfValue {
  const { batch, inChannels, outChannels, inputSize, outputSize, attrs, kernelSize } = layer
  const [height, width] = kernelSize
  const [top, bottom, left, right] = attrs.padding
  const rows = p.reshape(dy, [batch, product(outputSize), outChannels])
  const dcol = p.matmul(rows, p.reshape(V, [batch, height * width * inChannels, outChannels]), false, true)
  const images = p.reshape(dcol, [batch, ...outputSize, height * width * inChannels])
  const margin = (reach: number, border: number): number => Math.max(0, reach - 1 - border)
  const [above, before] = [margin(height, top), margin(width, left)]
  const wide = p.pad(images, [0, above, before, 0], [0, margin(height, bottom), margin(width, right), 0], 0)
  const parts = range(height * width).map((t) => {
    const [r, s] = [Math.floor(t / width), t % width]
    return p.slice(wide, [0, above + top - r, before + left - s, t * inChannels], [batch, ...inputSize, inChannels])
  })
  return p.addAll(parts)
}

function flipped(p: ProgramPrimitives, layer: Layer, dy: TfValue, bases: TfValue, pi: TfValue): TfValue {
  const { batch, inChannels, outChannels, attrs, kernelSize } = layer
  const [height, width] = kernelSize
  const [top, bottom, left, right] = attrs.padding
  // [K, kh, kw, I, O] turned round: [K, kh, kw, O, I]
  const turned = p.transpose(p.reverse(bases, [1, 2]), [0, 1, 2, 4, 3])
  const V = p.matmul(pi, p.reshape(turned, [nth(bases.shape, 0), height * width * inChannels * outChannels]), false, false)
  const filter = sideBySideKernels(p, V, batch, [...kernelSize, outChannels], inChannels)
  const turnedAttrs: Conv2dAttrs = { ...attrs, padding: [height - 1 - top, height - 1 - bottom, width - 1 - left, width - 1 - right] }
  const padding = paddingOf(turnedAttrs, kernelSize)
  const image = padding ? dy : padded(p, dy, turnedAttrs)
  return apart(p, p.conv2d(sideBySide(p, image), filter, attrs.stride, attrs.dilation, padding ?? 'VALID'), batch)
}

// dV [B, T I O]
function kernelGrads(p: ProgramPrimitives, layer: Layer, x: TfValue, dy: TfValue): TfValue {
  const { batch, inChannels, outChannels, outputSize, attrs, kernelSize, forms } = layer
  const [height, width] = kernelSize
  const size = height * width * inChannels * outChannels
  if (forms.kernelGrad === 'loop') {
    const padding = paddingOf(attrs, kernelSize)
    const images = p.split(padding ? x : padded(p, x, attrs), batch)
    const grads = p.split(dy, batch)
    const filterShape = [...kernelSize, inChannels, outChannels]
    const all = images.map((image, b) => p.conv2dFilterGrad(image, nth(grads, b), filterShape, attrs.stride, padding ?? 'VALID'))
    return p.reshape(p.pack(all), [batch, size])
  }
  if (forms.kernelGrad === 'columns') {
    const rows = p.reshape(dy, [batch, product(outputSize), outChannels])
    return p.reshape(p.matmul(columns(p, layer, x), rows, true, false), [batch, size])
  }
  const image = padded(p, x, attrs)
  const tall = nth(image.shape, 1)
  const shifts = range(width).map((s) => p.slice(image, [0, 0, s, 0], [batch, tall, outputSize[1], inChannels]))
  const X = p.reshape(p.concat(shifts, 3), [batch, tall * outputSize[1], width * inChannels])
  const parts = range(height).map((r) => {
    const moved = p.pad(dy, [0, r, 0, 0], [0, height - 1 - r, 0, 0], 0)
    return p.matmul(X, p.reshape(moved, [batch, tall * outputSize[1], outChannels]), true, false)
  })
  return p.reshape(p.concat(parts, 1), [batch, size])
}

// col [B, P Q, T I]. With steps TensorFlow's own patches are faster than strided slices.
function columns(p: ProgramPrimitives, layer: Layer, x: TfValue): TfValue {
  const { batch, inChannels, outputSize, attrs, kernelSize } = layer
  const [height, width] = kernelSize
  const image = padded(p, x, attrs)
  const shape = [batch, product(outputSize), height * width * inChannels]
  if (!isOne(attrs.stride)) {
    const patchAttrs = {
      T: attr.type('float32'),
      ksizes: attr.ints([1, ...kernelSize, 1]),
      strides: attr.ints([1, ...attrs.stride, 1]),
      rates: attr.ints([1, 1, 1, 1]),
      padding: attr.string('VALID'),
    }
    return p.reshape(p.graph.one('ExtractImagePatches', [image], patchAttrs, 'float32', [batch, ...outputSize, height * width * inChannels]), shape)
  }
  const taps = range(height * width).map((t) => p.slice(image, [0, Math.floor(t / width), t % width, 0], [batch, ...outputSize, inChannels]))
  return p.reshape(p.concat(taps, 3), shape)
}

// [B, H, W, C] as [1, H, W, B C], and back.
function sideBySide(p: ProgramPrimitives, x: TfValue): TfValue {
  const [batch, height, width, channels] = four(x.shape)
  return p.reshape(p.transpose(x, [1, 2, 0, 3]), [1, height, width, batch * channels])
}

function apart(p: ProgramPrimitives, y: TfValue, batch: number): TfValue {
  const [, height, width, channels] = four(y.shape)
  return p.transpose(p.reshape(y, [height, width, batch, channels / batch]), [2, 0, 1, 3])
}

// V [B, kh kw I O] as one filter [kh, kw, I, B O].
function sideBySideKernels(p: ProgramPrimitives, V: TfValue, batch: number, lead: readonly number[], channels: number): TfValue {
  return p.reshape(p.transpose(p.reshape(V, [batch, product(lead), channels]), [1, 0, 2]), [...lead, batch * channels])
}

function narrow(p: ProgramPrimitives, t: TfValue, start: number, count: number, after: readonly TfNode[]): TfValue {
  const sliced = p.slice(t, t.shape.map((_, i) => (i === 0 ? start : 0)), [count, ...t.shape.slice(1)])
  sliced.node.after.push(...after)
  return sliced
}
