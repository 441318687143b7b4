// Cases that the tests of both executors run against the oracle: every op, and of the convolutions every combination of
// what TensorFlow refuses. Small shapes. The whole list of what an engine must do is the conformance suite's.

import { type ConvCorner, convCorners, randint, randn, type RoundedCase } from '@dynconv/conformance'
import {
  avgPool2d,
  batchNorm,
  batchNormInference,
  concat,
  conv2d,
  conv2dFilterGrad,
  conv2dInputGrad,
  customGradient,
  dynamicConv2d,
  fromNumbers,
  gradients,
  groupNorm,
  type HostTensor,
  maxPool2d,
  outputSize,
  resize,
  type Size2d,
  tensor,
  type Tensor,
} from '@dynconv/core'

const [nan, inf] = [Number.NaN, Number.POSITIVE_INFINITY]
const corners = [nan, -inf, inf, -1, 0, -0, 1, 0.5, -2.5, 3e38, 7, -7, 2, 0.1]
const [column, row] = [tensor(corners, [corners.length, 1]), tensor(corners, [1, corners.length])]
const [ints, intsAcross] = [fromNumbers('int32', [6, 1], [0, -1, 7, 2 ** 31 - 1, -(2 ** 31), 70000]), fromNumbers('int32', [1, 6], [0, -1, 7, 2 ** 31 - 1, -(2 ** 31), 70000])]
const [yes, no] = [fromNumbers('bool', [2, 1], [0, 1]), fromNumbers('bool', [1, 2], [0, 1])]
const image = randn([2, 4, 6, 5], 1)
const elementwise = (name: string, fn: RoundedCase['fn'], inputs: readonly HostTensor[]): RoundedCase => ({ name, fn, inputs, elementwise: true, roundings: 8 })

const unaries: Readonly<Record<string, (t: Tensor) => Tensor>> = {
  neg: (t) => t.neg(), abs: (t) => t.abs(), exp: (t) => t.exp(), log: (t) => t.log(), sqrt: (t) => t.sqrt(), rsqrt: (t) => t.rsqrt(),
  tanh: (t) => t.tanh(), sigmoid: (t) => t.sigmoid(), relu: (t) => t.relu(), clamp: (t) => t.clamp(-0.5, 3),
  'to int32': (t) => t.cast('int32'), 'to bool': (t) => t.cast('bool'),
}
const binaries: Readonly<Record<string, (a: Tensor, b: Tensor) => Tensor>> = {
  add: (a, b) => a.add(b), sub: (a, b) => a.sub(b), mul: (a, b) => a.mul(b), div: (a, b) => a.div(b), min: (a, b) => a.min(b), max: (a, b) => a.max(b),
  pow: (a, b) => a.pow(b), less: (a, b) => a.less(b), equal: (a, b) => a.equal(b), notEqual: (a, b) => a.compare('notEqual', b), select: (a, b) => a.less(b).select(a, b),
}
const onIntegers = ['add', 'sub', 'mul', 'min', 'max', 'less', 'equal', 'notEqual', 'select']

const elementwiseCases: readonly RoundedCase[] = [
  ...Object.entries(unaries).flatMap(([name, fn]) => [elementwise(`${name} of corners`, fn, [row]), elementwise(`${name} of nothing`, fn, [tensor([], [2, 0])])]),
  ...Object.entries(binaries).map(([name, fn]) => elementwise(`${name} of corners`, fn, [column, row])),
  ...onIntegers.flatMap((name) => (binaries[name] ? [elementwise(`${name} of int32`, binaries[name], [ints, intsAcross])] : [])),
  elementwise('neg, abs and relu of int32', (t) => [t.neg(), t.abs(), t.relu()], [ints]),
  elementwise('bools', (a, b) => [a.equal(b), a.select(b, a), a.select(a.cast('float32'), 2), a.cast('int32')], [yes, no]),
  elementwise('custom gradient and stopped gradient', (t) => customGradient([t], ([x]) => [x?.mul(2).stopGradient() ?? t], (grads) => grads), [row]),
]

const shapeCases: readonly RoundedCase[] = [
  { name: 'moves', fn: (t) => [t.transpose([3, 1, 0, 2]), t.reshape([4, 60]), t.slice([0, 1, 5, 0], [2, 2, 3, 5], [1, 1, -2, 1]), t.slice([1, 0, 0, 1], [1, 4, 3, 2], [1, 1, 2, 2])], inputs: [image] },
  { name: 'pads and joins', fn: (t) => [t.pad([0, 1, 0, 2], [1, 0, 0, 3], 4), concat([t, t.neg(), t.slice([0, 0, 0, 0], [2, 0, 6, 5])], 1), t.slice([0, 0, 0, 0], [2, 4, 6, 1]).broadcastTo([3, 2, 4, 6, 5])], inputs: [image] },
  { name: 'bools move', fn: (t) => [t.transpose([1, 0]), t.broadcastTo([3, 2, 2]), t.slice([0, 0], [2, 1]), t.pad([1, 0], [0, 1], 1), concat([t, t], 0)], inputs: [fromNumbers('bool', [2, 2], [0, 1, 1, 0])] },
  { name: 'gathers', fn: (t, i) => [t.gather(i, 1), t.cast('int32').gather(i, 3), t.less(0).gather(i, 0)], inputs: [image, fromNumbers('int32', [2, 3], [0, 1, 1, 0, 0, 1])] },
  { name: 'scatters', fn: (t, i) => [t.scatterAdd(i, 1, 5), t.cast('int32').scatterAdd(i, 1, 5)], inputs: [randn([2, 3, 4]), fromNumbers('int32', [3], [4, 0, 4])] },
  { name: 'one hot', fn: (i) => [i.oneHot(3), i.oneHot(3, 'bool')], inputs: [fromNumbers('int32', [4], [0, 2, -1, 3])] },
]

const reduceCases: readonly RoundedCase[] = [
  { name: 'sums and maxima', fn: (t) => [t.sum(), t.sum([1, 3], true), t.maxOver([0, 2]), t.mean([2, 3]), t.argMax(1)], inputs: [image], roundings: 240 },
  { name: 'maxima and NaN', fn: (t) => [t.maxOver([0]), t.argMax(0), t.argMax(1)], inputs: [tensor([1, nan, nan, -inf, 2, inf], [2, 3])] },
  { name: 'of nothing', fn: (t) => [t.sum([1]), t.matmul(t, { transposeB: true })], inputs: [tensor([], [2, 0])] },
  { name: 'softmax', fn: (t) => [t.softmax(1), t.logSoftmax(3), t.softmax(3)], inputs: [randn([2, 3, 1, 4])], roundings: 30 },
  { name: 'products, leading axes stretched', fn: (a, b) => a.matmul(b), inputs: [randn([2, 1, 3, 4], 1), randn([3, 4, 5], 2)], roundings: 8 },
  { name: 'products, transposed', fn: (a, b) => [a.matmul(b, { transposeA: true, transposeB: true }), b.matmul(a)], inputs: [randn([4, 3], 1), randn([5, 4], 2)], roundings: 8 },
]

const pixels: Size2d = [7, 8]

// conv2d and both gradients of it.
const convCases: readonly RoundedCase[] = convCorners.map(({ name, kernelSize, attrs }) => ({
  name: `conv2d ${name}`,
  fn: (x, w, b, dy) => [conv2d(x, w, { ...attrs, bias: b }), conv2dInputGrad(dy, w, { ...attrs, inputSize: pixels }), conv2dFilterGrad(x, dy, { ...attrs, kernelSize })],
  inputs: [randn([2, 4, ...pixels], 1), randn([4, 4 / attrs.groups, ...kernelSize], 2), randn([4], 3), randn([2, 4, ...outputSize('conv2d', pixels, { ...attrs, kernelSize })], 4)],
  roundings: 120,
}))

// A dynamic convolution and all of its gradients, in both forms: some corners, and the usual kernel.
const isUsual = ({ kernelSize, attrs }: ConvCorner): boolean => [kernelSize, attrs.stride, attrs.dilation, attrs.padding].join(' ') === '3,3 1,1 1,1 1,1,1,1'
const dynamicCorners = convCorners.filter((corner, i) => i % 5 === 0 || isUsual(corner))
const dynamicCases: readonly RoundedCase[] = dynamicCorners.flatMap(({ name, kernelSize, attrs }) =>
  (['kernels', 'outputs', 'auto'] as const).map((form): RoundedCase => ({
    name: `dynamicConv2d ${name}, ${form}`,
    fn: (x, bases, pi, bias, dy) => {
      const y = dynamicConv2d(x, bases, pi, { ...attrs, bias, form })
      return [y, ...gradients(y.mul(dy).sum(), [x, bases, pi, bias])].flatMap((t) => t ?? [])
    },
    inputs: [randn([3, 4, ...pixels], 1), randn([2, 4, 4 / attrs.groups, ...kernelSize], 2), randn([3, 2], 3), randn([2, 4], 4), randn([3, 4, ...outputSize('conv2d', pixels, { ...attrs, kernelSize })], 5)],
    roundings: 600,
  })),
)

const imageCases: readonly RoundedCase[] = [
  { name: 'max pool and its gradient', fn: (x) => [maxPool2d(x, { kernelSize: 3, stride: 2, padding: 1 }), ...gradients(maxPool2d(x, { kernelSize: 2 }).square().sum(), [x])].flatMap((t) => t ?? []), inputs: [image] },
  { name: 'mean pools and their gradients', fn: (x) => [avgPool2d(x, { kernelSize: 3, padding: [0, 1, 2, 1], countIncludePad: false }), ...gradients(avgPool2d(x, { kernelSize: 2 }).square().sum(), [x])].flatMap((t) => t ?? []), inputs: [image], roundings: 20 },
  { name: 'resizing and its gradient', fn: (x) => [resize(x, { size: [9, 3], mode: 'bilinear' }), resize(x, { size: [4, 10] }), ...gradients(resize(x, { size: [3, 7], mode: 'bilinear' }).square().sum(), [x])].flatMap((t) => t ?? []), inputs: [image], roundings: 30 },
  {
    name: 'batch normalisation and its gradients',
    fn: (x, gamma, beta) => {
      const [y, mean, variance] = batchNorm(x, gamma, beta)
      const weigh = (t: Tensor): Tensor => t.mul(t.add(1)).sum()
      return [y, mean, variance, batchNormInference(x, gamma, beta, mean, variance), ...gradients(weigh(y).add(weigh(mean)).add(weigh(variance)), [x, gamma, beta])].flatMap((t) => t ?? [])
    },
    inputs: [image, randn([4], 2), randn([4], 3)],
    roundings: 400,
  },
  { name: 'batch normalisation of vectors', fn: (x, gamma, beta) => batchNorm(x, gamma, beta), inputs: [randn([5, 4]), randn([4], 2), randn([4], 3)], roundings: 60 },
  { name: 'group normalisation', fn: (x, gamma, beta) => groupNorm(x, gamma, beta, { groups: 2 }), inputs: [image, randn([4], 2), randn([4], 3)], roundings: 200 },
  { name: 'second derivatives', fn: (x, w) => gradients(gradients(conv2d(x, w, { padding: 1, stride: 2 }).square().sum(), [x])[0]?.square().sum() ?? x.sum(), [w]).flatMap((t) => t ?? []), inputs: [image, randn([3, 4, 3, 3], 2)], roundings: 2000 },
  { name: 'labels', fn: (t, i) => t.logSoftmax(1).mul(i.oneHot(4)).sum(), inputs: [randn([6, 4]), randint([6], 4)], roundings: 60 },
]

/** By family. */
export const families: Readonly<Record<string, readonly RoundedCase[]>> = {
  elementwise: elementwiseCases,
  shape: shapeCases,
  reduce: reduceCases,
  'convolution and its gradients': convCases,
  'dynamic convolution and its gradients': dynamicCases,
  images: imageCases,
}
