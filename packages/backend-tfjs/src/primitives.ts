// What the kernels of this package are written in: a small set of operations on tensors that every TensorFlow.js engine has.
// One implementation calls `tf` at once (composed/primitives.ts), another writes nodes of a TensorFlow graph
// (program/primitives.ts). Images are NHWC and filters HWIO in the three convolutions, as TensorFlow has them; everything
// else takes any layout. A primitive may return its input.

import type { Comparison, HostTensor, Size2d } from '@dynconv/core'

/** The element types of TensorFlow.js. */
export type ValueDType = 'float32' | 'int32' | 'bool'

/** What is known of a tensor. */
export interface Value {
  readonly dtype: string
  readonly shape: readonly number[]
}

/** Functions of one float (neg, abs: int32 too). */
export type UnaryKind = 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu'

/** Functions of two tensors of one dtype, broadcast. On bools there are only and, or. */
export type BinaryKind = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'and' | 'or'

/** The operations. `V` is a tensor of the engine. */
export interface Primitives<V extends Value> {
  constant(value: HostTensor): V
  reshape(x: V, shape: readonly number[]): V
  transpose(x: V, permutation: readonly number[]): V
  broadcast(x: V, shape: readonly number[]): V
  slice(x: V, starts: readonly number[], sizes: readonly number[]): V
  /** As `slice`, with a positive step along each axis. */
  stridedSlice(x: V, starts: readonly number[], sizes: readonly number[], steps: readonly number[]): V
  pad(x: V, before: readonly number[], after: readonly number[], value: number): V
  concat(list: readonly V[], axis: number): V
  gather(x: V, indices: V, axis: number): V
  /** `updates` [M, N] added up at `indices` [M] of a [size, N] of zeros. */
  scatterRows(updates: V, indices: V, size: number): V
  unary(kind: UnaryKind, x: V): V
  binary(kind: BinaryKind, a: V, b: V): V
  not(x: V): V
  compare(kind: Comparison, a: V, b: V): V
  select(condition: V, a: V, b: V): V
  cast(x: V, dtype: ValueDType): V
  sum(x: V, axes: readonly number[], keepDims: boolean): V
  /** NaN where one is. */
  max(x: V, axes: readonly number[], keepDims: boolean): V
  /** int32; no NaN among x. */
  argMax(x: V, axis: number): V
  /** Leading axes broadcast. */
  matmul(a: V, b: V, transposeA: boolean, transposeB: boolean): V
  /** Without padding; either stride or dilation is 1. x [N, H, W, I], w [kh, kw, I, O]. */
  conv2d(x: V, w: V, stride: Size2d, dilation: Size2d): V
  /** The gradient of such a `conv2d` with dilation 1 by its images, whose shape is `inputShape` [N, H, W, I]. */
  conv2dInputGrad(dy: V, w: V, inputShape: readonly number[], stride: Size2d): V
  /** The gradient of such a `conv2d` with dilation 1 by its filter, of shape `filterShape`; undefined: the engine has none. */
  readonly conv2dFilterGrad?: ((x: V, dy: V, filterShape: readonly number[], stride: Size2d) => V) | undefined
  /** Without padding; both strides equal; either stride or dilation is 1. x [N, H, W, C], w [kh, kw, C, m]; channel c m + j. */
  depthwiseConv2d(x: V, w: V, stride: Size2d, dilation: Size2d): V
}

/**
 * The pixels of x [N, H, W, I] that a filter of one tap meets with steps, as an image of dy's size: with them the filter's gradient
 * is that without steps. undefined for other filters. oneDNN's kernel for one tap with steps (TensorFlow 2.15.1) gives wrong sums
 * where a processor has AVX2 but no AVX-512, and with unequal steps it writes beyond its memory.
 */
export function pixelsOfOneTap<V extends Value>(p: Pick<Primitives<V>, 'stridedSlice'>, x: V, dy: V, [height, width]: readonly number[], stride: Size2d): V | undefined {
  if (height !== 1 || width !== 1 || (stride[0] === 1 && stride[1] === 1)) return undefined
  const [batch = 0, , , channels = 0] = x.shape
  const [, rows = 0, columns = 0] = dy.shape
  return p.stridedSlice(x, [0, 0, 0, 0], [batch, rows, columns, channels], [1, ...stride, 1])
}
