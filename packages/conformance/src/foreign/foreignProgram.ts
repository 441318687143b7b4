// A program whose results somebody else computed, and how the float64 reference and backends are held to them.
//
// The reference computes in float64, as the other side may: they then differ by the order of sums only, and the tolerance is
// a fixed share of each result's largest number. A backend computes in float32: its tolerances are those of every other
// case of this suite (expect/), around the other side's values.

import { type Backend, evaluate, formatShape, type Graph, prepare, type RefTensor, sameShape, type StateInit, toRef, type Traced } from '@dynconv/core'
import { compare, formatDifference } from '../expect/compare.ts'
import { expectation, type Wanted } from '../expect/expectation.ts'
import type { Program } from '../expect/program.ts'

/** A program and what the other side says it gives. */
export interface ForeignProgram {
  readonly id: string
  readonly program: Program
  /** Each run's inputs in float64, where they are not representable in float32. */
  readonly float64Runs?: readonly (readonly RefTensor[])[]
  /** What outputs must be, by name, run by run. An output that is not listed is not compared. */
  readonly outputs: readonly ReadonlyMap<string, RefTensor>[]
  /** What states must hold after the last run. */
  readonly after: ReadonlyMap<string, RefTensor>
  /** How far the reference may be off, as a share of each result's largest number. */
  readonly tolerance: number
  /** The graph as the reference runs it; as it is unless given. */
  readonly forReference?: (graph: Graph) => Graph
  /** For the planning of dynamic convolutions on a backend. */
  readonly memoryBudgetBytes?: number
}

/** What differs, a text a result; empty where all agree. @throws UnsupportedOpError */
export type ForeignCheck = (foreign: ForeignProgram) => Promise<readonly string[]>

/** The states of a trace as a program starts from them. */
export function statesOf(traced: Traced): readonly StateInit[] {
  return [...traced.sources].map(([name, { kind, data }]) => ({ name, kind, data }))
}

/** The other side's values against the float64 reference. */
export const checkReference: ForeignCheck = (foreign) => {
  const { program, outputs, after } = foreign
  const graph = foreign.forReference?.(program.graph) ?? program.graph
  const runs = foreign.float64Runs ?? program.runs.map((inputs) => inputs.map(toRef))
  let states: ReadonlyMap<string, RefTensor> = new Map(program.states.map((s) => [s.name, toRef(s.data)]))
  const problems = runs.flatMap((inputs, r) => {
    const result = evaluate(graph, inputs, states)
    states = new Map([...states, ...result.states])
    return graph.outputs.map(({ name }, i) => float64Difference(label(foreign, r, name), result.outputs[i], outputs[r]?.get(name), foreign.tolerance))
  })
  const atEnd = [...after].map(([name, wanted]) => float64Difference(`state ${name}`, states.get(name), wanted, foreign.tolerance))
  return Promise.resolve([...problems, ...atEnd].filter((problem) => problem !== undefined))
}

/** The other side's values against `backend`. */
export function checkOn(backend: Backend): ForeignCheck {
  return async (foreign) => {
    const { program, outputs, after } = foreign
    const wanted = await expectation(program)
    const budget = foreign.memoryBudgetBytes === undefined ? {} : { memoryBudgetBytes: foreign.memoryBudgetBytes }
    const state = await backend.createState(program.states)
    try {
      const executable = await backend.compile(prepare(program.graph, backend, budget).graph, { state, ...budget })
      try {
        const problems: (string | undefined)[] = []
        for (const [r, inputs] of program.runs.entries()) {
          const results = await executable.run(inputs)
          program.graph.outputs.forEach(({ name }, i) => {
            problems.push(difference(results[i], wanted.runs[r]?.[i], outputs[r]?.get(name)))
          })
        }
        for (const own of wanted.states) {
          const name = own.name.replace(/^state /, '')
          const value = after.get(name)
          if (value) problems.push(difference(await state.read(name), own, value))
        }
        return problems.filter((problem) => problem !== undefined)
      } finally {
        executable.dispose()
      }
    } finally {
      state.dispose()
    }
  }
}

function difference(got: Parameters<typeof compare>[0], own: Wanted | undefined, value: RefTensor | undefined): string | undefined {
  if (!own || !value) return undefined
  if (!sameShape(own.value.shape, value.shape)) return `${own.name}: it is ${formatShape(own.value.shape)}, the other side has ${formatShape(value.shape)}`
  const found = compare(got, { ...own, value })
  return found && formatDifference(found)
}

const shown = 5

// Differences in float64: relative to the largest finite number of the wanted tensor (at least 1e-3, the scale below which
// nothing here lives but zeros). NaN and infinities must be the same.
function float64Difference(name: string, got: RefTensor | undefined, wanted: RefTensor | undefined, tolerance: number): string | undefined {
  if (!wanted) return undefined
  if (!got || !sameShape(got.shape, wanted.shape)) return `${name}: it is ${got ? formatShape(got.shape) : 'missing'}, the other side has ${formatShape(wanted.shape)}`
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

function label(foreign: ForeignProgram, run: number, name: string): string {
  return foreign.program.runs.length > 1 ? `run ${run}: ${name}` : name
}
