// Counts who passes which foreign programs: the reference first, then backends.

import { type Backend, UnsupportedOpError } from '@dynconv/core'
import { checkOn, checkReference, type ForeignCheck, type ForeignProgram } from './foreignProgram.ts'

/** A program that somebody did not pass, and why. */
export interface Failure {
  readonly id: string
  readonly problems: readonly string[]
}

/** How one engine did. */
export interface EngineTally {
  readonly name: string
  readonly passed: number
  readonly failures: readonly Failure[]
  /** Programs that the engine itself says it does not run. */
  readonly unsupported: readonly Failure[]
}

/** Counts for one engine. */
export class Tally {
  readonly #name: string
  readonly #check: ForeignCheck
  #passed: number = 0
  readonly #failures: Failure[] = []
  readonly #unsupported: Failure[] = []

  constructor(name: string, check: ForeignCheck) {
    this.#name = name
    this.#check = check
  }

  async run(foreign: ForeignProgram): Promise<void> {
    const { id } = foreign
    try {
      const problems = await this.#check(foreign)
      if (problems.length) this.#failures.push({ id, problems })
      else this.#passed++
    } catch (error) {
      const list = error instanceof UnsupportedOpError ? this.#unsupported : this.#failures
      list.push({ id, problems: [describe(error)] })
    }
  }

  result(): EngineTally {
    return { name: this.#name, passed: this.#passed, failures: this.#failures, unsupported: this.#unsupported }
  }
}

/** One for the reference and one for each backend. */
export function talliesOf(backends: readonly Backend[]): readonly Tally[] {
  return [new Tally('reference', checkReference), ...backends.map((backend) => new Tally(backend.name, checkOn(backend)))]
}

/** Runs all `programs` on the reference and on `backends`. */
export async function tallyAll(programs: readonly ForeignProgram[], backends: readonly Backend[], onCase?: (done: number, total: number, id: string) => void): Promise<readonly EngineTally[]> {
  const tallies = talliesOf(backends)
  for (const [i, program] of programs.entries()) {
    for (const tally of tallies) await tally.run(program)
    onCase?.(i + 1, programs.length, program.id)
  }
  return tallies.map((tally) => tally.result())
}

/** An error as one line. */
export function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
}

/** `onnx: 470 of 474 pass, 3 unsupported, 1 FAIL` */
export function formatTally({ name, passed, failures, unsupported }: EngineTally, total: number): string {
  return `${name}: ${passed} of ${total} pass${unsupported.length ? `, ${unsupported.length} unsupported` : ''}${failures.length ? `, ${failures.length} FAIL` : ''}`
}

/** Each failure with its problems, a line each. */
export function formatFailures(title: string, failures: readonly Failure[]): readonly string[] {
  return failures.flatMap(({ id, problems }) => [`${title} ${id}`, ...problems.map((p) => `  ${p.replaceAll('\n', '\n  ')}`)])
}
