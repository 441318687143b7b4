// The one table of tolerances: for every op, how far a correct engine's result may be from the true one when its inputs
// are exact. Each row counts roundings; none was fitted to an engine. Programs of many ops: expectation.ts.
//
// Unit: one ulp, 2^-23 (float32) or 2^-10 (float16) relative. One rounding errs by half of that.
//
// - Sums. A sum of n products makes n products and n - 1 additions, each rounding of a partial sum that is at most
//   S = the sum of the terms' magnitudes, in whatever order (Higham 2002, "Accuracy and Stability of Numerical Algorithms",
//   section 3.1). So at most 2 n ulp of S (WebNN's rule for conv2d and matmul), n ulp of S where nothing is multiplied. Where
//   terms cancel, S stays what it is and the true value is small: S is the absolute floor. It is computed by the oracle
//   itself, from the absolute values of the inputs. In long sums m roundings do not all go one way: they are within
//   lambda sqrt(m) roundings with probability 1 - 2 exp(-lambda^2 / 2) (Higham and Mary 2019, "A new approach to probabilistic
//   rounding error analysis"); lambda = 8 makes that 1 - 3e-14, and is what `roundings` takes from 64 on. Sums of integers
//   below 2^24 need no rounding at all, in any order.
// - float16. Sums accumulate in float32 and are rounded at the end; where an engine may reasonably keep intermediate results
//   (a softmax's exponentials, a mixture's kernels) in float16, `halves` counts those.
// - Functions. The bounds are those that WGSL (section 15.7, "Floating point evaluation") demands of a GPU, or follow from
//   them: exp 3 + 2 |x|, log 4 of a number of magnitude 1, quotient 2.5, inverse square root 2.
// - Moving, choosing and comparing are exact.

import { type DType, type OpAttrs, type OpDef, type OpName, ops, type RefTensor, sizeOf, type StaticShape } from '@dynconv/core'
import { isFloatType, roundTo, smallestNormal, spacing } from './ulp.ts'

/** How far one result may be off: `ulps` units of a number of `magnitude`. */
export interface Bound {
  readonly ulps: number | Float64Array
  /** The result's own magnitude unless given. */
  readonly magnitude?: RefTensor
  /** Set for what accumulates in float32 whatever its dtype: how many roundings to float16 it makes besides. */
  readonly halves?: number | Float64Array
}

/** dtype and shape of a result. */
export interface ResultType {
  readonly dtype: DType
  readonly shape: StaticShape
}

/** An application of an op, with the true values. */
export interface Application<K extends OpName> {
  readonly op: K
  readonly attrs: OpAttrs[K]
  readonly inputs: readonly RefTensor[]
  readonly outputs: readonly RefTensor[]
  readonly types: readonly ResultType[]
}

type Row<K extends OpName> = (a: Application<K>) => Bound | readonly Bound[]

/** A row an op; 'decompose': the roundings are those of the op's decomposition. */
export type BoundTable = { readonly [K in OpName]: Row<K> | 'decompose' }

/** How many roundings `count` roundings add up to. */
function roundings(count: number): number {
  return Math.min(count, 8 * Math.sqrt(count))
}

const exact = (): Bound => ({ ulps: 0 })
const ulps =
  (count: number) =>
  (): Bound => ({ ulps: count })
// Rounded once (IEEE 754, and WGSL for these three): what needs no rounding is exact, unless it is so small that an engine
// may flush it to 0 (WGSL section 15.7.1 allows that of every operation).
const rounded = <K extends OpName>(a: Application<K>): Bound => {
  const dtype = a.types[0]?.dtype ?? 'float32'
  const least = isFloatType(dtype) ? smallestNormal(dtype) : 0
  return { ulps: first(a.outputs).data.map((y) => (roundTo(dtype, y) === y && Math.abs(y) >= least ? 0 : 1)) }
}

/** The table. */
export const bounds: BoundTable = {
  constant: exact,
  iota: exact,

  add: rounded,
  sub: rounded,
  mul: rounded,
  // By the reciprocal: WGSL allows 2.5.
  div: ulps(3),
  min: exact,
  max: exact,
  // e^(b ln a): exp's own 3 + 2 |b ln a|, and the logarithm's 4 ulp of max(|ln a|, 1), times |b|.
  pow: (a) => ({ ulps: map2(first(a.outputs), stretched(a, 1), (y, b) => 3 + 2 * logarithm(y) + 4 * Math.max(logarithm(y), Math.min(Math.abs(b), 1e3))) }),
  compare: exact,
  select: exact,

  neg: exact,
  abs: exact,
  exp: (a) => ({ ulps: first(a.inputs).data.map((x) => 3 + 2 * Math.abs(x)) }),
  // Range reduction adds a multiple of ln 2: near 1 it cancels.
  log: (a) => ({ ulps: 4, magnitude: atLeast(first(a.outputs), 1) }),
  sqrt: ulps(3),
  // As the reciprocal of a root: 3 for the quotient, half of the root's 3.
  rsqrt: ulps(5),
  // (e^2x - 1) / (e^2x + 1) cancels for small x: exp's 3 + 4 |x|, times (1 - y^2) / 2, is at most 2; then 4 roundings.
  tanh: (a) => ({ ulps: 6, magnitude: atLeast(first(a.outputs), 1) }),
  // As half a tanh plus a half.
  sigmoid: (a) => ({ ulps: 4, magnitude: atLeast(first(a.outputs), 1) }),
  relu: exact,
  clamp: exact,
  cast: (a) => ({ ulps: a.attrs.dtype === 'float16' ? 1 : 0 }),
  stopGradient: exact,
  customGradient: (a) => a.outputs.map(exact),

  reshape: exact,
  transpose: exact,
  broadcastTo: exact,
  slice: exact,
  pad: exact,
  concat: exact,

  gather: exact,
  // As many additions as there are updates of an element.
  scatterAdd: (a) => {
    const [updates, indices] = pair(a.inputs)
    const ones = { shape: updates.shape, data: updates.data.map(() => 1) }
    const [count] = reference(a, [ones, indices])
    return exactIfWhole(a, { ulps: count?.data.map(roundings) ?? 0, magnitude: sumOfMagnitudes(a), halves: 1 })
  },
  oneHot: exact,

  reduceSum: (a) => exactIfWhole(a, { ulps: roundings(ratio(first(a.inputs), first(a.outputs))), magnitude: sumOfMagnitudes(a), halves: 1 }),
  reduceMax: exact,
  argMax: exact,
  // n exponentials, sums and quotients (WebNN: 3 n + 3); an exponential of s = x - max errs by 2 |s| more, |s| <= |ln y|.
  softmax: (a) => {
    const y = first(a.outputs)
    const spread = y.data.map((v) => 2 * logarithm(v))
    const count = roundings(3 * (y.shape[a.attrs.axis] ?? 1) + 3)
    return { ulps: spread.map((s) => s + count), halves: spread.map((s) => s + 4) }
  },
  // x - max - ln(sum): the sum's relative error is the logarithm's absolute one.
  logSoftmax: (a) => {
    const y = first(a.outputs)
    return { ulps: roundings(3 * (y.shape[a.attrs.axis] ?? 1) + 3), magnitude: atLeast(y, 1), halves: 3 }
  },

  matmul: (a) => exactIfWhole(a, products(a, at(first(a.inputs).shape, a.attrs.transposeA ? -2 : -1))),
  conv2d: (a) => products(a, sizeOf(pair(a.inputs)[1].shape.slice(1)) + 1),
  conv2dInputGrad: (a) => {
    const { shape } = pair(a.inputs)[1]
    return products(a, (at(shape, 0) / a.attrs.groups) * sizeOf(shape.slice(2)))
  },
  conv2dFilterGrad: (a) => {
    const [batch = 1, , height = 1, width = 1] = pair(a.inputs)[1].shape
    return products(a, batch * height * width)
  },

  maxPool2d: exact,
  // Gradients of overlapping windows add up.
  maxPool2dGrad: (a) => {
    const [x, dy] = pair(a.inputs)
    return { ulps: roundings(sizeOf(a.attrs.kernelSize)), magnitude: first(reference(a, [x, absolute(dy)])), halves: 1 }
  },
  // WebNN: kh kw + 2.
  avgPool2d: (a) => ({ ulps: roundings(sizeOf(a.attrs.kernelSize) + 2), magnitude: sumOfMagnitudes(a), halves: 2 }),
  avgPool2dGrad: (a) => ({ ulps: roundings(sizeOf(a.attrs.kernelSize) + 2), magnitude: sumOfMagnitudes(a), halves: 2 }),

  batchNorm: 'decompose',
  batchNormGrad: 'decompose',
  // As x scale + (beta - mean scale), which is what engines fold it to.
  batchNormInference: (a) => {
    const [x, gamma, beta, mean, variance] = a.inputs.map(absolute)
    if (!x || !gamma || !beta || !mean || !variance) return exact()
    return { ulps: 10, magnitude: first(reference(a, [x, gamma, beta, { ...mean, data: mean.data.map((m) => -m) }, variance])), halves: 5 }
  },
  groupNorm: 'decompose',

  resize: (a) => (a.attrs.mode === 'nearest' ? exact() : { ulps: interpolation(first(a.inputs).shape), magnitude: sumOfMagnitudes(a), halves: 4 }),
  // As many additions as output pixels read one input pixel.
  resizeGrad: (a) => {
    const { shape } = first(a.inputs)
    const readers = a.attrs.inputSize.reduce((n, size, i) => n * (2 * Math.ceil((shape[2 + i] ?? 1) / size) + 1), 1)
    const weights = a.attrs.mode === 'nearest' ? 0 : interpolation([1, 1, ...a.attrs.inputSize])
    return { ulps: roundings(readers) + weights, magnitude: sumOfMagnitudes(a), halves: 4 }
  },

  // Sums inside sums: the lengths add up. Mixing K kernels (or K results), then the taps of a kernel.
  dynamicConv2d: (a) => {
    const { shape } = pair(a.inputs)[1]
    return { ...products(a, at(shape, 0) + sizeOf(shape.slice(2)) + 1), halves: 4 }
  },
  dynamicConv2dInputGrad: (a) => {
    const { shape } = pair(a.inputs)[1]
    return { ...products(a, at(shape, 0) + (at(shape, 1) / a.attrs.groups) * sizeOf(shape.slice(3))), halves: 4 }
  },
  // dBases sums over samples and pixels; dPi over pixels and a kernel's elements, or taps and a result's elements.
  dynamicConv2dKernelGrad: (a) => {
    const [, dy, bases] = a.inputs
    const [batch = 1, channels = 1, height = 1, width = 1] = dy?.shape ?? []
    const kernel = bases?.shape.slice(1) ?? []
    const [dBases, dPi] = reference(a, a.inputs.map(absolute))
    const pixels = height * width
    return [
      { ulps: roundings(2 * (batch * pixels + 2)), halves: 4, ...(dBases && { magnitude: dBases }) },
      { ulps: roundings(2 * (pixels + sizeOf(kernel) + channels * pixels)), halves: 4, ...(dPi && { magnitude: dPi }) },
    ]
  },
}

/** The absolute error that each element of each result may have; undefined where the table says 'decompose'. */
export function allowances<K extends OpName>(a: Application<K>): readonly Float64Array[] | undefined {
  const row = bounds[a.op]
  if (row === 'decompose') return undefined
  const found = row(a)
  const list = Array.isArray(found) ? (found as readonly Bound[]) : [found as Bound]
  return a.outputs.map((y, i) => allowance(list[i] ?? exact(), y, a.types[i]?.dtype ?? 'float32'))
}

function allowance(bound: Bound, y: RefTensor, dtype: DType): Float64Array {
  if (!isFloatType(dtype)) return new Float64Array(y.data.length)
  const { magnitude = y, halves } = bound
  return y.data.map((value, i) => {
    const scale = Math.max(Math.abs(value), Math.abs(magnitude.data[i] ?? 0))
    const own = pick(bound.ulps, i) * spacing(halves === undefined ? dtype : 'float32', scale)
    const allowed = halves === undefined || dtype !== 'float16' || own === 0 ? own : own + halfRoundings(pick(halves, i), value, scale)
    // NaN and infinity are compared as they are; what has no terms but zeros is 0.
    if (!(allowed > 0) || scale === 0) return 0
    // Below the smallest normal number an engine may give 0.
    return scale < smallestNormal(dtype) ? Math.max(allowed, scale) : allowed
  })
}

// The last rounding is that of the result; earlier ones are of terms.
function halfRoundings(count: number, value: number, scale: number): number {
  return spacing('float16', value) + (count - 1) * spacing('float16', scale)
}

function pick(list: number | Float64Array, i: number): number {
  return typeof list === 'number' ? list : (list[i] ?? 0)
}

function reference<K extends OpName>(a: Application<K>, inputs: readonly RefTensor[]): readonly RefTensor[] {
  const result = (ops[a.op] as OpDef<K>).reference(a.attrs, inputs, a.types)
  return 'data' in result ? [result] : result
}

// S: the op on absolute values.
function sumOfMagnitudes<K extends OpName>(a: Application<K>): RefTensor {
  return first(reference(a, a.inputs.map(absolute)))
}

function products<K extends OpName>(a: Application<K>, count: number): Bound {
  return { ulps: roundings(2 * count), magnitude: sumOfMagnitudes(a), halves: 1 }
}

// Not for convolutions: Winograd's transforms divide by 3.
function exactIfWhole(a: Application<OpName>, bound: Bound): Bound {
  const whole = a.inputs.every((t) => t.data.every(Number.isInteger)) && (bound.magnitude?.data.every((s) => s <= 2 ** 24) ?? false)
  return whole ? { ulps: 0 } : bound
}

// Along each of two axes: two weights, two products, a sum; and a position up to the axis' length, rounded, of which the
// weight is the fraction.
function interpolation(shape: StaticShape): number {
  return 10 + 2 * ((shape[2] ?? 1) + (shape[3] ?? 1))
}

function absolute(t: RefTensor): RefTensor {
  return { shape: t.shape, data: t.data.map(Math.abs) }
}

function atLeast(t: RefTensor, floor: number): RefTensor {
  return { shape: t.shape, data: t.data.map((v) => Math.max(Math.abs(v), floor)) }
}

// |ln y|, as far as a float32 can be from 1.
function logarithm(y: number): number {
  return Math.min(Math.abs(Math.log(Math.abs(y))), 104) || 0
}

function map2(a: RefTensor, b: RefTensor, f: (a: number, b: number) => number): Float64Array {
  return a.data.map((v, i) => f(v, b.data[i] ?? 0))
}

// Input `i` broadcast to the result's shape.
function stretched(a: Application<OpName>, i: number): RefTensor {
  const x = a.inputs[i] ?? first(a.inputs)
  const { dtype, shape } = a.types[0] ?? { dtype: 'float32', shape: [] }
  const result = ops.broadcastTo.reference({ shape }, [x], [{ dtype, shape }])
  return 'data' in result ? result : first(result)
}

function ratio(all: RefTensor, some: RefTensor): number {
  return some.data.length ? all.data.length / some.data.length : 0
}

function first(list: readonly RefTensor[]): RefTensor {
  const [t] = list
  if (!t) throw new RangeError('bounds: the application has no such tensor')
  return t
}

function pair(list: readonly RefTensor[]): readonly [RefTensor, RefTensor] {
  const [, b] = list
  if (!b) throw new RangeError('bounds: the application needs two inputs')
  return [first(list), b]
}

function at(shape: StaticShape, axis: number): number {
  return shape.at(axis) ?? 1
}
