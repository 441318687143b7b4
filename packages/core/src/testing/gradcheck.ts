// Checks analytic gradients against central differences of the float64 oracle. For tests: it throws what it found.
//
// For f: R^n -> R and step h the central difference (f(x + h e_i) - f(x - h e_i)) / 2h errs by O(h^2) from the third
// derivative and by O(eps / h) from rounding; the fourth-order stencil
//   (8 [f(x + h) - f(x - h)] - [f(x + 2h) - f(x - 2h)]) / 12h
// errs by O(h^4), so that h = 1e-3 leaves about 1e-12 of each.

import { gradients } from '../autodiff/gradients.ts'
import { trace } from '../graph/trace.ts'
import type { RefTensor } from '../ops/define.ts'
import { evaluate } from '../reference/evaluate.ts'
import { Random } from '../random.ts'
import { fromNumbers } from '../tensor/hostTensor.ts'
import { sizeOf, type StaticShape, staticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** How to check. */
export interface GradcheckOptions {
  /** Which inputs to differentiate by (all unless given). */
  readonly wrt?: readonly number[]
  /** The largest relative difference, per element against the largest derivative of its tensor; 1e-6 unless given. */
  readonly tolerance?: number
  /** The step of the differences; 1e-3 unless given. Keep inputs further than twice that away from kinks. */
  readonly step?: number
  readonly seed?: number
}

/** The largest relative difference that was seen. */
export interface GradcheckResult {
  readonly worst: number
  /** How many derivatives were compared. */
  readonly count: number
}

/** A reference tensor of normal numbers, the same for the same seed. */
export function randomRef(shape: StaticShape, seed: number, scale: number = 1): RefTensor {
  const random = new Random(seed)
  return { shape, data: Float64Array.from({ length: sizeOf(shape) }, () => random.normal() * scale) }
}

/** A reference tensor from numbers. */
export function ref(shape: StaticShape, values: ArrayLike<number>): RefTensor {
  return { shape, data: Float64Array.from(values) }
}

/**
 * Checks the gradient of `fn`, contracted with fixed random weights to a scalar, at `inputs`.
 *
 * @throws Error that names the worst derivative, when it is off by more than the tolerance
 */
export function checkGradient(fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[], inputs: readonly RefTensor[], options: GradcheckOptions = {}): GradcheckResult {
  const specs = inputs.map((t) => ({ shape: t.shape }))
  const scalar = (...xs: Tensor[]): Tensor => contract(fn(...xs), options.seed ?? 1)
  const wrt = options.wrt ?? inputs.map((_, i) => i)
  const forward = trace(scalar, { inputs: specs }).graph
  const backward = trace((...xs) => gradients(scalar(...xs), wrt.map((i) => at(xs, i))), { inputs: specs }).graph
  const analytic = evaluate(backward, inputs).outputs
  const f = (xs: readonly RefTensor[]): number => at(at(evaluate(forward, xs).outputs, 0).data, 0)
  const h = options.step ?? 1e-3
  const tolerance = options.tolerance ?? 1e-6
  let worst = 0
  let count = 0
  wrt.forEach((which, k) => {
    const input = at(inputs, which)
    const got = at(analytic, k)
    const numeric = Float64Array.from(input.data, (_, j) => {
      const shifted = (by: number): number => {
        const data = input.data.slice()
        data[j] = at(data, j) + by
        return f(inputs.map((t, i) => (i === which ? { shape: t.shape, data } : t)))
      }
      return (8 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12 * h)
    })
    const scale = Math.max(1e-3, ...numeric.map(Math.abs))
    numeric.forEach((n, j) => {
      const error = Math.abs(at(got.data, j) - n) / scale
      count++
      if (!(error <= tolerance)) {
        throw new Error(`gradient of input ${which} at element ${j}: analytic ${at(got.data, j)}, numeric ${n} (relative ${error.toExponential(1)}, allowed ${tolerance})`)
      }
      worst = Math.max(worst, error)
    })
  })
  return { worst, count }
}

/** Checks second derivatives: the gradient of the gradient of `fn`, the latter contracted with other random weights. */
export function checkSecondOrder(fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[], inputs: readonly RefTensor[], options: GradcheckOptions = {}): GradcheckResult {
  const wrt = options.wrt ?? inputs.map((_, i) => i)
  return checkGradient((...xs) => gradients(contract(fn(...xs), 7), wrt.map((i) => at(xs, i))), inputs, options)
}

// sum_i <t_i, w_i> with fixed normal weights, so that every element of every output matters differently.
function contract(result: Tensor | readonly Tensor[], seed: number): Tensor {
  const list = Array.isArray(result) ? (result as readonly Tensor[]) : [result as Tensor]
  const terms = list.map((t, i) => {
    const shape = staticShape('gradcheck', t.shape)
    const weights = randomRef(shape, seed * 1000 + i)
    return t.mul(t.constant(fromNumbers('float32', shape, weights.data))).sum()
  })
  return terms.slice(1).reduce((a, b) => a.add(b), at(terms, 0))
}

function at<T>(list: ArrayLike<T>, i: number): T {
  const x = list[i]
  if (x === undefined) throw new RangeError(`no element ${i} of ${list.length}`)
  return x
}
