// A whole backend in one file: sixteen functions on Float32Arrays. Everything else that runs here (softmax, norms, sigmoid, pools
// of averages, ...) is decomposed into these by core; what is not, `supports` refuses by itself.
//
//     npx dynconv-conformance --backend ./toyBackend.js

import { kernelBackend, typeOf } from '@dynconv/core'

/** @typedef {{ readonly shape: readonly number[], readonly data: Float32Array }} Toy a tensor of this engine */

const count = (shape) => shape.reduce((n, d) => n * d, 1)

/** @returns {Toy} a tensor of `shape` whose element at each multi-index is `f(index)` */
function generate(shape, f) {
  const data = new Float32Array(count(shape))
  const index = shape.map(() => 0)
  for (let flat = 0; flat < data.length; flat++) {
    data[flat] = f(index)
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0
  }
  return { shape, data }
}

// The element of `t` that a broadcast to a longer index reads: aligned at the last axis, an axis of size 1 repeats.
function at(t, index) {
  const lead = index.length - t.shape.length
  return t.data[t.shape.reduce((flat, size, axis) => flat * size + (size === 1 ? 0 : index[lead + axis]), 0)]
}

const binary =
  (f) =>
  (_attrs, [a, b], [{ shape }]) =>
    generate(shape, (i) => f(at(a, i), at(b, i)))

const unary =
  (f) =>
  (_attrs, [x]) => ({ shape: x.shape, data: x.data.map(f) })

const reduction =
  (start, f) =>
  ({ axes }, [x], [{ shape }]) => {
    const kept = x.shape.map((d, axis) => (axes.includes(axis) ? 1 : d))
    const sums = new Float64Array(count(kept)).fill(start)
    generate(x.shape, (index) => {
      const to = kept.reduce((flat, size, axis) => flat * size + (size === 1 ? 0 : index[axis]), 0)
      sums[to] = f(sums[to], at(x, index))
      return 0
    })
    return { shape, data: Float32Array.from(sums) }
  }

function matmul({ transposeA, transposeB }, [a, b], [{ shape }]) {
  const inner = a.shape[a.shape.length - (transposeA ? 2 : 1)]
  return generate(shape, (index) => {
    const lead = index.slice(0, -2)
    const [row, column] = index.slice(-2)
    let sum = 0
    for (let k = 0; k < inner; k++) {
      sum += at(a, [...lead, ...(transposeA ? [k, row] : [row, k])]) * at(b, [...lead, ...(transposeB ? [column, k] : [k, column])])
    }
    return sum
  })
}

function transpose({ permutation }, [x], [{ shape }]) {
  return generate(shape, (index) => at(x, x.shape.map((_, axis) => index[permutation.indexOf(axis)])))
}

const kernels = {
  constant: ({ value }) => ({ shape: value.shape, data: Float32Array.from(value.data) }),
  add: binary((a, b) => a + b),
  sub: binary((a, b) => a - b),
  mul: binary((a, b) => a * b),
  div: binary((a, b) => a / b),
  min: binary(Math.min),
  max: binary(Math.max),
  exp: unary(Math.exp),
  log: unary(Math.log),
  sqrt: unary(Math.sqrt),
  neg: unary((x) => -x),
  reduceSum: reduction(0, (sum, x) => sum + x),
  reduceMax: reduction(Number.NEGATIVE_INFINITY, Math.max),
  matmul,
  reshape: (_attrs, [x], [{ shape }]) => ({ shape, data: x.data }),
  transpose,
  broadcastTo: (_attrs, [x], [{ shape }]) => generate(shape, (index) => at(x, index)),
}

/** The toy engine: float32 only. */
export function backend() {
  return kernelBackend({
    name: 'toy',
    capabilities: { dtypes: { float32: 'arithmetic', float16: 'none', int32: 'none', bool: 'none' }, device: 'plain JavaScript' },
    kernels,
    supports: (node, graph) => {
      const other = [...node.inputs, ...node.outputs].map((id) => typeOf(graph, id).dtype).find((dtype) => dtype !== 'float32')
      return other === undefined ? true : { reason: `there is no ${other} here` }
    },
    upload: ({ shape, data }) => ({ shape, data: Float32Array.from(data) }),
    download: ({ data }, { dtype, shape }) => ({ dtype, shape, data: Float32Array.from(data) }),
  })
}
