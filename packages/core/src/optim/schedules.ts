// Rates as functions of the step, counted from 0.

import { ValueError } from '../backend/errors.ts'
import type { Schedule } from './optimizer.ts'

/** The rate falls by `gamma` at each of `milestones` (steps). */
export function stepDecay(options: { readonly peak: number; readonly milestones: readonly number[]; readonly gamma?: number }): Schedule {
  const { peak, milestones, gamma = 0.1 } = options
  return (step) => peak * gamma ** milestones.filter((m) => step >= m).length
}

/** Half a cosine from `peak` at step 0 to `floor` at `steps` (Loshchilov and Hutter 2017, arXiv:1608.03983). */
export function cosine(options: { readonly peak: number; readonly steps: number; readonly floor?: number }): Schedule {
  const { peak, steps, floor = 0 } = options
  if (!(steps > 0)) throw new ValueError(`cosine: steps must be positive, got ${steps}`)
  return (step) => floor + ((peak - floor) * (1 + Math.cos(Math.PI * Math.min(1, step / steps)))) / 2
}

/** A linear rise over the first `steps` to the first rate of `schedule`, which counts from the end of the rise. */
export function warmup(options: { readonly steps: number; readonly schedule: Schedule }): Schedule {
  const { steps, schedule } = options
  return (step) => (step < steps ? (schedule(0) * (step + 1)) / (steps + 1) : schedule(step - steps))
}
