// Cases of the convolutions: stride x dilation x groups x padding, static and dynamic, and their gradients.

import { type ConvCorner, convCorners } from '@dynconv/conformance'
import {
  type Conv2dAttrs,
  conv2d,
  conv2dFilterGrad,
  conv2dInputGrad,
  type DynamicConvForm,
  dynamicConv2d,
  type OpAttrs,
  type OpName,
  outputSize,
  type Size2d,
  tensor,
  type Tensor,
} from '@dynconv/core'
import type { Case, TensorFunction } from './compare.ts'
import { halves, randn } from './compare.ts'

type Cases<K extends OpName> = { readonly [N in K]: readonly Case[] }

/** A convolution of images of some size. */
export interface ConvShape extends ConvCorner {
  readonly batch: number
  readonly inChannels: number
  readonly outChannels: number
  readonly inputSize: Size2d
}

/** Every corner, on 9x8 pixels. */
export const convShapes: readonly ConvShape[] = convCorners.map((corner) => ({ batch: 2, inChannels: 4, outChannels: corner.attrs.groups === 4 ? 4 : 6, inputSize: [9, 8], ...corner }))

const plain: Conv2dAttrs = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 }

/** More: sizes that choose other kernels, and odd ones. */
export const moreConvShapes: readonly ConvShape[] = [
  { name: 'large image, stride 1', batch: 2, inChannels: 4, outChannels: 6, inputSize: [17, 16], kernelSize: [3, 3], attrs: plain },
  { name: 'large image, groups', batch: 3, inChannels: 4, outChannels: 6, inputSize: [16, 17], kernelSize: [2, 3], attrs: { ...plain, groups: 2, padding: [0, 1, 2, 0] } },
  { name: 'large image, depthwise', batch: 2, inChannels: 6, outChannels: 6, inputSize: [18, 18], kernelSize: [3, 3], attrs: { ...plain, groups: 6 } },
  { name: 'large image, stride 2', batch: 2, inChannels: 3, outChannels: 5, inputSize: [35, 34], kernelSize: [3, 3], attrs: { ...plain, stride: [2, 2] } },
  { name: 'padding beyond the kernel', batch: 2, inChannels: 2, outChannels: 3, inputSize: [17, 16], kernelSize: [1, 2], attrs: { ...plain, padding: [2, 3, 2, 1] } },
  { name: 'padding beyond the kernel, stride 2', batch: 1, inChannels: 2, outChannels: 3, inputSize: [5, 4], kernelSize: [2, 2], attrs: { ...plain, stride: [2, 2], padding: [3, 2, 0, 3] } },
  { name: 'kernel as large as the image', batch: 2, inChannels: 3, outChannels: 4, inputSize: [4, 5], kernelSize: [4, 5], attrs: { ...plain, padding: [0, 0, 0, 0] } },
  { name: 'stride beyond the kernel', batch: 2, inChannels: 3, outChannels: 4, inputSize: [11, 10], kernelSize: [2, 1], attrs: { ...plain, stride: [4, 3], padding: [0, 0, 0, 0] } },
  { name: 'one pixel', batch: 2, inChannels: 3, outChannels: 4, inputSize: [1, 1], kernelSize: [1, 1], attrs: { ...plain, padding: [0, 0, 0, 0] } },
  { name: 'one sample', batch: 1, inChannels: 3, outChannels: 4, inputSize: [6, 7], kernelSize: [3, 3], attrs: plain },
  { name: 'one channel', batch: 3, inChannels: 1, outChannels: 1, inputSize: [6, 7], kernelSize: [3, 3], attrs: plain },
  { name: 'no samples', batch: 0, inChannels: 3, outChannels: 4, inputSize: [6, 7], kernelSize: [3, 3], attrs: plain },
]

const all = [...convShapes, ...moreConvShapes]

/** Pixels of the result. */
function outSize({ inputSize, kernelSize, attrs }: ConvShape): Size2d {
  return outputSize('conv2d', inputSize, { ...attrs, kernelSize })
}

const xOf = (c: ConvShape) => randn([c.batch, c.inChannels, ...c.inputSize], 1)
const dyOf = (c: ConvShape) => randn([c.batch, c.outChannels, ...outSize(c)], 2)
const kernelOf = (c: ConvShape) => [c.outChannels, c.inChannels / c.attrs.groups, ...c.kernelSize]
const terms = (c: ConvShape): number => c.kernelSize[0] * c.kernelSize[1] * (c.inChannels / c.attrs.groups)

const bases = 3
const basesOf = (c: ConvShape) => randn([bases, ...kernelOf(c)], 3)
const piOf = (c: ConvShape) => randn([c.batch, bases], 4)

const forms = ['kernels', 'outputs'] as const
// The dynamic ops are made of the same pieces: every third combination, and the odd ones.
const some = [...convShapes.filter((_, i) => i % 3 === 0), ...moreConvShapes]

function dynamicCases(makes: (c: ConvShape, form: DynamicConvForm) => Omit<Case, 'name'>): readonly Case[] {
  return some.flatMap((c) => forms.map((form) => ({ name: `${c.name}, ${form}`, ...makes(c, form) })))
}

function emitted<K extends OpName>(op: K, attrs: OpAttrs[K]): TensorFunction {
  return (...inputs) => inputs[0]?.graph.emit(op, attrs, inputs) ?? []
}

const kernelGrad = (c: ConvShape, form: DynamicConvForm, chunk: number): Omit<Case, 'name'> => ({
  fn: emitted('dynamicConv2dKernelGrad', { ...c.attrs, form, chunk, kernelSize: c.kernelSize }),
  inputs: [xOf(c), dyOf(c), basesOf(c), piOf(c)],
  roundings: 2 * outSize(c)[0] * outSize(c)[1] + 2 * bases * terms(c),
})

const half = (...f: Tensor[]): Tensor[] => f.map((t) => t.cast('float16'))
const small: ConvShape = { name: 'small', batch: 5, inChannels: 2, outChannels: 3, inputSize: [6, 5], kernelSize: [3, 3], attrs: plain }

export const convCases: Cases<'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad' | 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'> = {
  conv2d: [
    ...all.map((c): Case => ({ name: c.name, fn: (x, w) => conv2d(x, w, c.attrs), inputs: [xOf(c), randn(kernelOf(c), 3)], roundings: 2 * terms(c) })),
    { name: 'bias', fn: (x, w, b) => conv2d(x, w, { padding: 1, bias: b }), inputs: [xOf(small), randn(kernelOf(small), 3), randn([3], 4)], roundings: 40 },
    { name: 'float16', fn: (...t) => { const [x, w] = half(...t); return x && w ? conv2d(x, w, plain) : [] }, inputs: [xOf(small), halves(kernelOf(small), 3)], roundings: 6 },
  ],
  conv2dInputGrad: all.map((c) => ({
    name: c.name,
    fn: (dy, w) => conv2dInputGrad(dy, w, { ...c.attrs, inputSize: c.inputSize }),
    inputs: [dyOf(c), randn(kernelOf(c), 3)],
    roundings: 2 * terms(c) * (c.outChannels / c.inChannels),
  })),
  conv2dFilterGrad: all.map((c) => ({
    name: c.name,
    fn: (x, dy) => conv2dFilterGrad(x, dy, { ...c.attrs, kernelSize: c.kernelSize }),
    inputs: [xOf(c), dyOf(c)],
    roundings: 2 * c.batch * outSize(c)[0] * outSize(c)[1],
  })),
  dynamicConv2d: [
    ...dynamicCases((c, form) => ({
      fn: (x, w, pi) => dynamicConv2d(x, w, pi, { ...c.attrs, form }),
      inputs: [xOf(c), basesOf(c), piOf(c)],
      roundings: 2 * terms(c) + 2 * bases,
    })),
    ...forms.map((form): Case => ({
      name: `bias, ${form}`,
      fn: (x, w, pi, b) => dynamicConv2d(x, w, pi, { ...plain, form, bias: b }),
      inputs: [xOf(small), basesOf(small), piOf(small), randn([bases, 3], 5)],
      roundings: 60,
    })),
    { name: 'auto', fn: (x, w, pi) => dynamicConv2d(x, w, pi, plain), inputs: [xOf(small), basesOf(small), piOf(small)], roundings: 60 },
    { name: 'nothing in the mixture of one sample', fn: (x, w, pi) => dynamicConv2d(x, w, pi, { ...plain, form: 'kernels' }), inputs: [randn([1, 2, 6, 5]), basesOf(small), tensor([0, 0, 0], [1, 3])] },
  ],
  dynamicConv2dInputGrad: dynamicCases((c, form) => ({
    fn: emitted('dynamicConv2dInputGrad', { ...c.attrs, form, inputSize: c.inputSize }),
    inputs: [dyOf(c), basesOf(c), piOf(c)],
    roundings: 2 * terms(c) * (c.outChannels / c.inChannels) + 2 * bases,
  })),
  dynamicConv2dKernelGrad: [
    ...dynamicCases((c, form) => kernelGrad(c, form, 0)),
    ...[1, 2, 3, 4, 5, 9].map((chunk) => ({ name: `chunks of ${chunk}`, ...kernelGrad(small, 'kernels', chunk) })),
    { name: 'chunks with groups', ...kernelGrad({ ...small, inChannels: 4, outChannels: 6, attrs: { ...plain, groups: 2, stride: [2, 1] } }, 'kernels', 2) },
  ],
}
