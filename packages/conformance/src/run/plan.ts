// From the lists of cases and the modes to pieces of work: one case, in one mode, on one backend.

import type { DType } from '@dynconv/core'
import { contractCases } from '../cases/contract.ts'
import type { ContractCase } from '../cases/contractDefine.ts'
import type { Case, Order } from '../cases/define.ts'
import { allCases } from '../cases/index.ts'
import { type PerfCase, perfCases } from '../cases/perf.ts'
import { expectation } from '../expect/expectation.ts'
import { checkDerivatives } from './numeric.ts'
import { agrees, keepsTo, measured, type Outcome, type Started, surveyed, verdict } from './outcomes.ts'

/**
 * - forward: a case's results against the oracle.
 * - gradient, second-order: its gradient, and the gradient of that.
 * - numeric: core's gradients against differences, without any backend.
 * - support: what a backend says it runs.
 * - memory: states, uploads, errors, disposal; and what programs weigh.
 * - perf: how long programs take.
 */
export type Mode = 'forward' | 'gradient' | 'second-order' | 'numeric' | 'support' | 'memory' | 'perf'

/** All modes. */
export const modes: readonly Mode[] = ['forward', 'gradient', 'second-order', 'numeric', 'support', 'memory', 'perf']

/** What to run. */
export interface PlanOptions {
  /** All unless given. */
  readonly modes?: readonly Mode[]
  /** Cases whose id contains one of these; all unless given. */
  readonly filters?: readonly string[]
  /** In place of the suite's own list. */
  readonly cases?: readonly Case[]
}

/** A piece of work. */
export interface Job {
  readonly mode: Mode
  readonly id: string
  readonly family: string
  readonly dtype: DType | undefined
  /** The backend's place in the list; undefined: core itself. */
  readonly target: number | undefined
  readonly run: (engine: Started | undefined) => Promise<Outcome>
}

const orderOf: { readonly [M in Mode]?: Order } = { forward: 0, gradient: 1, 'second-order': 2 }

function on(target: number, run: (engine: Started) => Promise<Outcome>): Pick<Job, 'target' | 'run'> {
  return { target, run: (engine) => (engine ? run(engine) : Promise.reject(new RangeError('suite: the job needs an engine'))) }
}

/** The work for the backends numbered `targets`, case by case, so that the truth is computed once for all of them. */
export class Plan {
  /** The cases that the filters leave. */
  readonly cases: readonly Case[]
  readonly #targets: readonly number[]
  readonly #modes: ReadonlySet<Mode>
  readonly #contracts: readonly ContractCase[]
  readonly #programs: readonly PerfCase[]

  constructor(options: PlanOptions, targets: readonly number[]) {
    const wanted = ({ id }: { readonly id: string }): boolean => !options.filters?.length || options.filters.some((f) => id.includes(f))
    this.cases = (options.cases ?? allCases()).filter(wanted)
    this.#targets = targets
    this.#modes = new Set(options.modes ?? modes)
    this.#contracts = options.cases ? [] : contractCases().filter(wanted)
    this.#programs = options.cases ? [] : perfCases().filter(wanted)
  }

  /** How many jobs there are. */
  get count(): number {
    let count = 0
    for (const _ of this.jobs()) count++
    return count
  }

  /** Jobs in order; each is made when it is asked for, and forgotten with it. */
  *jobs(): Generator<Job> {
    for (const c of this.cases) yield* this.#jobsOf(c)
    if (this.#modes.has('memory')) {
      for (const c of this.#contracts) {
        for (const target of this.#targets) yield { mode: 'memory', id: c.id, family: 'contract', dtype: undefined, ...on(target, (e) => keepsTo(e, c)) }
      }
    }
    for (const mode of ['memory', 'perf'] as const) {
      if (!this.#modes.has(mode)) continue
      for (const { id, program } of this.#programs) {
        const shared = once(program)
        for (const target of this.#targets) yield { mode, id, family: 'perf', dtype: 'float32', ...on(target, (e) => measured(e, mode, shared())) }
      }
    }
  }

  *#jobsOf(c: Case): Generator<Job> {
    const about = { id: c.id, family: c.family, dtype: c.dtype }
    const programs = ([0, 1, 2] as const).map((order) => once(() => c.program(order)))
    if (this.#modes.has('support')) {
      for (const target of this.#targets) yield { ...about, mode: 'support', ...on(target, (e) => surveyed(e, programs.slice(0, c.orders + 1).map((p) => p()))) }
    }
    for (const mode of modes) {
      const order = orderOf[mode]
      if (order === undefined || order > c.orders || !this.#modes.has(mode)) continue
      const program = programs[order] ?? once(() => c.program(order))
      const truth = once(() => expectation(program()))
      for (const target of this.#targets) yield { ...about, mode, ...on(target, (e) => agrees(e, c, program(), truth)) }
    }
    if (c.differences && this.#modes.has('numeric')) {
      yield { ...about, mode: 'numeric', target: undefined, run: () => Promise.resolve(verdict(checkDerivatives(c))) }
    }
  }
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}
