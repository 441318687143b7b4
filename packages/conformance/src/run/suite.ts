// Runs the list of cases over backends, in modes. Knows no test runner: vitest.node.ts and cli.node.ts are two that use it.

import type { DType } from '@dynconv/core'
import { contractCases } from '../cases/contract.ts'
import type { Case, Order } from '../cases/define.ts'
import { allCases } from '../cases/index.ts'
import { perfCases } from '../cases/perf.ts'
import { expectation } from '../expect/expectation.ts'
import { checkDerivatives } from './numeric.ts'
import { agrees, keepsTo, measured, type Outcome, type Started, type Status, surveyed, type Target, thrown, verdict } from './outcomes.ts'
import { type SupportColumn, SupportSurvey } from './support.ts'

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

/** A result. */
export interface Result extends Outcome {
  /** `core` in the mode numeric. */
  readonly backend: string
  readonly mode: Mode
  readonly id: string
  readonly family: string
  readonly dtype: DType | undefined
}

/** A mode on a backend: promised, so it must run something. */
export interface Lane {
  readonly backend: string
  readonly mode: Mode
  readonly passed: number
  readonly failed: number
  readonly unsupported: number
  /** Why the lane as such fails, whatever its cases do. */
  readonly problem?: string
}

/** All that a run found. */
export interface Report {
  readonly results: readonly Result[]
  readonly lanes: readonly Lane[]
  readonly support: readonly SupportColumn[]
  readonly seconds: number
  /** Whether every lane ran, and no case failed. */
  readonly passed: boolean
}

/** What to run. */
export interface SuiteOptions {
  readonly targets: readonly Target[]
  /** All unless given. */
  readonly modes?: readonly Mode[]
  /** Cases whose id contains one of these; all unless given. */
  readonly filters?: readonly string[]
  /** In place of the suite's own list. */
  readonly cases?: readonly Case[]
  /** Stop after so many failures. */
  readonly bail?: number
  readonly onResult?: (result: Result, done: number, total: number) => void
}

// A piece of work: one case, in one mode, on one backend.
interface Job extends Pick<Result, 'mode' | 'id' | 'family' | 'dtype'> {
  /** Its place in the list; undefined: core itself. */
  readonly target: number | undefined
  readonly run: (engine: Started | undefined) => Promise<Outcome>
}

function on(target: number, run: (engine: Started) => Promise<Outcome>): Pick<Job, 'target' | 'run'> {
  return { target, run: (engine) => (engine ? run(engine) : Promise.reject(new RangeError('suite: the job needs an engine'))) }
}

const orderOf: { readonly [M in Mode]?: Order } = { forward: 0, gradient: 1, 'second-order': 2 }

/** Runs the suite. It throws only for its own mistakes: what a backend does wrong stands in the report. */
export async function runSuite(options: SuiteOptions): Promise<Report> {
  const start = performance.now()
  const engines = await Promise.all(options.targets.map(startEngine))
  const plan = new Plan(options, engines)
  const results: Result[] = []
  const total = plan.count
  let failures = 0
  try {
    for (const job of plan.jobs()) {
      const engine = job.target === undefined ? undefined : engines[job.target]
      const outcome = await attempt(job, engine && 'backend' in engine ? engine : undefined)
      const { mode, id, family, dtype } = job
      const backend = job.target === undefined ? 'core' : (options.targets[job.target]?.name ?? '')
      const result: Result = { backend, mode, id, family, dtype, ...outcome }
      results.push(result)
      if (outcome.status === 'failed') failures++
      options.onResult?.(result, results.length, total)
      if (failures >= (options.bail ?? Number.POSITIVE_INFINITY)) break
    }
  } finally {
    for (const e of engines) if ('backend' in e) await e.backend.dispose()
  }
  const lanes = plan.lanes(results)
  const support = engines.flatMap((e) => ('survey' in e ? [e.survey.column(e.target.notDeterministic ?? [])] : []))
  return { results, lanes, support, seconds: (performance.now() - start) / 1000, passed: failures === 0 && lanes.every((l) => l.problem === undefined) }
}

type Engine = Started | { readonly target: Target; readonly error: string }

async function startEngine(target: Target): Promise<Engine> {
  try {
    const backend = await target.create()
    return { target, backend, survey: new SupportSurvey(backend) }
  } catch (error) {
    return { target, error: error instanceof Error ? error.message : String(error) }
  }
}

async function attempt(job: Job, engine: Started | undefined): Promise<Outcome> {
  try {
    return await job.run(engine)
  } catch (error) {
    return { status: 'failed', problems: [`it threw ${thrown(error)}`] }
  }
}

// What is to be run, case by case, so that the truth is computed once for all backends.
class Plan {
  readonly #options: SuiteOptions
  readonly #engines: readonly Engine[]
  readonly #modes: ReadonlySet<Mode>
  readonly #cases: readonly Case[]

  constructor(options: SuiteOptions, engines: readonly Engine[]) {
    this.#options = options
    this.#engines = engines
    this.#modes = new Set(options.modes ?? modes)
    this.#cases = (options.cases ?? allCases()).filter((c) => this.#wanted(c.id))
  }

  get count(): number {
    let count = 0
    for (const _ of this.jobs()) count++
    return count
  }

  *jobs(): Generator<Job> {
    const targets = this.#engines.flatMap((engine, i) => ('backend' in engine ? [i] : []))
    for (const c of this.#cases) yield* this.#jobsOf(c, targets)
    if (this.#modes.has('memory')) {
      for (const { id, check } of contractCases()) {
        if (this.#wanted(id)) for (const target of targets) yield { mode: 'memory', id, family: 'contract', dtype: undefined, ...on(target, (e) => keepsTo(e, check)) }
      }
    }
    for (const mode of ['memory', 'perf'] as const) {
      if (!this.#modes.has(mode)) continue
      for (const { id, program } of perfCases()) {
        if (!this.#wanted(id)) continue
        const shared = once(program)
        for (const target of targets) yield { mode, id, family: 'perf', dtype: 'float32', ...on(target, (e) => measured(e, mode, shared())) }
      }
    }
  }

  *#jobsOf(c: Case, targets: readonly number[]): Generator<Job> {
    const about = { id: c.id, family: c.family, dtype: c.dtype }
    const programs = ([0, 1, 2] as const).map((order) => once(() => c.program(order)))
    if (this.#modes.has('support')) {
      for (const target of targets) yield { ...about, mode: 'support', ...on(target, (e) => surveyed(e, programs.slice(0, c.orders + 1).map((p) => p()))) }
    }
    for (const mode of modes) {
      const order = orderOf[mode]
      if (order === undefined || order > c.orders || !this.#modes.has(mode)) continue
      const truth = once(async () => {
        const program = programs[order]?.() ?? c.program(order)
        return { program, expected: await expectation(program) }
      })
      for (const target of targets) yield { ...about, mode, ...on(target, async (e) => agrees(e, c, await truth())) }
    }
    if (c.differences && this.#modes.has('numeric')) {
      yield { ...about, mode: 'numeric', target: undefined, run: () => Promise.resolve(verdict(checkDerivatives(c))) }
    }
  }

  /** The lanes that were promised. Modes that nobody asked for by name may have no case under a filter. */
  lanes(results: readonly Result[]): readonly Lane[] {
    const wanted = [...this.#modes].flatMap((mode): readonly { readonly mode: Mode; readonly backend: string; readonly engine: Engine | undefined }[] =>
      mode === 'numeric' ? [{ mode, backend: 'core', engine: undefined }] : this.#engines.map((engine) => ({ mode, backend: engine.target.name, engine })),
    )
    return wanted.flatMap(({ mode, backend, engine }): readonly Lane[] => {
      const own = results.filter((r) => r.mode === mode && r.backend === backend)
      const count = (status: Status): number => own.filter((r) => r.status === status).length
      const lane = { backend, mode, passed: count('passed'), failed: count('failed'), unsupported: count('unsupported') }
      if (engine && 'error' in engine) return [{ ...lane, problem: `it was promised, but the backend did not start: ${engine.error}` }]
      if (lane.passed + lane.failed > 0) return [{ ...lane, ...unprovenDType(engine, mode, own) }]
      const excused = own.length === 0 && this.#options.modes === undefined && this.#cases.length > 0
      return excused ? [] : [{ ...lane, problem: own.length ? 'it was promised, but every case is unsupported' : 'it was promised, but no case ran' }]
    })
  }

  #wanted(id: string): boolean {
    const { filters } = this.#options
    return !filters?.length || filters.some((f) => id.includes(f))
  }
}

// A dtype that a backend claims, and whose cases it then all refuses, is not claimed rightly.
function unprovenDType(engine: Engine | undefined, mode: Mode, own: readonly Result[]): { readonly problem?: string } {
  if (mode !== 'forward' || !engine || !('backend' in engine)) return {}
  const { dtypes } = engine.backend.capabilities
  for (const dtype of Object.keys(dtypes) as DType[]) {
    const about = own.filter((r) => r.dtype === dtype)
    if (dtypes[dtype] !== 'none' && about.length > 0 && about.every((r) => r.status === 'unsupported')) {
      return { problem: `capabilities claim ${dtype}, but every case in it is unsupported` }
    }
  }
  return {}
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}
