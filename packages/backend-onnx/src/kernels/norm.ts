// Normalisations (the formulas: core's ops/norm.ts).
//
// What the engine offers as BatchNormalization in training mode is not used: it overwrites its mean and variance inputs in
// place, even initialisers, and has no gradient. Statistics are composed of reductions instead; what remains is affine
// per channel, y = scale x + shift, which BatchNormalization in inference mode computes in one pass.

import { sizeOf } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import { input, product, size } from './shared.ts'

type NormName = 'batchNorm' | 'batchNormGrad' | 'batchNormInference' | 'groupNorm'

export const normKernels: Pick<KernelTable, NormName> = {
  // x, gamma, beta -> y, mean, variance
  batchNorm: (node, l) => {
    const x = input(node, 0)
    if (l.isEmpty(x)) return l.decompose(node)
    const { shape } = l.type(x)
    const [gamma, beta] = [l.get(input(node, 1)), l.get(input(node, 2))]
    const { model } = l
    const count = model.float(countPerChannel(shape))
    const mean = model.op('Div', [sumPerChannel(l, l.get(x), shape), count])
    const centred = model.op('Sub', [l.get(x), perChannel(l, mean, shape)])
    const variance = model.op('Div', [sumPerChannel(l, model.op('Mul', [centred, centred]), shape), count])
    const scale = model.op('Mul', [gamma, inverseDeviation(l, variance, node.attrs.epsilon)])
    return [affine(l, centred, scale, beta, size(shape[1])), mean, variance]
  },

  // x, gamma, mean, variance, dy -> dx, dgamma, dbeta. With M elements a channel, r = 1 / sqrt(variance + epsilon) and
  // c = x - mean: dbeta = sum dy, dgamma = r sum dy c, and
  //   dx = gamma r (dy - dbeta / M - c r dgamma / M) = (gamma r) dy - (gamma r^2 dgamma / M) c - gamma r dbeta / M
  batchNormGrad: (node, l) => {
    const x = input(node, 0)
    if (l.isEmpty(x)) return l.decompose(node)
    const { shape } = l.type(x)
    const { model } = l
    const [gamma, mean, variance, dy] = [1, 2, 3, 4].map((i) => l.get(input(node, i)))
    const mul = (a: string = '', b: string = ''): string => model.op('Mul', [a, b])
    const r = inverseDeviation(l, variance ?? '', node.attrs.epsilon)
    const centred = model.op('Sub', [l.get(x), perChannel(l, mean ?? '', shape)])
    const dbeta = sumPerChannel(l, dy ?? '', shape)
    const dgamma = mul(r, sumPerChannel(l, mul(dy, centred), shape))
    const scale = mul(gamma, r)
    const perElement = model.op('Div', [model.op('Neg', [scale]), model.float(countPerChannel(shape))])
    const direct = affine(l, dy ?? '', scale, mul(perElement, dbeta), size(shape[1]))
    const throughStatistics = mul(centred, perChannel(l, mul(perElement, mul(r, dgamma)), shape))
    return [model.op('Add', [direct, throughStatistics]), dgamma, dbeta]
  },

  // x, gamma, beta, mean, variance -> y
  batchNormInference: (node, l) => l.model.op('BatchNormalization', l.getAll(node.inputs), { epsilon: { float: node.attrs.epsilon } }),

  // The groups as channels of InstanceNormalization, [N, groups, rest]; gamma and beta belong to channels, so they come after.
  groupNorm: (node, l) => {
    const x = input(node, 0)
    const shape = l.shape(x)
    const [batch = 0, ...rest] = shape
    const { groups, epsilon } = node.attrs
    const { model } = l
    const rows = l.reshape(l.get(x), [batch, groups, product(rest) / groups])
    const plain = model.op('InstanceNormalization', [rows, fill(l, groups, 1), fill(l, groups, 0)], { epsilon: { float: epsilon } })
    return affine(l, l.reshape(plain, shape), l.get(input(node, 1)), l.get(input(node, 2)), size(rest[0]))
  },
}

/** scale[c] x + shift[c] in one pass, for x [N, C, ...]. */
export function affine(l: Lowering, x: string, scale: string, shift: string, channels: number): string {
  return l.model.op('BatchNormalization', [x, scale, shift, fill(l, channels, 0), fill(l, channels, 1)], { epsilon: { float: 0 } })
}

// 1 / sqrt(variance + epsilon)
function inverseDeviation(l: Lowering, variance: string, epsilon: number): string {
  return l.model.op('Reciprocal', [l.model.op('Sqrt', [l.model.op('Add', [variance, l.model.float(epsilon)])])])
}

// [N, C, ...spatial] -> [C]: over the pixels of each image first, where neighbours lie together, then over the images.
function sumPerChannel(l: Lowering, x: string, shape: readonly number[]): string {
  const [batch = 0, channels = 0, ...spatial] = shape
  const pixels = sizeOf(spatial)
  const perImage = pixels === 1 ? l.model.reshape(x, [batch, channels]) : l.model.sum(l.model.reshape(x, [batch, channels, pixels]), [2], false)
  return l.model.sum(perImage, [0], false)
}

function countPerChannel(shape: readonly number[]): number {
  return sizeOf(shape) / size(shape[1])
}

// [C] as [C, 1, ...], which broadcasts against [N, C, ...spatial].
function perChannel(l: Lowering, vector: string, shape: readonly number[]): string {
  return l.model.reshape(vector, [size(shape[1]), ...shape.slice(2).map(() => 1)])
}

function fill(l: Lowering, length: number, value: number): string {
  return l.constant({ dtype: 'float32', shape: [length], data: new Float32Array(length).fill(value) })
}
