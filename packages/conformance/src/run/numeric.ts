// Core against itself: derivatives by central differences of the oracle. What engines are compared with in the modes
// gradient and second-order is thereby right.
//
// For F(t) = sum_j <y_j(x + t v), w_j> and the gradient G of it by x, dF/dt at 0 is <G, v>. The fourth-order stencil
//   (8 [F(h) - F(-h)] - [F(2h) - F(-2h)]) / 12 h
// errs by O(h^4) and by the rounding of F, 2^-53 of the terms that it adds, over h. Constants inside of gradient rules are
// float32: 2^-24 of <G, v>'s own terms. Directions: one random, which every element takes part in, and two single elements.

import { evaluate, Random, type RefTensor, toRef } from '@dynconv/core'
import type { Case, DerivedProgram, Order } from '../cases/define.ts'

const step = 1e-4

/** What is wrong with the derivatives of `c` of first and second order, a text each. */
export function checkDerivatives(c: Case): readonly string[] {
  const orders: readonly Order[] = c.orders === 2 ? [1, 2] : [1]
  return orders.flatMap((order) => checkOrder(c.program(order === 1 ? 0 : 1), c.program(order), order))
}

function checkOrder(lower: DerivedProgram, upper: DerivedProgram, order: Order): readonly string[] {
  const given = (upper.runs[0] ?? []).map(toRef)
  const inputs = given.slice(0, upper.lowerInputs)
  const weights = given.slice(upper.lowerInputs)
  const states: ReadonlyMap<string, RefTensor> = new Map(upper.states.map((s) => [s.name, toRef(s.data)]))
  const analytic = evaluate(upper.graph, given, pickStates(upper, states)).outputs

  const valueAt = (at: readonly RefTensor[], of: ReadonlyMap<string, RefTensor>): { readonly sum: number; readonly magnitude: number } => {
    const { outputs } = evaluate(lower.graph, at, pickStates(lower, of))
    const terms = outputs.flatMap((y, j) => Array.from(y.data, (v, i) => v * (weights[j]?.data[i] ?? 0)))
    return { sum: terms.reduce((a, b) => a + b, 0), magnitude: terms.reduce((a, b) => a + Math.abs(b), 0) }
  }
  const { magnitude } = valueAt(inputs, states)

  return upper.by.flatMap((by, k) => {
    const variable = typeof by === 'number' ? inputs[by] : states.get(by)
    const gradient = analytic[k]
    if (!variable || !gradient) return [`derivative ${k} of order ${order} is missing`]
    return directions(gradient, k).flatMap((v) => {
      const along = (t: number): number => {
        const moved = { shape: variable.shape, data: variable.data.map((x, i) => x + t * (v[i] ?? 0)) }
        return typeof by === 'number' ? valueAt(inputs.map((x, i) => (i === by ? moved : x)), states).sum : valueAt(inputs, new Map([...states, [by, moved]])).sum
      }
      const numeric = (8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step)
      const products = Array.from(gradient.data, (g, i) => g * (v[i] ?? 0))
      const exact = products.reduce((a, b) => a + b, 0)
      const allowed = 2 ** -23 * products.reduce((a, b) => a + Math.abs(b), 0) + (64 * 2 ** -53 * (1 + magnitude)) / step
      if (Math.abs(numeric - exact) <= allowed) return []
      const name = typeof by === 'number' ? `input ${by}` : by
      return [`derivative of order ${order} by ${name}: the rule gives ${exact} along a direction, differences give ${numeric} (allowed ${allowed.toExponential(1)})`]
    })
  })
}

function directions(gradient: RefTensor, seed: number): readonly Float64Array[] {
  const { length } = gradient.data
  if (length === 0) return []
  const random = new Random(seed, length)
  const largest = gradient.data.reduce((best, g, i) => (Math.abs(g) > Math.abs(gradient.data[best] ?? 0) ? i : best), 0)
  const unit = (at: number): Float64Array => new Float64Array(length).fill(1, at, at + 1)
  return [Float64Array.from({ length }, () => random.normal()), unit(largest), unit(random.int(length))]
}

function pickStates({ graph }: DerivedProgram, states: ReadonlyMap<string, RefTensor>): ReadonlyMap<string, RefTensor> {
  return new Map(graph.states.flatMap((s) => [[s.name, states.get(s.name)] as const]).filter((e): e is readonly [string, RefTensor] => e[1] !== undefined))
}
