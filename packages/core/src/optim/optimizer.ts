// What an optimizer is: ops that run inside the training step's graph. Numbers that change from step to step (the rate,
// Adam's bias corrections) are scalar inputs of that graph, so that nothing recompiles.

import { ValueError } from '../backend/errors.ts'
import type { Parameter } from '../nn/parameter.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** A rate for each step, counted from 0. */
export type Schedule = (step: number) => number

/** Settings of some parameters only; of two groups that match, the first counts. */
export interface ParameterGroup {
  /** Which parameters: a pattern or a test on their names (`layer1.0.conv1.bases`). */
  readonly match: RegExp | ((name: string) => boolean)
  /** This group's rate as a multiple of the optimizer's; 1 unless given. */
  readonly lrScale?: number
  readonly weightDecay?: number
}

/** A parameter in the training step, with its gradient. */
export interface Trained {
  readonly name: string
  readonly parameter: Parameter
  /** Its value at the start of the step. */
  readonly value: Tensor
  readonly gradient: Tensor
}

/** What an optimizer works with inside the step. */
export interface UpdateContext {
  /** The scalar input `name` (one of `hyper`'s). */
  hyper(name: string): Tensor
  /** Reads this parameter's `slot`. */
  read(slot: string, of: Trained): Tensor
  /** Writes this parameter's `slot`. */
  write(slot: string, of: Trained, value: Tensor): void
}

/** An optimizer. */
export interface Optimizer {
  readonly name: string
  /** The states it keeps beside each parameter, of the parameter's shape, zero at the start. */
  readonly slots: readonly string[]
  /** Its scalar inputs at a step, counted from 0. */
  hyper(step: number): { readonly [name: string]: number }
  /** Appends the new value of `trained` (and of its slots) to the running trace. */
  update(trained: Trained, context: UpdateContext): Tensor
}

/** The rate at `step`. @throws ValueError when it is not a number of 0 or more */
export function rateAt(who: string, lr: number | Schedule, step: number): number {
  if (typeof lr !== 'number' && typeof lr !== 'function') throw new ValueError(`${who}: lr must be a number or a function of the step, got ${String(lr)}`)
  const rate = typeof lr === 'number' ? lr : lr(step)
  if (!(rate >= 0 && Number.isFinite(rate))) throw new ValueError(`${who}: the rate at step ${step} must be 0 or more, got ${rate}`)
  return rate
}

/** Throws unless the weight decays and scales of an optimizer are numbers of 0 or more. @throws ValueError */
export function checkDecays(who: string, weightDecay: number, groups: readonly ParameterGroup[] = []): void {
  const check = (name: string, value: number): void => {
    if (!(value >= 0 && Number.isFinite(value))) throw new ValueError(`${who}: ${name} must be 0 or more, got ${value}`)
  }
  check('weightDecay', weightDecay)
  for (const { match, lrScale = 0, weightDecay: own = 0 } of groups) {
    check(`lrScale of the group ${String(match)}`, lrScale)
    check(`weightDecay of the group ${String(match)}`, own)
  }
}

/** The settings of the parameter `name`. */
export function groupOf(name: string, groups: readonly ParameterGroup[] | undefined, weightDecay: number): { readonly lrScale: number; readonly weightDecay: number } {
  // Not `test`, which goes on from where it last stopped when the pattern has the flag g.
  const group = groups?.find((g) => (typeof g.match === 'function' ? g.match(name) : name.search(g.match) >= 0))
  return { lrScale: group?.lrScale ?? 1, weightDecay: group?.weightDecay ?? weightDecay }
}
