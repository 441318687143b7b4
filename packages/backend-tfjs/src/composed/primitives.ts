// The primitives as calls of an injected `tf`. What an engine computes otherwise than the ops say (NaN lost in maxima,
// products of large integers rounded) is found out once by a probe (quirks.ts) and mended here.

import type { Comparison, Size2d } from '@dynconv/core'
import type * as TfCore from '@tensorflow/tfjs-core'
import { broadcastTogether, nth, product, sameSizes } from '../kernels/shared.ts'
import { type BinaryKind, pixelsOfOneTap, type Primitives, type UnaryKind, type ValueDType } from '../primitives.ts'
import type { Quirks } from './quirks.ts'
import { type Tf, type TfTensor, toTf } from './tf.ts'

/** The primitives of `tf`'s engine of the moment. */
export function composedPrimitives(tf: Tf, quirks: Quirks): Primitives<TfTensor> {
  const comparisons: { readonly [C in Comparison]: (a: TfTensor, b: TfTensor) => TfTensor } = {
    equal: tf.equal,
    notEqual: tf.notEqual,
    less: tf.less,
    lessEqual: tf.lessEqual,
    greater: tf.greater,
    greaterEqual: tf.greaterEqual,
  }
  const binaries: { readonly [K in BinaryKind]: (a: TfTensor, b: TfTensor) => TfTensor } = {
    add: tf.add,
    sub: tf.sub,
    mul: (a, b) => (a.dtype === 'int32' && quirks.roundsProducts ? product32(tf, a, b) : tf.mul(a, b)),
    div: tf.div,
    min: (a, b) => extreme(tf, tf.minimum, a, b, quirks.losesNaN),
    max: (a, b) => extreme(tf, tf.maximum, a, b, quirks.losesNaN),
    pow: tf.pow,
    and: tf.logicalAnd,
    or: tf.logicalOr,
  }
  const unaries: { readonly [K in UnaryKind]: (x: TfTensor) => TfTensor } = {
    // 0 - x would lose the sign of zero; of an int32 it is the same.
    neg: (x) => (x.dtype === 'int32' ? tf.sub(tf.scalar(0, 'int32'), x) : tf.neg(x)),
    // The engines take the way over float32.
    abs: (x) => (x.dtype === 'int32' ? tf.maximum(x, tf.sub(tf.scalar(0, 'int32'), x)) : tf.abs(x)),
    exp: tf.exp,
    log: tf.log,
    sqrt: tf.sqrt,
    rsqrt: (x) => tf.div(tf.scalar(1), tf.sqrt(x)),
    tanh: tf.tanh,
    sigmoid: (x) => tf.div(tf.scalar(1), tf.add(tf.exp(tf.neg(x)), tf.scalar(1))),
    relu: (x) => (quirks.losesNaN ? extreme(tf, tf.maximum, x, tf.scalar(0), true) : tf.relu(x)),
  }
  const filterGrad = tf.getKernel('Conv2DBackpropFilter', tf.getBackend())
  const stridedSlice: Primitives<TfTensor>['stridedSlice'] = (x, starts, sizes, steps) => {
    const ends = starts.map((start, i) => start + (nth(sizes, i) - 1) * nth(steps, i) + 1)
    return viaInt32(tf, x, (t) => tf.stridedSlice(t, [...starts], ends, [...steps]))
  }
  return {
    constant: (value) => toTf(tf, value),
    reshape: (x, shape) => (sameSizes(x.shape, shape) ? x : tf.reshape(x, [...shape])),
    transpose: (x, permutation) => movedByReshape(tf, x, permutation) ?? viaInt32(tf, x, (t) => tf.transpose(t, [...permutation])),
    broadcast: (x, shape) => (sameSizes(x.shape, shape) ? x : viaInt32(tf, x, (t) => tf.broadcastTo(t, [...shape]))),
    slice: (x, starts, sizes) => tf.slice(x, [...starts], [...sizes]),
    stridedSlice,
    pad: (x, before, after, value) => viaInt32(tf, x, (t) => tf.pad(t, before.map((n, i): [number, number] => [n, nth(after, i)]), value)),
    concat: (list, axis) => tf.concat([...list], axis),
    gather: (x, indices, axis) => viaInt32(tf, x, (t) => tf.gather(t, indices, axis)),
    scatterRows: (updates, indices, size) => tf.scatterND(tf.reshape(indices, [nth(indices.shape, 0), 1]), updates, [size, nth(updates.shape, 1)]),
    unary: (kind, x) => unaries[kind](x),
    binary: (kind, a, b) => binaries[kind](a, b),
    not: (x) => tf.logicalNot(x),
    compare: (kind, a, b) => comparisons[kind](a, b),
    select: (condition, a, b) => tf.where(condition, a, b),
    cast: (x, dtype) => tf.cast(x, dtype satisfies ValueDType),
    sum: (x, axes, keepDims) => tf.sum(x, [...axes], keepDims),
    max: (x, axes, keepDims) => {
      const largest = tf.max(x, [...axes], keepDims)
      if (!quirks.losesNaN || x.dtype !== 'float32') return largest
      const marks = tf.max(tf.cast(tf.notEqual(x, x), 'float32'), [...axes], keepDims)
      return tf.where(tf.greater(marks, tf.scalar(0)), tf.scalar(Number.NaN), largest)
    },
    argMax: (x, axis) => tf.argMax(x, axis),
    matmul: (a, b, transposeA, transposeB) => {
      // The engines stretch a batch of one, and take others for what they are not.
      const lead = broadcastLead(a, b)
      return tf.matMul(stretched(tf, a, lead), stretched(tf, b, lead), transposeA, transposeB)
    },
    conv2d: (x, w, stride, dilation) => tf.conv2d(x as TfCore.Tensor4D, w as TfCore.Tensor4D, pair(stride), 'valid', 'NHWC', pair(dilation)),
    conv2dInputGrad: (dy, w, inputShape, stride) =>
      tf.conv2dTranspose(dy as TfCore.Tensor4D, w as TfCore.Tensor4D, inputShape as [number, number, number, number], pair(stride), 'valid'),
    conv2dFilterGrad: filterGrad
      ? (x, dy, filterShape, stride) => {
          const met = pixelsOfOneTap({ stridedSlice }, x, dy, filterShape, stride)
          const attrs = { strides: met ? 1 : pair(stride), pad: 'valid', dataFormat: 'NHWC', filterShape: filterShape as [number, number, number, number] }
          return tf.engine().runKernel<TfTensor>('Conv2DBackpropFilter', { x: met ?? x, dy }, attrs)
        }
      : undefined,
    depthwiseConv2d: (x, w, stride, dilation) => tf.depthwiseConv2d(x as TfCore.Tensor4D, w as TfCore.Tensor4D, pair(stride), 'valid', 'NHWC', pair(dilation)),
  }
}

function pair([a, b]: Size2d): [number, number] {
  return [a, b]
}

// Moving axes of size 1 moves no element.
function movedByReshape(tf: Tf, x: TfTensor, permutation: readonly number[]): TfTensor | undefined {
  const long = permutation.filter((axis) => x.shape[axis] !== 1)
  if (!long.every((axis, i) => i === 0 || nth(long, i - 1) < axis)) return undefined
  return tf.reshape(x, permutation.map((axis) => nth(x.shape, axis)))
}

// Not every engine moves bools: they travel as int32.
function viaInt32(tf: Tf, x: TfTensor, move: (t: TfTensor) => TfTensor): TfTensor {
  return x.dtype === 'bool' ? tf.cast(move(tf.cast(x, 'int32')), 'bool') : move(x)
}

// The smaller or larger of two, NaN where either is.
function extreme(tf: Tf, f: (a: TfTensor, b: TfTensor) => TfTensor, a: TfTensor, b: TfTensor, losesNaN: boolean): TfTensor {
  const y = f(a, b)
  if (!losesNaN || a.dtype !== 'float32') return y
  return tf.where(tf.logicalOr(tf.notEqual(a, a), tf.notEqual(b, b)), tf.add(a, b), y)
}

/**
 * The low 32 bits of a product of int32s, on an engine that multiplies as float64 (exact below 2^53): with
 * a = 65536 h + l, 0 <= l < 65536, the products h b and l b are below 2^47 and 2^48, and storing wraps each to 32 bits, as it
 * does 65536 (h b mod 2^32) and the sum.
 */
function product32(tf: Tf, a: TfTensor, b: TfTensor): TfTensor {
  const half = tf.scalar(65536, 'int32')
  const high = tf.floorDiv(a, half)
  const low = tf.sub(a, tf.mul(high, half))
  return tf.add(tf.mul(tf.mul(high, b), half), tf.mul(low, b))
}


// The leading axes of a product, where both sides have to be stretched to them; undefined: neither has.
function broadcastLead(a: TfTensor, b: TfTensor): readonly number[] | undefined {
  const [x, y] = [a.shape.slice(0, -2), b.shape.slice(0, -2)]
  return sameSizes(x, y) || product(x) === 1 || product(y) === 1 ? undefined : broadcastTogether(x, y)
}

function stretched(tf: Tf, x: TfTensor, lead: readonly number[] | undefined): TfTensor {
  const shape = [...(lead ?? []), ...x.shape.slice(-2)]
  return lead === undefined || sameSizes(shape, x.shape) ? x : tf.broadcastTo(x, shape)
}
