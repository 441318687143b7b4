import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { DTypeError, ShapeError } from '../backend/errors.ts'
import { apply, applyAll, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { checkGradient, checkSecondOrder, randomRef } from '../testing/gradcheck.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { type Shape, sizeOf, type StaticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Conv2dAttrs, Size2d } from './attrs.ts'
import { outputSize } from './checks2d.ts'
import { type Conv2dOptions, conv2d, conv2dFilterGrad, conv2dInputGrad, convAttrs, convOps } from './conv.ts'
import type { RefTensor, ValueType } from './define.ts'

const counting = (...shape: number[]) => tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => i), shape)
const ones = (...shape: number[]) => tensor(new Float32Array(sizeOf(shape)).fill(1), shape)
const f32 = (...shape: Shape): ValueType => ({ dtype: 'float32', shape })
const unit: Conv2dAttrs = { stride: [1, 1], padding: [0, 0, 0, 0], dilation: [1, 1], groups: 1 }

test('a 3x3 kernel of ones adds up a window', () => {
  // 0..15 as 4x4: windows sum to 9 times their centres 5, 6, 9, 10.
  expect(apply((x, w) => conv2d(x, w), counting(1, 1, 4, 4), ones(1, 1, 3, 3))).toEqual({ dtype: 'float32', shape: [1, 1, 2, 2], values: [45, 54, 81, 90] })
})

test('it is a cross-correlation: the kernel is not flipped, padding is zero, and the bias is added to each channel', () => {
  const x = tensor([1, 2, 3], [1, 1, 1, 3])
  const w = tensor([10, 1], [1, 1, 1, 2])
  expect(apply((a, b) => conv2d(a, b), x, w).values).toEqual([12, 23])
  expect(apply((a, b) => conv2d(a, b, { padding: [0, 0, 1, 2] }), x, w).values).toEqual([1, 12, 23, 30, 0])
  const two = tensor([10, 1, 1, 0], [2, 1, 1, 2])
  expect(apply((a, b, c) => conv2d(a, b, { bias: c }), x, two, tensor([100, 200])).values).toEqual([112, 123, 201, 202])
})

test('a stride skips, a dilation spreads, groups keep channels apart', () => {
  const x = counting(1, 1, 5, 5)
  const corners = tensor([1, 0, 0, 0, 0, 0, 0, 0, 1], [1, 1, 3, 3])
  expect(apply((a, b) => conv2d(a, b, { stride: 2 }), x, corners).values).toEqual([0 + 12, 2 + 14, 10 + 22, 12 + 24])
  expect(apply((a, b) => conv2d(a, b, { dilation: 2 }), x, corners).values).toEqual([0 + 24])
  // Channel c of 4 has the one value c; two groups, each 2 channels to 1 output.
  const channels = tensor([0, 1, 2, 3], [1, 4, 1, 1])
  expect(apply((a, b) => conv2d(a, b, { groups: 2 }), channels, tensor([1, 10, 1, 10], [2, 2, 1, 1])).values).toEqual([10, 32])
  // Depthwise with two outputs a channel.
  expect(apply((a, b) => conv2d(a, b, { groups: 4 }), channels, counting(8, 1, 1, 1)).values).toEqual([0, 0, 2, 3, 8, 10, 18, 21])
})

test("padding 'same' keeps the size, with the odd pixel at the bottom and right", () => {
  const x = tensor([1, 2, 3, 4], [1, 1, 1, 4])
  expect(apply((a, b) => conv2d(a, b, { padding: 'same' }), x, ones(1, 1, 1, 2)).values).toEqual([3, 5, 7, 4])
  expect(typeOfResult((a, b) => conv2d(a, b, { padding: 'same', dilation: [3, 2] }), f32(1, 1, 9, 8), f32(1, 1, 4, 3)).shape).toEqual([1, 1, 9, 8])
  expect(typeOfResult((a, b) => conv2d(a, b, { padding: 'valid' }), f32(1, 1, 9, 8), f32(1, 1, 4, 3)).shape).toEqual([1, 1, 6, 6])
})

test('the gradients of a 1x1 convolution are products of matrices', () => {
  const x = tensor([1, 2, 3, 4], [1, 2, 1, 2])
  const w = tensor([5, 6], [1, 2, 1, 1])
  expect(gradientsOfSum((a, b, c) => conv2d(a, b, { bias: c }), x, w, tensor([7]))).toEqual([[5, 5, 6, 6], [3, 7], [2]])
})

interface Case {
  readonly x: StaticShape
  readonly weight: StaticShape
  readonly options?: Omit<Conv2dOptions, 'bias'>
}

// Corners: stride x dilation x groups x padding of each side x kernels that are not square x sizes that do not divide.
const cases: Readonly<Record<string, Case>> = {
  '1x1': { x: [2, 3, 2, 2], weight: [2, 3, 1, 1] },
  '1x1, stride 2, one pixel left over': { x: [1, 2, 4, 3], weight: [2, 2, 1, 1], options: { stride: 2 } },
  '1x1 with padding': { x: [1, 2, 2, 1], weight: [1, 2, 1, 1], options: { padding: [1, 0, 0, 2] } },
  '3x3': { x: [2, 2, 4, 4], weight: [2, 2, 3, 3], options: { padding: 1 } },
  'kernel as large as the image': { x: [1, 1, 3, 4], weight: [2, 1, 3, 4] },
  'kernel larger than the image, padded': { x: [1, 2, 1, 2], weight: [1, 2, 3, 3], options: { padding: [1, 1] } },
  'unequal sides': { x: [1, 1, 3, 4], weight: [1, 1, 2, 3], options: { padding: [0, 2, 1, 0] } },
  'stride that does not divide': { x: [1, 2, 6, 5], weight: [2, 2, 3, 2], options: { stride: [2, 3], padding: [1, 0, 0, 1] } },
  'stride larger than the kernel': { x: [1, 1, 5, 7], weight: [1, 1, 1, 2], options: { stride: [2, 4] } },
  dilation: { x: [1, 1, 6, 7], weight: [1, 1, 3, 2], options: { dilation: [2, 3], padding: [1, 2, 0, 1] } },
  'stride and dilation': { x: [1, 2, 7, 6], weight: [1, 2, 2, 3], options: { stride: [3, 2], dilation: [2, 1], padding: [0, 1, 2, 1] } },
  groups: { x: [2, 4, 3, 3], weight: [6, 2, 2, 2], options: { groups: 2 } },
  'groups, stride, dilation, unequal sides': { x: [1, 4, 6, 5], weight: [4, 2, 2, 3], options: { groups: 2, stride: [2, 1], dilation: [1, 2], padding: [2, 1, 0, 3] } },
  depthwise: { x: [1, 3, 4, 4], weight: [6, 1, 3, 3], options: { groups: 3, padding: 1, stride: 2 } },
}

const names = Object.keys(cases)
const caseOf = (name: string): Case => cases[name]!
const refs = (...shapes: StaticShape[]): RefTensor[] => shapes.map((shape, i) => randomRef(shape, 10 + i))
const hosts = (list: readonly RefTensor[]) => list.map((t) => tensor(t.data, t.shape))
const sizeFrom = (shape: Shape): Size2d => [Number(shape[2]), Number(shape[3])]

// The definition, index by index, with a test for every bound; x(n, c, row, column) is 0 outside.
function byDefinition(x: RefTensor, w: RefTensor, attrs: Conv2dAttrs): number[] {
  const [batch = 0, channels = 0, height = 0, width = 0] = x.shape
  const [outChannels = 0, inPerGroup = 0, kh = 0, kw = 0] = w.shape
  const [outHeight, outWidth] = outputSize('test', [height, width], { ...attrs, kernelSize: [kh, kw] })
  const pixel = (n: number, c: number, h: number, v: number): number =>
    h < 0 || v < 0 || h >= height || v >= width ? 0 : x.data[((n * channels + c) * height + h) * width + v]!
  const result: number[] = []
  for (let n = 0; n < batch; n++) {
    for (let o = 0; o < outChannels; o++) {
      for (let p = 0; p < outHeight; p++) {
        for (let q = 0; q < outWidth; q++) {
          let sum = 0
          for (let i = 0; i < inPerGroup; i++) {
            for (let r = 0; r < kh; r++) {
              for (let s = 0; s < kw; s++) {
                const channel = Math.floor(o / (outChannels / attrs.groups)) * inPerGroup + i
                const at = pixel(n, channel, p * attrs.stride[0] - attrs.padding[0] + r * attrs.dilation[0], q * attrs.stride[1] - attrs.padding[2] + s * attrs.dilation[1])
                sum += at * w.data[((o * inPerGroup + i) * kh + r) * kw + s]!
              }
            }
          }
          result.push(sum)
        }
      }
    }
  }
  return result
}

test.each(names)('the definition, index by index: %s', (name) => {
  const { x, weight, options = {} } = caseOf(name)
  const integers = refs(x, weight).map((t) => ({ shape: t.shape, data: t.data.map((v) => Math.round(v * 8)) }))
  let attrs = unit
  const got = apply(
    (a, b) => {
      attrs = convAttrs('test', b, options)
      return conv2d(a, b, options)
    },
    ...hosts(integers),
  )
  expect(got.values).toEqual(byDefinition(integers[0]!, integers[1]!, attrs).map((v) => v + 0))
})

test.each(names)('the three ops are derivatives of one trilinear form: %s', (name) => {
  const { x, weight, options = {} } = caseOf(name)
  const sums = applyAll(
    (a, b, c) => {
      const attrs = convAttrs('test', b, options)
      const y = conv2d(a, b, options)
      const dy = y.mul(c).exp()
      const dx = conv2dInputGrad(dy, b, { ...attrs, inputSize: sizeFrom(a.shape) })
      const dw = conv2dFilterGrad(a, dy, { ...attrs, kernelSize: sizeFrom(b.shape) })
      return [y.mul(dy).sum(), a.mul(dx).sum(), b.mul(dw).sum()]
    },
    ...hosts(refs(x, weight)),
    tensor(0.03125),
  ).map((t) => t.values[0]!)
  expect(sums[0]).not.toBe(0)
  for (const other of sums.slice(1)) expect(Math.abs(other - sums[0]!) / Math.abs(sums[0]!)).toBeLessThan(1e-12)
})

test.each(names)('gradients of conv2d, first and second: %s', (name) => {
  const { x, weight, options } = caseOf(name)
  const f = (a: Tensor, b: Tensor, c?: Tensor): Tensor => conv2d(a, b, { ...options, bias: c })
  expect(checkGradient(f, refs(x, weight, [weight[0]!])).count).toBe(sizeOf(x) + sizeOf(weight) + weight[0]!)
  expect(checkSecondOrder(f, refs(x, weight)).count).toBeGreaterThan(0)
})

test.each(names)('gradients of the gradients as ops of their own: %s', (name) => {
  const { x, weight, options = {} } = caseOf(name)
  const y = typeOfResult((a, b) => conv2d(a, b, options), { shape: x }, { shape: weight }).shape as StaticShape
  const inputGrad = (dy: Tensor, w: Tensor): Tensor => conv2dInputGrad(dy, w, { ...convAttrs('test', w, options), inputSize: sizeFrom(x) })
  const filterGrad = (a: Tensor, dy: Tensor): Tensor => conv2dFilterGrad(a, dy, { ...convAttrs('test', tensorLike(a, weight), options), kernelSize: sizeFrom(weight) })
  expect(checkGradient(inputGrad, refs(y, weight)).count).toBe(sizeOf(y) + sizeOf(weight))
  expect(checkGradient(filterGrad, refs(x, y)).count).toBe(sizeOf(x) + sizeOf(y))
})

const tensorLike = (t: Tensor, shape: StaticShape): Tensor => t.full(0, shape)

test('third derivatives', () => {
  const gradient = (a: Tensor, b: Tensor): readonly Tensor[] => gradients(conv2d(a, b, { padding: 1, stride: 2 }).square().sum(), [a, b])
  expect(checkSecondOrder(gradient, refs([1, 1, 3, 3], [1, 1, 3, 3])).count).toBe(18)
})

test('an empty batch gives empty images and a zero weight gradient', () => {
  expect(apply((a, b) => conv2d(a, b, { padding: 1 }), counting(0, 2, 4, 4), ones(3, 2, 3, 3))).toEqual({ dtype: 'float32', shape: [0, 3, 4, 4], values: [] })
  expect(gradientsOfSum((a, b) => conv2d(a, b), counting(0, 1, 2, 2), ones(1, 1, 2, 2))).toEqual([[], [0, 0, 0, 0]])
})

test('infinities and NaN pass, and a tap outside the image adds nothing', () => {
  const x = tensor([Number.NaN, 1, 2, Number.POSITIVE_INFINITY], [1, 1, 1, 4])
  expect(apply((a, b) => conv2d(a, b), x, tensor([1, 1], [1, 1, 1, 2])).values).toEqual([Number.NaN, 3, Number.POSITIVE_INFINITY])
  expect(apply((a, b) => conv2d(a, b, { padding: [0, 0, 1, 0] }), tensor([1], [1, 1, 1, 1]), tensor([Number.POSITIVE_INFINITY, 1], [1, 1, 1, 2])).values).toEqual([1])
})

test('the batch may be a name; gradients keep it', () => {
  expect(typeOfResult((a, b) => conv2d(a, b, { stride: 2 }), f32('N', 3, 8, 8), f32(4, 3, 3, 3))).toEqual(f32('N', 4, 3, 3))
  expect(typeOfResult((dy, b) => conv2dInputGrad(dy, b, { ...unit, inputSize: [8, 8] }), f32('N', 4, 6, 6), f32(4, 3, 3, 3))).toEqual(f32('N', 3, 8, 8))
  expect(typeOfResult((a, dy) => conv2dFilterGrad(a, dy, { ...unit, kernelSize: [3, 3] }), f32('N', 3, 8, 8), f32('N', 4, 6, 6))).toEqual(f32(4, 3, 3, 3))
})

const inferConv = (x: ValueType, weight: ValueType, attrs: Partial<Conv2dAttrs> = {}, ...bias: ValueType[]) => convOps.conv2d.infer({ ...unit, ...attrs }, [x, weight, ...bias])

test('what conv2d refuses, and says', () => {
  const x = f32(1, 64, 7, 7)
  const w = f32(64, 64, 3, 3)
  expect(() => inferConv(x, w, { groups: 3 })).toThrow(new ShapeError('conv2d: groups=3 must divide inChannels=64'))
  expect(() => inferConv(f32(1, 6, 7, 7), f32(64, 2, 3, 3), { groups: 3 })).toThrow(new ShapeError('conv2d: groups=3 must divide outChannels=64'))
  expect(() => inferConv(x, w, { groups: 2 })).toThrow(new ShapeError('conv2d: weight takes 64 channels a group, but x has 32 (inChannels=64 in groups=2)'))
  expect(() => inferConv(x, f32(64, 32, 3, 3))).toThrow(new ShapeError('conv2d: weight takes 32 channels a group, but x has 64'))
  expect(() => inferConv(x, f32(64, 64, 5, 5), { dilation: [2, 2] })).toThrow(
    new ShapeError('conv2d: kernel 5x5 (dilation 2: 9x9) is larger than the padded input 7x7'),
  )
  expect(() => inferConv(x, f32(64, 64, 5, 2), { dilation: [1, 7], padding: [0, 0, 0, 0] })).toThrow('conv2d: kernel 5x2 (dilation 1x7: 5x8) is larger than the padded input 7x7')
  expect(() => inferConv(x, f32(64, 64, 8, 8))).toThrow(new ShapeError('conv2d: kernel 8x8 is larger than the padded input 7x7'))
  expect(() => inferConv(f32(1, 64, 0, 7), w, { padding: [2, 2, 2, 2] })).toThrow(new ShapeError('conv2d: the input has no pixels (0x7)'))
  expect(() => inferConv(f32(0, 64, 7, 0), f32(64, 64, 1, 1))).toThrow(new ShapeError('conv2d: the input has no pixels (7x0)'))
  expect(() => inferConv(f32(64, 7, 7), w)).toThrow(new ShapeError('conv2d: x must be [N, C, H, W], got [64, 7, 7]'))
  expect(() => inferConv(x, f32(64, 64, 3))).toThrow(new ShapeError('conv2d: weight must be [O, I/groups, kh, kw], got [64, 64, 3]'))
  expect(() => inferConv(x, f32(0, 64, 3, 3))).toThrow('conv2d: weight must not be empty, got [0, 64, 3, 3]')
  expect(() => inferConv(f32(1, 0, 7, 7), w)).toThrow('conv2d: x must have channels, got [1, 0, 7, 7]')
  expect(() => inferConv(x, w, {}, f32(3))).toThrow(new ShapeError('conv2d: bias must be [64], got [3]'))
  expect(() => inferConv(f32(1, 64, 'H', 7), w)).toThrow("conv2d: x's height must be a known size, got H; specialise the graph first")
  expect(() => convOps.conv2d.infer(unit, [x])).toThrow('conv2d: takes 3 inputs (x, weight, bias), got 1')
  expect(() => inferConv({ dtype: 'int32', shape: x.shape }, { dtype: 'int32', shape: w.shape })).toThrow(new DTypeError('conv2d: x must be float32 or float16, got int32'))
  expect(() => inferConv(x, { dtype: 'float16', shape: w.shape })).toThrow(DTypeError)
})

test('attributes are checked, for they may come from a file', () => {
  const [x, w] = [f32(1, 4, 7, 7), f32(4, 4, 3, 3)]
  expect(() => inferConv(x, w, { stride: [0, 1] })).toThrow('conv2d: stride[0]=0 must be an integer >= 1')
  expect(() => inferConv(x, w, { dilation: [1, 1.5] })).toThrow('conv2d: dilation[1]=1.5 must be an integer >= 1')
  expect(() => inferConv(x, w, { padding: [0, -1, 0, 0] })).toThrow('conv2d: padding[1]=-1 must be an integer >= 0')
  expect(() => inferConv(x, w, { padding: [0, 0] as unknown as Conv2dAttrs['padding'] })).toThrow('conv2d: padding must have 4 elements, got [0, 0]')
  expect(() => inferConv(x, w, { groups: 0 })).toThrow('conv2d: groups=0 must be an integer >= 1')
})

test('what the gradients refuse', () => {
  const inputGrad = (dy: ValueType, w: ValueType, inputSize: Size2d, groups = 1) => convOps.conv2dInputGrad.infer({ ...unit, groups, inputSize }, [dy, w])
  expect(() => inputGrad(f32(1, 4, 5, 5), f32(4, 3, 3, 3), [8, 8])).toThrow(new ShapeError('conv2dInputGrad: dy is 5x5, but an input of 8x8 gives 6x6'))
  expect(() => inputGrad(f32(1, 5, 6, 6), f32(4, 3, 3, 3), [8, 8])).toThrow(new ShapeError('conv2dInputGrad: dy has 5 channels, but the kernels make 4'))
  expect(() => inputGrad(f32(1, 4, 6, 6), f32(4, 3, 3, 3), [8, 8], 3)).toThrow(new ShapeError('conv2dInputGrad: groups=3 must divide outChannels=4'))
  const filterGrad = (x: ValueType, dy: ValueType, kernelSize: Size2d) => convOps.conv2dFilterGrad.infer({ ...unit, kernelSize }, [x, dy])
  expect(() => filterGrad(f32(2, 3, 8, 8), f32(1, 4, 6, 6), [3, 3])).toThrow(new ShapeError('conv2dFilterGrad: x has batch 2, dy has batch 1; they must be equal'))
  expect(() => filterGrad(f32(1, 3, 8, 8), f32(1, 4, 6, 6), [2, 3])).toThrow(new ShapeError('conv2dFilterGrad: dy is 6x6, but an input of 8x8 gives 7x6'))
})

test('multiply-adds: N * O * OH * OW * (I/g) * kh * kw for each of the three', () => {
  const [x, w, y] = [[2, 4, 8, 8], [6, 2, 3, 3], [2, 6, 6, 6]]
  const expected = 2 * 6 * 6 * 6 * 2 * 3 * 3
  expect(convOps.conv2d.macs?.({ ...unit, groups: 2 }, [x, w], [y])).toBe(expected)
  expect(convOps.conv2dInputGrad.macs?.({ ...unit, groups: 2, inputSize: [8, 8] }, [y, w], [x])).toBe(expected)
  expect(convOps.conv2dFilterGrad.macs?.({ ...unit, groups: 2, kernelSize: [3, 3] }, [x, y], [w])).toBe(expected)
})
