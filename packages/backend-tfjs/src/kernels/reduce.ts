// Sums, maxima, softmaxes and products of matrices.

import type { Primitives, Value } from '../primitives.ts'
import { filled, type Kernels, nth, product, scalar } from './shared.ts'

type ReduceName = 'reduceSum' | 'reduceMax' | 'argMax' | 'softmax' | 'logSoftmax' | 'matmul'

/** The kernels over `p`. */
export function reduceKernels<V extends Value>(p: Primitives<V>): Kernels<V, ReduceName> {
  return {
    reduceSum: ({ axes, keepDims }, inputs, outputs) => {
      const x = nth(inputs, 0)
      const { dtype, shape } = nth(outputs, 0)
      if (product(x.shape) === 0) return filled(p, 0, shape, dtype)
      return axes.length === 0 ? x : p.sum(x, axes, keepDims)
    },
    reduceMax: ({ axes, keepDims }, inputs) => (axes.length === 0 ? nth(inputs, 0) : p.max(nth(inputs, 0), axes, keepDims)),
    // The first NaN, or else the first largest: with NaNs as -infinity where there is none of interest.
    argMax: ({ axis }, inputs) => {
      const x = nth(inputs, 0)
      if (x.dtype === 'int32') return p.argMax(x, axis)
      const isNaN = p.compare('notEqual', x, x)
      const marks = p.cast(isNaN, 'float32')
      const any = p.compare('greater', p.max(marks, [axis], false), scalar(p, 0, 'float32'))
      const largest = p.argMax(p.select(isNaN, scalar(p, Number.NEGATIVE_INFINITY, 'float32'), x), axis)
      return p.select(any, p.argMax(marks, axis), largest)
    },
    softmax: ({ axis }, inputs) => {
      const e = p.unary('exp', shifted(p, nth(inputs, 0), axis))
      return p.binary('div', e, p.sum(e, [axis], true))
    },
    logSoftmax: ({ axis }, inputs) => {
      const x = shifted(p, nth(inputs, 0), axis)
      return p.binary('sub', x, p.unary('log', p.sum(p.unary('exp', x), [axis], true)))
    },
    matmul: ({ transposeA, transposeB }, inputs, outputs) => {
      const [a, b] = [nth(inputs, 0), nth(inputs, 1)]
      const { dtype, shape } = nth(outputs, 0)
      return product(a.shape) === 0 || product(b.shape) === 0 ? filled(p, 0, shape, dtype) : p.matmul(a, b, transposeA, transposeB)
    },
  }
}

// Less its largest element, so that no exponential overflows.
function shifted<V extends Value>(p: Primitives<V>, x: V, axis: number): V {
  return p.binary('sub', x, p.max(x, [axis], true))
}
