// The symbolic tensor: a handle of a value in a graph that is being traced. Its methods append nodes; nothing computes
// here. Argument checks are the ops' own (`infer`); methods only normalise (negative axes, numbers as operands).

import type { Comparison, OpAttrs, OpName } from '../ops/attrs.ts'
import { ShapeError } from '../backend/errors.ts'
import type { DType } from './dtype.ts'
import { fromNumbers, type HostTensor } from './hostTensor.ts'
import { type Dim, formatShape, normaliseAxes, normaliseAxis, type Shape, sameShape } from './shape.ts'

/** Where a tensor's ops are appended. */
export interface Emitter {
  emit<K extends OpName>(op: K, attrs: OpAttrs[K], inputs: readonly Tensor[]): readonly Tensor[]
}

/** An operand: a tensor, or a number that stands for a constant of the other operand's dtype. */
export type Operand = Tensor | number

/** A value of a graph under construction. */
export class Tensor {
  readonly graph: Emitter
  /** Its number in the graph. */
  readonly id: number
  readonly dtype: DType
  readonly shape: Shape

  constructor(graph: Emitter, id: number, dtype: DType, shape: Shape) {
    this.graph = graph
    this.id = id
    this.dtype = dtype
    this.shape = shape
  }

  /** The number of axes. */
  get rank(): number {
    return this.shape.length
  }

  // Elementwise; operands broadcast as in NumPy.

  /** this + other */
  add(other: Operand): Tensor {
    return this.#binary('add', other)
  }

  /** this - other */
  sub(other: Operand): Tensor {
    return this.#binary('sub', other)
  }

  /** this * other */
  mul(other: Operand): Tensor {
    return this.#binary('mul', other)
  }

  /** this / other; floating point only */
  div(other: Operand): Tensor {
    return this.#binary('div', other)
  }

  /** The smaller of both; NaN where either is. */
  min(other: Operand): Tensor {
    return this.#binary('min', other)
  }

  /** The larger of both; NaN where either is. */
  max(other: Operand): Tensor {
    return this.#binary('max', other)
  }

  /** this ^ other */
  pow(other: Operand): Tensor {
    return this.#binary('pow', other)
  }

  /** -this */
  neg(): Tensor {
    return this.#unary('neg')
  }

  /** |this| */
  abs(): Tensor {
    return this.#unary('abs')
  }

  /** e ^ this */
  exp(): Tensor {
    return this.#unary('exp')
  }

  /** The natural logarithm. */
  log(): Tensor {
    return this.#unary('log')
  }

  /** The square root. */
  sqrt(): Tensor {
    return this.#unary('sqrt')
  }

  /** 1 / sqrt(this) */
  rsqrt(): Tensor {
    return this.#unary('rsqrt')
  }

  /** The hyperbolic tangent. */
  tanh(): Tensor {
    return this.#unary('tanh')
  }

  /** 1 / (1 + e ^ -this) */
  sigmoid(): Tensor {
    return this.#unary('sigmoid')
  }

  /** max(this, 0) */
  relu(): Tensor {
    return this.#unary('relu')
  }

  /** this limited to [min, max] */
  clamp(min: number, max: number): Tensor {
    return this.#apply('clamp', { min, max })
  }

  /** this * this */
  square(): Tensor {
    return this.mul(this)
  }

  /** Element by element comparison; a bool tensor. */
  compare(kind: Comparison, other: Operand): Tensor {
    return only(this.graph.emit('compare', { kind }, [this, this.operand(other)]))
  }

  /** this == other */
  equal(other: Operand): Tensor {
    return this.compare('equal', other)
  }

  /** this < other */
  less(other: Operand): Tensor {
    return this.compare('less', other)
  }

  /** this > other */
  greater(other: Operand): Tensor {
    return this.compare('greater', other)
  }

  /** Where this (bool) holds `whenTrue`, elsewhere `whenFalse`; all three broadcast. Two numbers make a float32 tensor. */
  select(whenTrue: Operand, whenFalse: Operand): Tensor {
    const dtype = whenTrue instanceof Tensor ? whenTrue.dtype : whenFalse instanceof Tensor ? whenFalse.dtype : 'float32'
    const lift = (x: Operand): Tensor => (x instanceof Tensor ? x : this.#scalar(x, dtype))
    return only(this.graph.emit('select', {}, [this, lift(whenTrue), lift(whenFalse)]))
  }

  /** The same numbers as another dtype (a float to int32 by truncation, to bool by `!= 0`). */
  cast(dtype: DType): Tensor {
    return dtype === this.dtype ? this : this.#apply('cast', { dtype })
  }

  /** The same value, but no gradient passes. */
  stopGradient(): Tensor {
    return this.#unary('stopGradient')
  }

  // Shape

  /** The same elements in another shape; one dimension may be -1 (what is left). @throws ShapeError when the counts differ */
  reshape(shape: Shape): Tensor {
    const resolved = resolveReshape(this.shape, shape)
    return sameShape(resolved, this.shape) ? this : this.#apply('reshape', { shape: resolved })
  }

  /** Axes from `start` to the end become one. @example [N, C, H, W].flatten(1) is [N, C*H*W] */
  flatten(start: number = 1): Tensor {
    return this.reshape([...this.shape.slice(0, normaliseAxis('flatten', start, this.rank)), -1])
  }

  /** Permuted axes; reversed when none are given. */
  transpose(permutation?: readonly number[]): Tensor {
    return this.#apply('transpose', { permutation: permutation ?? this.shape.map((_, i) => this.rank - 1 - i) })
  }

  /** Stretches axes of size 1 (and adds leading ones). */
  broadcastTo(shape: Shape): Tensor {
    return sameShape(shape, this.shape) ? this : this.#apply('broadcastTo', { shape })
  }

  /** The gradient of `broadcastTo`: sums over the axes that a broadcast from `shape` to this tensor's stretched. */
  sumTo(shape: Shape): Tensor {
    if (sameShape(shape, this.shape)) return this
    const lead = this.rank - shape.length
    const axes = this.shape.flatMap((d, i) => (i < lead || (shape[i - lead] === 1 && d !== 1) ? [i] : []))
    const summed = axes.length ? this.sum(axes, true) : this
    return summed.reshape(shape)
  }

  /** A block: `sizes` elements from `starts`, every `steps`-th. Leave `sizes` out to go to the end; negative steps walk backwards. */
  slice(starts: readonly number[], sizes: readonly number[], steps?: readonly number[]): Tensor {
    return this.#apply('slice', { starts, sizes, steps: steps ?? starts.map(() => 1) })
  }

  /** Elements [start, start + size) along one axis. */
  narrow(axis: number, start: number, size: number): Tensor {
    const at = normaliseAxis('narrow', axis, this.rank)
    const starts = this.shape.map((_, i) => (i === at ? start : 0))
    const sizes = this.shape.map((d, i) => {
      if (i === at) return size
      if (typeof d === 'string') throw new ShapeError(`narrow: axis ${i} has the unknown size ${d}; specialise first`)
      return d
    })
    return this.slice(starts, sizes)
  }

  /** The tensor inside a border of `value`. */
  pad(before: readonly number[], after: readonly number[], value: number = 0): Tensor {
    return this.#apply('pad', { before, after, value })
  }

  /** Slices along `axis` chosen by int32 `indices`: shape[..axis] + indices.shape + shape[axis+1..]. */
  gather(indices: Tensor, axis: number = 0): Tensor {
    return only(this.graph.emit('gather', { axis: normaliseAxis('gather', axis, this.rank) }, [this, indices]))
  }

  /** The gradient of `gather`: this tensor's slices along `axis`, added up at `indices` of a result with `size` there. */
  scatterAdd(indices: Tensor, axis: number, size: number): Tensor {
    return only(this.graph.emit('scatterAdd', { axis, size }, [this, indices]))
  }

  /** A new last axis of size `depth`: 1 at the (int32) index, else 0. */
  oneHot(depth: number, dtype: DType = 'float32'): Tensor {
    return this.#apply('oneHot', { depth, dtype })
  }

  // Reductions

  /** The sum over `axes` (all unless given). */
  sum(axes?: readonly number[], keepDims: boolean = false): Tensor {
    return this.#apply('reduceSum', { axes: normaliseAxes('sum', axes, this.rank), keepDims })
  }

  /** The mean over `axes` (all unless given), whose sizes must be known. */
  mean(axes?: readonly number[], keepDims: boolean = false): Tensor {
    const over = normaliseAxes('mean', axes, this.rank)
    let count = 1
    for (const axis of over) {
      const d = this.shape[axis]
      if (typeof d !== 'number') throw new ShapeError(`mean: axis ${axis} of ${formatShape(this.shape)} has an unknown size; specialise the graph first, or give it a number where it is compiled or exported`)
      count *= d
    }
    // A quotient, not a product with 1 / count: that constant would be rounded to the dtype.
    return this.sum(over, keepDims).div(count)
  }

  /** The largest over `axes` (all unless given); NaN where one is. Gradients go to every largest element in equal shares. */
  maxOver(axes?: readonly number[], keepDims: boolean = false): Tensor {
    return this.#apply('reduceMax', { axes: normaliseAxes('maxOver', axes, this.rank), keepDims })
  }

  /** The index (int32) of the first largest element along `axis`, which disappears. */
  argMax(axis: number = -1): Tensor {
    return this.#apply('argMax', { axis: normaliseAxis('argMax', axis, this.rank) })
  }

  /** exp(this) / sum(exp(this)) along `axis`. */
  softmax(axis: number = -1): Tensor {
    return this.#apply('softmax', { axis: normaliseAxis('softmax', axis, this.rank) })
  }

  /** The logarithm of `softmax`. */
  logSoftmax(axis: number = -1): Tensor {
    return this.#apply('logSoftmax', { axis: normaliseAxis('logSoftmax', axis, this.rank) })
  }

  /** [.., M, K] x [.., K, N] -> [.., M, N], leading axes broadcast; either side may be taken transposed. */
  matmul(other: Tensor, options: { readonly transposeA?: boolean; readonly transposeB?: boolean } = {}): Tensor {
    return only(this.graph.emit('matmul', { transposeA: options.transposeA ?? false, transposeB: options.transposeB ?? false }, [this, other]))
  }

  /** `other` as a tensor of this graph: a number becomes a scalar of this dtype. */
  operand(other: Operand): Tensor {
    return other instanceof Tensor ? other : this.#scalar(other, this.dtype)
  }

  /** A constant of this tensor's graph. */
  constant(value: HostTensor): Tensor {
    return only(this.graph.emit('constant', { value }, []))
  }

  /** A tensor of this one's dtype filled with `value`; its own shape unless one is given. */
  full(value: number, shape: Shape = this.shape): Tensor {
    return this.#scalar(value, this.dtype).broadcastTo(shape)
  }

  #scalar(value: number, dtype: DType): Tensor {
    return this.constant(fromNumbers(dtype, [], [value]))
  }

  #unary(op: UnaryName): Tensor {
    return only(this.graph.emit(op, {}, [this]))
  }

  #binary(op: BinaryName, other: Operand): Tensor {
    return only(this.graph.emit(op, {}, [this, this.operand(other)]))
  }

  #apply<K extends OpName>(op: K, attrs: OpAttrs[K]): Tensor {
    return only(this.graph.emit(op, attrs, [this]))
  }
}

type UnaryName = 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu' | 'stopGradient'
type BinaryName = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow'

/** The one output of an op that has one. */
export function only(outputs: readonly Tensor[]): Tensor {
  const [output] = outputs
  if (!output || outputs.length !== 1) throw new RangeError(`graph: expected one output, got ${outputs.length}`)
  return output
}

// One -1 stands for the quotient of the counts. Names (unknown sizes) cancel against the same name on the other side;
// what is left must be numbers.
function resolveReshape(from: Shape, to: Shape): Shape {
  const open = to.filter((d) => d === -1).length
  if (open === 0) return to
  if (open > 1) throw new ShapeError(`reshape: ${formatShape(to)} has more than one -1`)
  const names = from.filter((d): d is string => typeof d === 'string')
  for (const d of to) {
    if (typeof d !== 'string') continue
    const at = names.indexOf(d)
    if (at < 0) throw new ShapeError(`reshape: ${formatShape(to)} names ${d}, which is not in ${formatShape(from)}`)
    names.splice(at, 1)
  }
  const count = product(from)
  const rest = product(to.filter((d) => d !== -1))
  const [name] = names
  let missing: Dim
  if (name === undefined) {
    if (rest === 0 || count % rest !== 0) throw new ShapeError(`reshape: ${formatShape(from)} (${count} elements) does not divide into ${formatShape(to)}`)
    missing = count / rest
  } else {
    if (names.length > 1 || count !== rest) throw new ShapeError(`reshape: -1 in ${formatShape(to)} would be a product of unknown sizes of ${formatShape(from)}`)
    missing = name
  }
  return to.map((d) => (d === -1 ? missing : d))
}

function product(shape: Shape): number {
  return shape.reduce<number>((a, d) => (typeof d === 'number' ? a * d : a), 1)
}
