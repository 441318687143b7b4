// Cases of pools, normalisations and resampling.

import {
  avgPool2d,
  batchNorm,
  batchNormInference,
  formatShape,
  fromNumbers,
  groupNorm,
  type HostTensor,
  maxPool2d,
  type OpName,
  outputSize,
  type Padding2d,
  resize,
  type Size2d,
  tensor,
  type Tensor,
} from '@dynconv/core'
import type { Case } from './compare.ts'
import { halves, randint, randn } from './compare.ts'

type Cases<K extends OpName> = { readonly [N in K]: readonly Case[] }

const [nan, inf] = [Number.NaN, Number.POSITIVE_INFINITY]

interface PoolShape {
  readonly name: string
  readonly kernelSize: Size2d
  readonly stride: Size2d
  readonly padding: Padding2d
}

const pool = (kernelSize: Size2d, stride: Size2d, padding: Padding2d): PoolShape => ({ name: `k${formatShape(kernelSize)} s${formatShape(stride)} p${formatShape(padding)}`, kernelSize, stride, padding })

const pools: readonly PoolShape[] = [
  pool([2, 2], [2, 2], [0, 0, 0, 0]),
  pool([3, 3], [2, 2], [1, 1, 1, 1]),
  pool([3, 2], [1, 2], [0, 2, 1, 0]),
  pool([2, 2], [3, 3], [0, 0, 0, 0]),
  pool([1, 1], [1, 1], [0, 0, 0, 0]),
  pool([8, 7], [1, 1], [0, 0, 0, 0]),
  pool([4, 7], [4, 7], [0, 0, 0, 0]),
]

const x = randn([2, 3, 8, 7])
const dyOf = (p: PoolShape): HostTensor => randn([2, 3, ...outputSize('pool', [8, 7], p)], 2)
// Ties everywhere.
const ties = fromNumbers('float32', [2, 3, 8, 7], randint([2, 3, 8, 7], 3).data)
// Windows with NaN, with infinities, with nothing but -infinity or the lowest float32.
const lowest = -3.4028234663852886e38
const odd = tensor([nan, 1, 2, inf, -inf, -inf, 3, nan, -inf, -inf, nan, inf, lowest, lowest, 0, -0, lowest, lowest, 5, 5].concat(new Array<number>(36).fill(1)), [1, 1, 8, 7])
const low = tensor([lowest, lowest, 1, 2, lowest, lowest, 3, 4], [1, 1, 2, 4])

const maxGrad =
  (p: PoolShape) =>
  (t: Tensor, dy: Tensor): readonly Tensor[] =>
    t.graph.emit('maxPool2dGrad', { kernelSize: p.kernelSize, stride: p.stride, padding: p.padding }, [t, dy])

const avgGrad =
  (p: PoolShape, countIncludePad: boolean) =>
  (dy: Tensor): readonly Tensor[] =>
    dy.graph.emit('avgPool2dGrad', { kernelSize: p.kernelSize, stride: p.stride, padding: p.padding, countIncludePad, inputSize: [8, 7] }, [dy])

const both = [true, false]
const channels = (seed: number): HostTensor => randn([3], seed)
const variance = tensor([0.5, 2, 1e-3])
const normShapes = [[2, 3, 8, 7], [5, 3], [4, 3, 6], [1, 3, 1, 1], [2, 3, 2, 3, 2], [64, 3, 5, 5]] as const
// Far from zero: means must not cancel the deviations away.
const shifted = fromNumbers('float32', [4, 3, 6, 6], randn([4, 3, 6, 6]).data.map((v) => v + 100))

const normGrad = (t: Tensor, gamma: Tensor, mean: Tensor, v: Tensor, dy: Tensor): readonly Tensor[] =>
  t.graph.emit('batchNormGrad', { epsilon: 1e-5 }, [t, gamma, mean, v, dy])

const training = (t: Tensor, gamma: Tensor, beta: Tensor): readonly Tensor[] => batchNorm(t, gamma, beta)

const sizes: readonly (readonly [Size2d, Size2d])[] = [
  [[4, 3], [8, 6]],
  [[4, 3], [12, 9]],
  [[8, 6], [4, 3]],
  [[9, 6], [3, 2]],
  [[5, 7], [8, 4]],
  [[4, 4], [4, 4]],
  [[1, 1], [3, 5]],
  [[3, 5], [1, 1]],
  [[7, 3], [49, 29]],
  [[6, 6], [9, 6]],
]
const modes = ['nearest', 'bilinear'] as const

export const imageCases: Cases<
  | 'maxPool2d' | 'maxPool2dGrad' | 'avgPool2d' | 'avgPool2dGrad' | 'batchNorm' | 'batchNormGrad' | 'batchNormInference' | 'groupNorm'
  | 'resize' | 'resizeGrad'
> = {
  maxPool2d: [
    ...pools.map((p): Case => ({ name: p.name, fn: (t) => maxPool2d(t, p), inputs: [x] })),
    ...pools.map((p): Case => ({ name: `${p.name}, NaN and infinity`, fn: (t) => maxPool2d(t, p), inputs: [odd] })),
    { name: 'lowest numbers', fn: (t) => maxPool2d(t, { kernelSize: 2 }), inputs: [low] },
    { name: 'nothing but -infinity', fn: (t) => maxPool2d(t, { kernelSize: 3, stride: 2, padding: 1 }), inputs: [fromNumbers('float32', [1, 1, 4, 4], new Array<number>(16).fill(-inf))] },
    { name: 'float16', fn: (t) => maxPool2d(t.cast('float16'), { kernelSize: 2 }), inputs: [x], roundings: 1 },
    { name: 'no samples', fn: (t) => maxPool2d(t, { kernelSize: 2 }), inputs: [tensor([], [0, 3, 4, 4])] },
  ],
  maxPool2dGrad: [
    ...pools.map((p): Case => ({ name: p.name, fn: maxGrad(p), inputs: [x, dyOf(p)], roundings: 9 })),
    ...pools.map((p): Case => ({ name: `${p.name}, ties`, fn: maxGrad(p), inputs: [ties, dyOf(p)], roundings: 9 })),
    ...pools.map((p): Case => ({ name: `${p.name}, NaN and infinity`, fn: maxGrad(p), inputs: [odd, randn([1, 1, ...outputSize('pool', [8, 7], p)])], roundings: 9 })),
    { name: 'lowest numbers', fn: maxGrad(pool([2, 2], [2, 2], [0, 0, 0, 0])), inputs: [low, randn([1, 1, 1, 2])] },
    { name: 'float16', fn: (t, dy) => maxGrad(pool([3, 3], [2, 2], [1, 1, 1, 1]))(t.cast('float16'), dy.cast('float16')), inputs: [x, halves([2, 3, 4, 4])], roundings: 4 },
  ],
  avgPool2d: pools.flatMap((p) => both.map((countIncludePad): Case => ({ name: `${p.name} ${countIncludePad}`, fn: (t) => avgPool2d(t, { ...p, countIncludePad }), inputs: [x], roundings: 60 }))),
  avgPool2dGrad: pools.flatMap((p) => both.map((c): Case => ({ name: `${p.name} ${c}`, fn: avgGrad(p, c), inputs: [dyOf(p)], roundings: 20 }))),
  batchNorm: [
    ...normShapes.map((shape): Case => ({ name: formatShape(shape), fn: training, inputs: [randn(shape), channels(2), channels(3)], roundings: shape.reduce<number>((n, d) => n * d, 1) / 3 + 20 })),
    // The mean of 144 numbers around 100 is off by some 100 u: that much, against deviations of 1, is what float32 can do.
    { name: 'far from zero', fn: training, inputs: [shifted, channels(2), channels(3)], roundings: 400 },
    { name: 'no samples', fn: training, inputs: [tensor([], [0, 3, 2, 2]), channels(2), channels(3)] },
    { name: 'float16', fn: (t, g, b) => training(t.cast('float16'), g.cast('float16'), b.cast('float16')), inputs: [x, channels(2), channels(3)], roundings: 8 },
  ],
  batchNormGrad: [
    ...normShapes.map((shape): Case => ({ name: formatShape(shape), fn: normGrad, inputs: [randn(shape), channels(2), channels(3), variance, randn(shape, 5)], roundings: shape.reduce<number>((n, d) => n * d, 1) / 3 + 20 })),
    { name: 'no samples', fn: normGrad, inputs: [tensor([], [0, 3, 2, 2]), channels(2), channels(3), variance, tensor([], [0, 3, 2, 2])] },
  ],
  batchNormInference: normShapes.map((shape) => ({
    name: formatShape(shape),
    fn: (t: Tensor, g: Tensor, b: Tensor, m: Tensor, v: Tensor) => batchNormInference(t, g, b, m, v),
    inputs: [randn(shape), channels(2), channels(3), channels(4), variance],
    roundings: 12,
  })),
  groupNorm: [1, 2, 4].flatMap((groups): readonly Case[] => [
    { name: `${groups} groups`, fn: (t, g, b) => groupNorm(t, g, b, { groups }), inputs: [randn([3, 4, 5, 6]), randn([4], 2), randn([4], 3)], roundings: 140 },
    { name: `${groups} groups, no pixels axes`, fn: (t, g, b) => groupNorm(t, g, b, { groups }), inputs: [randn([3, 4]), randn([4], 2), randn([4], 3)], roundings: 40 },
    { name: `${groups} groups, five axes`, fn: (t, g, b) => groupNorm(t, g, b, { groups, epsilon: 1e-2 }), inputs: [randn([2, 4, 2, 3, 2]), randn([4], 2), randn([4], 3)], roundings: 60 },
    { name: `${groups} groups, no samples`, fn: (t, g, b) => groupNorm(t, g, b, { groups }), inputs: [tensor([], [0, 4, 2]), randn([4], 2), randn([4], 3)] },
  ]),
  resize: modes.flatMap((mode) => [
    ...sizes.map(([from, to]): Case => ({ name: `${mode} ${formatShape(from)} to ${formatShape(to)}`, fn: (t) => resize(t, { size: to, mode }), inputs: [randn([2, 3, ...from])], roundings: 8 })),
    { name: `${mode}, no samples`, fn: (t: Tensor) => resize(t, { scale: 2, mode }), inputs: [tensor([], [0, 3, 2, 2])] },
  ]),
  resizeGrad: modes.flatMap((mode) =>
    sizes.map(([from, to]): Case => ({
      name: `${mode} ${formatShape(from)} to ${formatShape(to)}`,
      fn: (dy) => dy.graph.emit('resizeGrad', { inputSize: from, mode }, [dy]),
      inputs: [randn([2, 3, ...to])],
      roundings: 30,
    })),
  ),
}
