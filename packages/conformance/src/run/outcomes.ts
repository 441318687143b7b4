// What becomes of one case on one backend: the verdicts of each mode.

import { type Backend, dce, type OpName, UnsupportedOpError } from '@dynconv/core'
import type { ContractCase } from '../cases/contractDefine.ts'
import type { Case } from '../cases/define.ts'
import type { Expectation } from '../expect/expectation.ts'
import type { Program } from '../expect/program.ts'
import { execute, graphFor, withCensus, withProgram } from './execute.ts'
import { type Figures, measureMemory, measureTime } from './measure.ts'
import { refusals, type SupportSurvey } from './support.ts'

/** A backend to try. */
export interface Target {
  readonly name: string
  /** Starts the engine. It is disposed at the end. */
  readonly create: () => Promise<Backend>
  /** Ops whose results may differ (within the tolerance) from run to run. */
  readonly notDeterministic?: readonly OpName[]
  /** The engine's own sentinels, looked at after each case: what was overwritten, a text each. */
  readonly checkGuards?: (backend: Backend) => readonly string[] | Promise<readonly string[]>
}

/** A target whose engine runs. */
export interface Started {
  readonly target: Target
  readonly backend: Backend
  readonly survey: SupportSurvey
}

/** What became of one case in one mode on one backend. */
export type Status = 'passed' | 'failed' | 'unsupported'

/** A verdict, and why. */
export interface Outcome {
  readonly status: Status
  /** What is wrong, or why it is not supported. */
  readonly problems: readonly string[]
  readonly figures?: Figures
}

/** Passed where nothing is wrong. */
export function verdict(problems: readonly string[]): Outcome {
  return { status: problems.length ? 'failed' : 'passed', problems }
}

/** What was thrown, as a text. */
export function thrown(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
}

/**
 * Modes forward, gradient and second-order. What a backend declares unsupported it must refuse when it compiles: a case
 * that passes all the same is declared wrongly, and fails.
 */
export async function agrees({ target, backend }: Started, c: Pick<Case, 'prepared'>, program: Program, truth: () => Promise<Expectation>): Promise<Outcome> {
  const graph = graphFor(program, backend, c.prepared)
  const refused = refusals(backend, graph)
  const reasons = [...new Set(refused.map((r) => `${r.op}: ${r.reason}`))]
  try {
    // The truth costs more than a refusal.
    if (refused.length) await withProgram(backend, program, c.prepared, () => Promise.resolve())
    const mayVary = graph.nodes.some((node) => target.notDeterministic?.includes(node.op))
    const checkGuards = target.checkGuards && (() => target.checkGuards?.(backend) ?? [])
    const problems = await execute(backend, program, await truth(), { prepared: c.prepared, mayVary, checkGuards })
    // A backend may drop what nothing needs before it looks at it.
    if (refused.length === 0 || refusals(backend, dce(graph)).length === 0) return verdict(problems)
    return verdict([problems.length ? `${declared(reasons)}, but compile() takes it and it goes wrong: ${problems[0]}` : `${declared(reasons)}, but it passes: say so in supports()`])
  } catch (error) {
    if (error instanceof UnsupportedOpError) {
      return refused.length ? { status: 'unsupported', problems: reasons } : verdict([`supports() accepts every node, but it threw ${thrown(error)}`])
    }
    if (refused.length) return verdict([`${declared(reasons)}; compile() must then throw UnsupportedOpError, not ${thrown(error)}`])
    throw error
  }
}

function declared(reasons: readonly string[]): string {
  return `declared unsupported (${reasons.join('; ')})`
}

/** Mode support. */
export function surveyed({ survey }: Started, programs: readonly Program[]): Promise<Outcome> {
  return Promise.resolve(verdict([...new Set(programs.flatMap((p) => survey.ask(p.graph)))]))
}

/** Mode memory, for what surrounds the results. */
export async function keepsTo({ target, backend }: Started, { check }: ContractCase): Promise<Outcome> {
  const problems: string[] = []
  await withCensus(backend, problems, async () => {
    try {
      problems.push(...(await check(backend, target.create)))
    } catch (error) {
      problems.push(`it threw ${thrown(error)}`)
    }
  })
  return verdict(problems)
}

/** Modes memory and perf, for programs: figures. */
export async function measured({ target, backend }: Started, mode: 'memory' | 'perf', program: Program): Promise<Outcome> {
  const refused = refusals(backend, graphFor(program, backend, true))
  if (refused.length) return { status: 'unsupported', problems: refused.map((r) => `${r.op}: ${r.reason}`) }
  const problems: string[] = []
  const figures = mode === 'perf' ? await measureTime(backend, program) : await measureMemory(target.create, program, problems)
  return { ...verdict(problems), figures }
}
