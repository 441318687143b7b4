// Runs the list of cases over backends, in modes, and says lane by lane what came of it. Knows no test runner.

import type { DType } from '@dynconv/core'
import { type Outcome, type Started, type Status, type Target, thrown } from './outcomes.ts'
import { type Job, type Mode, modes, Plan, type PlanOptions } from './plan.ts'
import { type SupportColumn, SupportSurvey } from './support.ts'

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

/** What to run, and on what. */
export interface SuiteOptions extends PlanOptions {
  readonly targets: readonly Target[]
  /** Stop after so many failures. */
  readonly bail?: number
  readonly onResult?: (result: Result, done: number, total: number) => void
}

type Engine = Started | { readonly target: Target; readonly error: string }

/**
 * Runs the suite. What a backend does wrong stands in the report; nothing is thrown for it.
 *
 * @example const report = await runSuite({ targets: [{ name: 'mine', create: async () => myBackend() }] })
 */
export async function runSuite(options: SuiteOptions): Promise<Report> {
  const start = performance.now()
  const engines = await Promise.all(options.targets.map(startEngine))
  const plan = new Plan(options, engines.flatMap((engine, i) => ('backend' in engine ? [i] : [])))
  const total = plan.count
  const results: Result[] = []
  let failures = 0
  try {
    for (const job of plan.jobs()) {
      const engine = job.target === undefined ? undefined : engines[job.target]
      const outcome = await attempt(job, engine && 'backend' in engine ? engine : undefined)
      const { mode, id, family, dtype } = job
      const result: Result = { backend: engine?.target.name ?? 'core', mode, id, family, dtype, ...outcome }
      results.push(result)
      if (outcome.status === 'failed') failures++
      options.onResult?.(result, results.length, total)
      if (failures >= (options.bail ?? Number.POSITIVE_INFINITY)) break
    }
  } finally {
    for (const e of engines) if ('backend' in e) await e.backend.dispose()
  }
  const lanes = (options.modes ?? modes).flatMap((mode) => {
    // Modes that nobody asked for by name may have no case under a filter.
    const excused = options.modes === undefined && plan.cases.length > 0
    return (mode === 'numeric' ? [undefined] : engines).flatMap((engine) => laneOf(mode, engine, results, excused))
  })
  const support = engines.flatMap((e) => ('survey' in e ? [e.survey.column(e.target.notDeterministic ?? [])] : []))
  return { results, lanes, support, seconds: (performance.now() - start) / 1000, passed: failures === 0 && lanes.every((l) => l.problem === undefined) }
}

async function startEngine(target: Target): Promise<Engine> {
  try {
    const backend = await target.create()
    return { target, backend, survey: new SupportSurvey(backend) }
  } catch (error) {
    return { target, error: error instanceof Error ? error.message : String(error) }
  }
}

/** The outcome of a job, failed where it throws. */
export async function attempt(job: Job, engine: Started | undefined): Promise<Outcome> {
  try {
    return await job.run(engine)
  } catch (error) {
    return { status: 'failed', problems: [`it threw ${thrown(error)}`] }
  }
}

function laneOf(mode: Mode, engine: Engine | undefined, results: readonly Result[], excused: boolean): readonly Lane[] {
  const backend = engine?.target.name ?? 'core'
  const own = results.filter((r) => r.mode === mode && r.backend === backend)
  const count = (status: Status): number => own.filter((r) => r.status === status).length
  const lane = { backend, mode, passed: count('passed'), failed: count('failed'), unsupported: count('unsupported') }
  if (engine && 'error' in engine) return [{ ...lane, problem: `it was promised, but the backend did not start: ${engine.error}` }]
  if (own.length === 0) return excused ? [] : [{ ...lane, problem: 'it was promised, but no case ran' }]
  if (lane.passed + lane.failed === 0) return [{ ...lane, problem: 'it was promised, but every case is unsupported' }]
  const unproven = mode === 'forward' && engine ? unprovenDType(engine, own) : undefined
  return [unproven === undefined ? lane : { ...lane, problem: `capabilities claim ${unproven}, but every case in it is unsupported` }]
}

// A dtype that a backend claims, and whose cases it then all refuses.
function unprovenDType({ backend }: Started, own: readonly Result[]): DType | undefined {
  const { dtypes } = backend.capabilities
  return (Object.keys(dtypes) as DType[]).find((dtype) => {
    const about = own.filter((r) => r.dtype === dtype)
    return dtypes[dtype] !== 'none' && about.length > 0 && about.every((r) => r.status === 'unsupported')
  })
}
