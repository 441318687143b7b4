// What a program need not compute in every run: steps that depend only on constants and on states that the program itself
// does not change, such as weights in the layout that a kernel wants. They come first, run in the first run and again when
// somebody has given one of these states another value, and what later steps read of theirs stays in memory between runs.

import { type Parts, type PlanBuffer, type Step, touched, wholeOf, written } from './program.ts'

/** Steps with the fixed ones first. */
export interface FixedFirst {
  readonly steps: readonly Step[]
  /** How many of them are fixed. */
  readonly fixedSteps: number
  /** The states that those read. */
  readonly fixedStates: readonly string[]
}

/**
 * Parts the steps. A step is fixed when nothing that it touches changes from run to run; what a step that is not fixed writes
 * changes, also for the steps before it that write there. Fixed steps depend on fixed ones only, so they may go first.
 */
export function fixedFirst(steps: readonly Step[], parts: Parts, updatedStates: ReadonlySet<string>): FixedFirst {
  const changing = new Set<number>()
  const changes = (buffer: PlanBuffer): boolean => {
    const { source } = buffer
    return changing.has(wholeOf(parts, buffer).id) || ['input', 'faults', 'states'].includes(source.kind) || (source.kind === 'state' && updatedStates.has(source.name))
  }
  const isFixed = (step: Step): boolean => !touched(step).some(changes)
  for (let before = -1; before !== changing.size; ) {
    before = changing.size
    for (const step of steps) if (!isFixed(step)) for (const buffer of written(step)) changing.add(wholeOf(parts, buffer).id)
  }
  const fixed = steps.filter(isFixed)
  const states = fixed.flatMap(touched).flatMap(({ source }) => (source.kind === 'state' ? [source.name] : []))
  return { steps: [...fixed, ...steps.filter((step) => !isFixed(step))], fixedSteps: fixed.length, fixedStates: [...new Set(states)] }
}
