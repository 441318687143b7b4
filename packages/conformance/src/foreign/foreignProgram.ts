// A program whose results somebody else computed, and how the float64 reference and backends are held to them.
//
// Whoever computed in float64 differs from the reference by the order of sums only: the tolerance is a fixed share of each
// result's largest number. Whoever computed in float32 is an engine like others: the reference must be as near to it as an
// engine must be to the reference (expect/). A backend may be off by as much again.

import { type Backend, evaluate, formatShape, fromNumbers, type Graph, type RefTensor, sameShape, toRef } from '@dynconv/core'
import { compare, formatDifference } from '../expect/compare.ts'
import { type Expectation, expectation, type Wanted } from '../expect/expectation.ts'
import type { Program } from '../expect/program.ts'
import { execute, type ExecuteOptions } from '../run/execute.ts'

/** A program and what the other side says it gives. */
export interface ForeignProgram {
  readonly id: string
  readonly program: Program
  /** What outputs are, by name, run by run. Of an output that is not listed the other side says nothing. */
  readonly outputs: readonly ReadonlyMap<string, RefTensor>[]
  /** What states hold after the last run. */
  readonly after: ReadonlyMap<string, RefTensor>
  /** How the other side computed: in float32, or in float64 with this share of a result's largest number as the tolerance. */
  readonly precision: 'float32' | { readonly tolerance: number }
  /** Each run's inputs in float64, where float32 does not hold them. */
  readonly float64Runs?: readonly (readonly RefTensor[])[]
  /** What the reference runs in place of the program's graph. */
  readonly referenceGraph?: Graph
}

/** What differs, a text a result; empty where all agree. */
export type ForeignCheck = (foreign: ForeignProgram) => Promise<readonly string[]>

/** The other side's values against the float64 reference. @throws Error for an ill-conditioned program */
export const checkReference: ForeignCheck = async (foreign) => {
  const { program, outputs, after, precision } = foreign
  const graph = foreign.referenceGraph ?? program.graph
  const runs = foreign.float64Runs ?? program.runs.map((inputs) => inputs.map(toRef))
  const tolerances = precision === 'float32' ? await expectation(program) : undefined
  let states: ReadonlyMap<string, RefTensor> = new Map(program.states.map((s) => [s.name, toRef(s.data)]))
  const compared = (name: string, got: RefTensor | undefined, theirs: RefTensor | undefined, own: Wanted | undefined): string | undefined => {
    if (!theirs) return undefined
    if (!got || !sameShape(got.shape, theirs.shape)) return `${name}: it is ${got ? formatShape(got.shape) : 'missing'}, the other side has ${formatShape(theirs.shape)}`
    if (precision !== 'float32') return float64Difference(name, got, theirs, precision.tolerance)
    const found = own && compare(fromNumbers(own.type.dtype, got.shape, got.data), { ...own, value: theirs })
    return found && formatDifference(found)
  }
  const problems = runs.flatMap((inputs, r) => {
    const result = evaluate(graph, inputs, states)
    states = new Map([...states, ...result.states])
    return graph.outputs.map(({ name }, i) => compared(runs.length > 1 ? `run ${r}: ${name}` : name, result.outputs[i], outputs[r]?.get(name), tolerances?.runs[r]?.[i]))
  })
  const atEnd = [...after].map(([name, theirs]) => compared(`state ${name}`, states.get(name), theirs, tolerances?.states.find((w) => w.name === `state ${name}`)))
  return [...problems, ...atEnd].filter((problem) => problem !== undefined)
}

/** The other side's values against `backend`, which must run like in every other case of this suite. */
export function checkOn(backend: Backend, options: Omit<ExecuteOptions, 'prepared'> = { mayVary: false }): ForeignCheck {
  return async (foreign) => {
    const { program, outputs, after, precision } = foreign
    const own = await expectation(program)
    const problems: string[] = []
    const theirs = (wanted: Wanted, value: RefTensor | undefined): Wanted => {
      if (!value) return wanted
      if (sameShape(value.shape, wanted.value.shape)) return { ...wanted, value, allowed: precision === 'float32' ? wanted.allowed.map((a) => 2 * a) : wanted.allowed }
      problems.push(`${wanted.name}: it is ${formatShape(wanted.value.shape)}, the other side has ${formatShape(value.shape)}`)
      return wanted
    }
    const expected: Expectation = {
      runs: own.runs.map((run, r) => run.map((wanted, i) => theirs(wanted, outputs[r]?.get(program.graph.outputs[i]?.name ?? '')))),
      states: own.states.map((wanted) => theirs(wanted, after.get(wanted.name.replace(/^state /, '')))),
    }
    return [...problems, ...(await execute(backend, program, expected, { ...options, prepared: true }))]
  }
}

const shown = 5

// Differences in float64: relative to the largest finite number of the wanted tensor (at least 1e-3, the scale below which
// nothing here lives but zeros). NaN and infinities must be the same.
function float64Difference(name: string, got: RefTensor, wanted: RefTensor, tolerance: number): string | undefined {
  const largest = wanted.data.reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : most), 1e-3)
  const error = (i: number): number => {
    const [a = Number.NaN, b = Number.NaN] = [got.data[i], wanted.data[i]]
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) return 0
    return Number.isFinite(a) && Number.isFinite(b) ? Math.abs(a - b) / largest : Number.POSITIVE_INFINITY
  }
  const wrong = Array.from(wanted.data.keys()).filter((i) => !(error(i) <= tolerance))
  if (!wrong.length) return undefined
  const rows = wrong.slice(0, shown).map((i) => `\n  element ${i}  got ${got.data[i]}  expected ${wanted.data[i]}  off by ${error(i).toExponential(1)}`)
  return `${name} ${formatShape(wanted.shape)}: ${wrong.length} of ${wanted.data.length} elements are off by more than ${tolerance} of ${largest.toPrecision(3)}${rows.join('')}`
}
