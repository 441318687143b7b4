// Ops that take several elements to one along axes, and the softmaxes, which normalise along one axis.
//
// Notation: K is the shape of x with every reduced axis of size 1. A reduction's result is of shape K, and loses those
// axes unless keepDims. In shape K it broadcasts against x, which all gradients here use.

import { ShapeError } from '../backend/errors.ts'
import { checkDType } from '../tensor/dtype.ts'
import { formatShape, type Shape } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import { checkAxes, checkAxis, checkFlag, floats, numeric, take } from './checks.ts'
import { defineOp, type OpDef, type OpTable, type RefTensor, type ValueType } from './define.ts'
import { at, broadcastIndexer, forEachLine, refTensor, wrapTo } from './refs.ts'

type ReduceName = 'reduceSum' | 'reduceMax'
type SoftmaxName = 'softmax' | 'logSoftmax'

// x's shape as K.
function kept<D extends Shape[number]>(shape: readonly D[], axes: readonly number[]): readonly (D | 1)[] {
  return shape.map((d, i) => (axes.includes(i) ? 1 : d))
}

// A maximum of nothing does not exist.
function checkFilled(who: string, shape: Shape, axes: readonly number[]): void {
  for (const axis of axes) {
    if (shape[axis] === 0) throw new ShapeError(`${who}: axis ${axis} of ${formatShape(shape)} is empty, so it has no largest element`)
  }
}

interface ReduceRow {
  readonly start: number
  readonly step: (sum: number, x: number) => number
  readonly check?: (shape: Shape, axes: readonly number[]) => void
  /** dX from g and y in shape K. */
  readonly dx: (parts: { readonly g: Tensor; readonly x: Tensor; readonly y: Tensor; readonly axes: readonly number[] }) => Tensor
}

function reduction<K extends ReduceName>(name: K, row: ReduceRow): OpDef<K> {
  return defineOp<K>({
    name,
    infer: ({ axes, keepDims }, inputs) => {
      const [x] = take(name, inputs, 'x')
      checkDType(name, 'x', x.dtype, numeric)
      checkAxes(name, axes, x.shape.length)
      checkFlag(name, 'keepDims', keepDims)
      row.check?.(x.shape, axes)
      return { dtype: x.dtype, shape: keepDims ? kept(x.shape, axes) : x.shape.filter((_, i) => !axes.includes(i)) }
    },
    gradient: ({ attrs: { axes }, grad, inputs, outputs }) => {
      const [x] = take(name, inputs, 'x')
      const shape = kept(x.shape, axes)
      return [row.dx({ g: grad.reshape(shape), x, y: only(outputs).reshape(shape), axes })]
    },
    reference: ({ axes }, inputs, outputs) => {
      const [x] = take(name, inputs, 'x')
      const [{ dtype, shape }] = take(name, outputs, 'y')
      const y = refTensor(shape, row.start)
      const wrap = wrapTo(dtype)
      // Where each element of x goes: K's elements stand in the same order whether its 1s are kept or not.
      const target = broadcastIndexer(kept<number>(x.shape, axes), x.shape)
      x.data.forEach((value, flat) => {
        const to = target(flat)
        y.data[to] = wrap(row.step(at(y.data, to), value))
      })
      return y
    },
  })
}

function inferSoftmax(name: SoftmaxName, axis: number, inputs: readonly ValueType[]): ValueType {
  const [x] = take(name, inputs, 'x')
  checkDType(name, 'x', x.dtype, floats)
  checkAxis(name, axis, x.shape.length)
  return { dtype: x.dtype, shape: x.shape }
}

// Each line along `axis`, less its largest element (no exponential overflows), through `normalise`.
function normaliseLines(x: RefTensor, axis: number, normalise: (shifted: number, sum: number) => number): RefTensor {
  const y = refTensor(x.shape)
  forEachLine(x.shape, axis, (flat, size) => {
    const line = Array.from({ length: size }, (_, i) => at(x.data, flat(i)))
    // Not Math.max(...line): a call takes some 100,000 arguments at most.
    const largest = line.reduce((m, v) => Math.max(m, v), Number.NEGATIVE_INFINITY)
    const sum = line.reduce((s, v) => s + Math.exp(v - largest), 0)
    line.forEach((v, i) => {
      y.data[flat(i)] = normalise(v - largest, sum)
    })
  })
  return y
}

function shift(x: Tensor, axis: number): Tensor {
  return x.sub(x.maxOver([axis], true))
}

/** The definitions. */
export const reduceOps: Pick<OpTable, 'reduceSum' | 'reduceMax' | 'argMax' | 'softmax' | 'logSoftmax'> = {
  /** The sum over `axes`; 0 over an empty axis. Every element takes its sum's gradient. */
  reduceSum: reduction('reduceSum', {
    start: 0,
    step: (sum, x) => sum + x,
    dx: ({ g, x }) => g.broadcastTo(x.shape),
  }),

  /**
   * The largest element over `axes`; NaN where one is.
   * Gradient: with n elements equal to the maximum, each takes g / n.
   */
  reduceMax: reduction('reduceMax', {
    start: Number.NEGATIVE_INFINITY,
    step: Math.max,
    check: (shape, axes) => checkFilled('reduceMax', shape, axes),
    dx: ({ g, x, y, axes }) => {
      const largest = x.equal(y)
      return largest.select(g.div(largest.cast(x.dtype).sum(axes, true)), 0)
    },
  }),

  /** The index (int32) of the first NaN along `axis`, or else of the first largest element; the axis disappears. */
  argMax: defineOp({
    name: 'argMax',
    infer: ({ axis }, inputs) => {
      const [x] = take('argMax', inputs, 'x')
      checkDType('argMax', 'x', x.dtype, numeric)
      checkAxis('argMax', axis, x.shape.length)
      checkFilled('argMax', x.shape, [axis])
      return { dtype: 'int32', shape: x.shape.filter((_, i) => i !== axis) }
    },
    gradient: 'none',
    reference: ({ axis }, inputs, outputs) => {
      const [x] = take('argMax', inputs, 'x')
      const y = refTensor(take('argMax', outputs, 'y')[0].shape)
      forEachLine(x.shape, axis, (flat, size, line) => {
        let best = 0
        for (let i = 1; i < size; i++) {
          const [value, largest] = [at(x.data, flat(i)), at(x.data, flat(best))]
          if (!Number.isNaN(largest) && (value > largest || Number.isNaN(value))) best = i
        }
        y.data[line] = best
      })
      return y
    },
  }),

  /**
   * y = exp(x) / sum(exp(x)) along `axis`.
   * dy_i/dx_j = y_i (delta_ij - y_j), so dX = y * (g - sum(g * y)).
   */
  softmax: defineOp({
    name: 'softmax',
    infer: ({ axis }, inputs) => inferSoftmax('softmax', axis, inputs),
    gradient: ({ attrs: { axis }, grad, outputs }) => {
      const y = only(outputs)
      return [y.mul(grad.sub(grad.mul(y).sum([axis], true)))]
    },
    reference: ({ axis }, inputs) => normaliseLines(take('softmax', inputs, 'x')[0], axis, (shifted, sum) => Math.exp(shifted) / sum),
    decompose: ({ axis }, inputs) => {
      const e = shift(take('softmax', inputs, 'x')[0], axis).exp()
      return [e.div(e.sum([axis], true))]
    },
  }),

  /**
   * y = x - log(sum(exp(x))) along `axis`.
   * dy_i/dx_j = delta_ij - exp(y_j), so dX = g - exp(y) * sum(g).
   */
  logSoftmax: defineOp({
    name: 'logSoftmax',
    infer: ({ axis }, inputs) => inferSoftmax('logSoftmax', axis, inputs),
    gradient: ({ attrs: { axis }, grad, outputs }) => [grad.sub(only(outputs).exp().mul(grad.sum([axis], true)))],
    reference: ({ axis }, inputs) => normaliseLines(take('logSoftmax', inputs, 'x')[0], axis, (shifted, sum) => shifted - Math.log(sum)),
    decompose: ({ axis }, inputs) => {
      const shifted = shift(take('logSoftmax', inputs, 'x')[0], axis)
      return [shifted.sub(shifted.exp().sum([axis], true).log())]
    },
  }),
}
