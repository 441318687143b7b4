// Normalisation of x [N, C, ...spatial] per channel over batch and pixels (batchNorm: Ioffe & Szegedy 2015) or per sample
// over a group of channels and pixels (groupNorm: Wu & He 2018). Running statistics are a layer's business, not an op's.
//
// batchNorm, with M = N * pixels and r = 1 / sqrt(v + epsilon), per channel:
//   m = sum x / M,  v = sum (x - m)^2 / M (biased),  z = (x - m) r,  y = gamma z + beta.
// Gradient of y alone, given dy, through m and v too:
//   dbeta = sum dy,  dgamma = sum dy z,
//   dz = gamma dy;  dv = sum dz (x - m) * (-1/2) r^3;  dm = -r sum dz  (the part through v is -2/M dv sum (x - m) = 0)
//   dx = dz r + dv 2 (x - m) / M + dm / M = gamma r (dy - dbeta / M - z dgamma / M).
// Where the outputs m and v have gradients gm, gv of their own, these add to dx: gm / M + gv 2 (x - m) / M.
//
// A division by M stays a division: 1 / M as a constant would be rounded to the dtype.

import { ShapeError, ValueError } from '../backend/errors.ts'
import { checkDType } from '../tensor/dtype.ts'
import { formatShape, known, sameShape, type Shape, type StaticShape, sizeOf } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import { checkInt, floats, sameDType, take } from './checks.ts'
import { defineOp, type OpTable, type ValueType } from './define.ts'
import { addAt, at, refTensor } from './refs.ts'

/** Options of a normalisation. */
export interface NormOptions {
  /** Added to the variance; 1e-5 unless given. */
  readonly epsilon?: number
}

/** Options of `groupNorm`. */
export interface GroupNormOptions extends NormOptions {
  /** How many groups the channels form; 1: all channels together (layer normalisation). */
  readonly groups: number
}

/**
 * `x` [N, C, ...spatial] with mean `beta` and standard deviation `gamma` (both [C]) in each channel, from the statistics
 * of this very batch (training mode), which are returned too: mean and biased variance (divided by the count), both [C].
 *
 * @example const [y, mean, variance] = batchNorm(x, gamma, beta)
 * @throws ShapeError when gamma or beta do not fit; ValueError for an epsilon that is not positive
 */
export function batchNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: NormOptions = {}): readonly [y: Tensor, mean: Tensor, variance: Tensor] {
  const outputs = x.graph.emit('batchNorm', { epsilon: options.epsilon ?? defaultEpsilon }, [x, gamma, beta])
  return take('batchNorm', outputs, 'y', 'mean', 'variance')
}

/**
 * (x - mean) / sqrt(variance + epsilon) * gamma + beta for `x` [N, C, ...spatial], the rest [C]: batch normalisation with
 * given statistics (inference mode).
 *
 * @throws ShapeError when a vector does not fit; ValueError for an epsilon that is not positive
 */
export function batchNormInference(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, options: NormOptions = {}): Tensor {
  return only(x.graph.emit('batchNormInference', { epsilon: options.epsilon ?? defaultEpsilon }, [x, gamma, beta, mean, variance]))
}

/**
 * `x` [N, C, ...spatial] normalised over each sample's groups of C/groups channels, times `gamma` plus `beta` (both [C]).
 *
 * @example groupNorm(x, gamma, beta, { groups: 8 })
 * @throws ShapeError when groups do not divide the channels, or a vector does not fit
 */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: GroupNormOptions): Tensor {
  return only(x.graph.emit('groupNorm', { groups: options.groups, epsilon: options.epsilon ?? defaultEpsilon }, [x, gamma, beta]))
}

const defaultEpsilon = 1e-5

type NormName = 'batchNorm' | 'batchNormGrad' | 'batchNormInference' | 'groupNorm'

/** The definitions. */
export const normOps: Pick<OpTable, NormName> = {
  batchNorm: defineOp({
    name: 'batchNorm',
    infer: ({ epsilon }, inputs) => {
      const [x, gamma, beta] = take('batchNorm', inputs, 'x', 'gamma', 'beta')
      const vector = inferNorm('batchNorm', epsilon, x, { gamma, beta })
      return [{ dtype: x.dtype, shape: x.shape }, vector, vector]
    },
    gradient: ({ attrs, inputs, outputs, grads, needs }) => {
      const [x, gamma] = take('batchNorm', inputs.slice(0, 2), 'x', 'gamma')
      const [, mean, variance] = take('batchNorm', outputs, 'y', 'mean', 'variance')
      const [dy, gm, gv] = grads
      const [dx, dgamma, dbeta] = dy ? x.graph.emit('batchNormGrad', attrs, [x, gamma, mean, variance, dy]) : []
      if (!needs[0]) return [undefined, dgamma, dbeta]
      const throughMean = gm ? perChannel(gm, x).div(countPerChannel('batchNorm', x.shape)).broadcastTo(x.shape) : undefined
      const throughVariance = gv
        ? x.sub(perChannel(mean, x)).mul(perChannel(gv.mul(2), x)).div(countPerChannel('batchNorm', x.shape))
        : undefined
      return [sumOf(dx, throughMean, throughVariance), dgamma, dbeta]
    },
    reference: ({ epsilon }, inputs) => {
      const [x, gamma, beta] = take('batchNorm', inputs, 'x', 'gamma', 'beta')
      const y = refTensor(x.shape)
      const mean = refTensor(gamma.shape)
      const variance = refTensor(gamma.shape)
      for (let c = 0; c < gamma.data.length; c++) {
        const list = elementsOf(x.shape, c, c + 1)
        const [m, v] = moments(x.data, list)
        mean.data[c] = m
        variance.data[c] = v
        for (const i of list) y.data[i] = ((at(x.data, i) - m) / Math.sqrt(v + epsilon)) * at(gamma.data, c) + at(beta.data, c)
      }
      return [y, mean, variance]
    },
    decompose: ({ epsilon }, inputs) => {
      const [x, gamma, beta] = take('batchNorm', inputs, 'x', 'gamma', 'beta')
      const count = countPerChannel('batchNorm', x.shape)
      const axes = otherAxes(x)
      const mean = x.sum(axes, true).div(count)
      const centred = x.sub(mean)
      const variance = centred.square().sum(axes, true).div(count)
      const y = centred.mul(variance.add(epsilon).rsqrt()).mul(perChannel(gamma, x)).add(perChannel(beta, x))
      return [y, mean.reshape(gamma.shape), variance.reshape(gamma.shape)]
    },
  }),

  batchNormGrad: defineOp({
    name: 'batchNormGrad',
    // x, gamma, and of batchNorm's outputs mean and variance, and the gradient of y -> dx, dgamma, dbeta
    infer: ({ epsilon }, inputs) => {
      const [x, gamma, mean, variance, dy] = take('batchNormGrad', inputs, 'x', 'gamma', 'mean', 'variance', 'dy')
      const vector = inferNorm('batchNormGrad', epsilon, x, { gamma, mean, variance })
      sameDType('batchNormGrad', ['x', 'dy'], [x, dy])
      if (!sameShape(dy.shape, x.shape)) throw new ShapeError(`batchNormGrad: dy must be ${formatShape(x.shape)}, got ${formatShape(dy.shape)}`)
      return [{ dtype: x.dtype, shape: x.shape }, vector, vector]
    },
    reference: ({ epsilon }, inputs) => {
      const [x, gamma, mean, variance, dy] = take('batchNormGrad', inputs, 'x', 'gamma', 'mean', 'variance', 'dy')
      const dx = refTensor(x.shape)
      const dgamma = refTensor(gamma.shape)
      const dbeta = refTensor(gamma.shape)
      for (let c = 0; c < gamma.data.length; c++) {
        const list = elementsOf(x.shape, c, c + 1)
        const m = at(mean.data, c)
        const r = 1 / Math.sqrt(at(variance.data, c) + epsilon)
        for (const i of list) {
          addAt(dbeta.data, c, at(dy.data, i))
          addAt(dgamma.data, c, at(dy.data, i) * (at(x.data, i) - m) * r)
        }
        for (const i of list) {
          const z = (at(x.data, i) - m) * r
          dx.data[i] = at(gamma.data, c) * r * (at(dy.data, i) - at(dbeta.data, c) / list.length - (z * at(dgamma.data, c)) / list.length)
        }
      }
      return [dx, dgamma, dbeta]
    },
    decompose: ({ epsilon }, inputs) => {
      const [x, gamma, mean, variance, dy] = take('batchNormGrad', inputs, 'x', 'gamma', 'mean', 'variance', 'dy')
      const count = countPerChannel('batchNormGrad', x.shape)
      const axes = otherAxes(x)
      const r = perChannel(variance.add(epsilon).rsqrt(), x)
      const z = x.sub(perChannel(mean, x)).mul(r)
      const dbeta = dy.sum(axes, true)
      const dgamma = dy.mul(z).sum(axes, true)
      const dx = dy.sub(dbeta.div(count)).sub(z.mul(dgamma.div(count))).mul(perChannel(gamma, x).mul(r))
      return [dx, dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)]
    },
  }),

  batchNormInference: defineOp({
    name: 'batchNormInference',
    infer: ({ epsilon }, inputs) => {
      const [x, gamma, beta, mean, variance] = take('batchNormInference', inputs, 'x', 'gamma', 'beta', 'mean', 'variance')
      inferNorm('batchNormInference', epsilon, x, { gamma, beta, mean, variance })
      return { dtype: x.dtype, shape: x.shape }
    },
    reference: ({ epsilon }, inputs) => {
      const [x, gamma, beta, mean, variance] = take('batchNormInference', inputs, 'x', 'gamma', 'beta', 'mean', 'variance')
      const y = refTensor(x.shape)
      for (let c = 0; c < gamma.data.length; c++) {
        const scale = at(gamma.data, c) / Math.sqrt(at(variance.data, c) + epsilon)
        for (const i of elementsOf(x.shape, c, c + 1)) y.data[i] = (at(x.data, i) - at(mean.data, c)) * scale + at(beta.data, c)
      }
      return y
    },
    decompose: ({ epsilon }, inputs) => {
      const [x, gamma, beta, mean, variance] = take('batchNormInference', inputs, 'x', 'gamma', 'beta', 'mean', 'variance')
      const scale = gamma.mul(variance.add(epsilon).rsqrt())
      return [x.sub(perChannel(mean, x)).mul(perChannel(scale, x)).add(perChannel(beta, x))]
    },
  }),

  groupNorm: defineOp({
    name: 'groupNorm',
    infer: ({ groups, epsilon }, inputs) => {
      const [x, gamma, beta] = take('groupNorm', inputs, 'x', 'gamma', 'beta')
      const { shape } = inferNorm('groupNorm', epsilon, x, { gamma, beta })
      checkInt('groupNorm', 'groups', groups, 1)
      const channels = known('groupNorm', 'channels', shape[0])
      if (channels % groups !== 0) throw new ShapeError(`groupNorm: groups=${groups} must divide channels=${channels}`)
      return { dtype: x.dtype, shape: x.shape }
    },
    reference: ({ groups, epsilon }, inputs) => {
      const [x, gamma, beta] = take('groupNorm', inputs, 'x', 'gamma', 'beta')
      const y = refTensor(x.shape)
      const share = gamma.data.length / groups
      const [batch = 0] = x.shape
      for (let n = 0; n < batch; n++) {
        for (let g = 0; g < groups; g++) {
          const [m, v] = moments(x.data, elementsOf(x.shape, g * share, (g + 1) * share, n))
          for (let c = g * share; c < (g + 1) * share; c++) {
            for (const i of elementsOf(x.shape, c, c + 1, n)) {
              y.data[i] = ((at(x.data, i) - m) / Math.sqrt(v + epsilon)) * at(gamma.data, c) + at(beta.data, c)
            }
          }
        }
      }
      return y
    },
    // The groups of a sample as rows: [N, groups, C/groups * pixels]. The batch may be a name.
    decompose: ({ groups, epsilon }, inputs) => {
      const [x, gamma, beta] = take('groupNorm', inputs, 'x', 'gamma', 'beta')
      const [batch = 0, ...rest] = x.shape
      const size = rest.map((d) => known('groupNorm', 'each size but the batch', d)).reduce((a, b) => a * b, 1) / groups
      const rows = x.reshape([batch, groups, size])
      const centred = rows.sub(rows.sum([2], true).div(size))
      const variance = centred.square().sum([2], true).div(size)
      const z = centred.mul(variance.add(epsilon).rsqrt()).reshape(x.shape)
      return [z.mul(perChannel(gamma, x)).add(perChannel(beta, x))]
    },
  }),
}

// Checks what all four have in common, and gives the type of a vector over the channels.
function inferNorm(who: NormName, epsilon: number, x: ValueType, vectors: Readonly<Record<string, ValueType>>): ValueType {
  if (!(epsilon > 0 && epsilon < Number.POSITIVE_INFINITY)) throw new ValueError(`${who}: epsilon=${String(epsilon)} must be positive`)
  checkDType(who, 'x', x.dtype, floats)
  if (x.shape.length < 2) throw new ShapeError(`${who}: x must be [N, C, ...spatial], got ${formatShape(x.shape)}`)
  const channels = known(who, 'channels', x.shape[1])
  sameDType(who, ['x', ...Object.keys(vectors)], [x, ...Object.values(vectors)])
  for (const [name, { shape }] of Object.entries(vectors)) {
    if (!sameShape(shape, [channels])) throw new ShapeError(`${who}: ${name} must be [${channels}] for x ${formatShape(x.shape)}, got ${formatShape(shape)}`)
  }
  return { dtype: x.dtype, shape: [channels] }
}

// How many elements of x a channel has: M.
function countPerChannel(who: string, shape: Shape): number {
  return shape.reduce<number>((count, d, axis) => (axis === 1 ? count : count * known(who, `axis ${axis} of x`, d)), 1)
}

function otherAxes(x: Tensor): readonly number[] {
  return x.shape.flatMap((_, axis) => (axis === 1 ? [] : [axis]))
}

// [C] as [C, 1, ...], which broadcasts against x [N, C, ...].
function perChannel(vector: Tensor, x: Tensor): Tensor {
  return vector.reshape([...vector.shape, ...x.shape.slice(2).map(() => 1)])
}

function sumOf(...terms: readonly (Tensor | undefined)[]): Tensor | undefined {
  return terms.reduce((a, b) => (a && b ? a.add(b) : (a ?? b)), undefined)
}

// Flat indices of channels [from, to) of every sample, or of one.
function elementsOf(shape: StaticShape, from: number, to: number, sample?: number): readonly number[] {
  const [batch = 0, channels = 0, ...spatial] = shape
  const pixels = sizeOf(spatial)
  const samples = sample === undefined ? Array.from({ length: batch }, (_, n) => n) : [sample]
  return samples.flatMap((n) => Array.from({ length: (to - from) * pixels }, (_, i) => (n * channels + from) * pixels + i))
}

// Mean and biased variance.
function moments(data: Float64Array, list: readonly number[]): readonly [mean: number, variance: number] {
  const mean = list.reduce((sum, i) => sum + at(data, i), 0) / list.length
  return [mean, list.reduce((sum, i) => sum + (at(data, i) - mean) ** 2, 0) / list.length]
}
