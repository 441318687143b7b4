// The loss scale of mixed precision (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2). float16 knows nothing below 6e-8, where many
// gradients lie: they are taken of a multiple of the loss, and divided by it again in float32. The multiple finds itself, as in
// PyTorch's GradScaler: an update whose gradients overflowed is left out, and the next multiple is smaller; after many that did
// not it is larger. Both its value and the count since are states, so that a checkpoint holds them.

import { ValueError } from '../backend/errors.ts'
import type { StateSource } from '../graph/scope.ts'
import { maxFloat32 } from '../passes/guardState.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** How the loss scale moves. Powers of 2 scale without rounding. */
export interface LossScale {
  /** At the start, 1 or more; 65536 unless given. */
  readonly initial?: number
  /** What it is multiplied by after `interval` updates in a row without overflow, 1 or more; 2 unless given. */
  readonly growth?: number
  /** What it is multiplied by after an overflow, between 0 and 1; it never falls below 1. 0.5 unless given. */
  readonly backoff?: number
  /** 2000 unless given. */
  readonly interval?: number
}

/** The states' names. */
export const lossScaleNames = { scale: 'optimizer.lossScale', age: 'optimizer.lossScaleAge' } as const

/** @throws ValueError for a number out of its range */
export function checkLossScale(who: string, given: LossScale = {}): Required<LossScale> {
  const { initial = 2 ** 16, growth = 2, backoff = 0.5, interval = 2000 } = given
  const check = (name: string, value: number, fits: boolean, range: string): void => {
    if (!fits || !Number.isFinite(value)) throw new ValueError(`${who}: lossScale.${name} must be ${range}, got ${value}`)
  }
  check('initial', initial, initial >= 1, '1 or more')
  check('growth', growth, growth >= 1, '1 or more')
  check('backoff', backoff, backoff > 0 && backoff < 1, 'between 0 and 1')
  check('interval', interval, Number.isInteger(interval) && interval >= 1, 'a positive integer')
  return { initial, growth, backoff, interval }
}

/** The scale, and how many updates it has seen since it last changed; both scalars. */
export function lossScaleSlots({ initial }: Required<LossScale>): ReadonlyMap<string, StateSource> {
  return new Map([
    [lossScaleNames.scale, { kind: 'optimizer', data: tensor(initial) }],
    [lossScaleNames.age, { kind: 'optimizer', data: tensor(0) }],
  ])
}

/** Whether all gradients are finite, a bool scalar. */
export function allFinite(gradients: readonly Tensor[]): Tensor | undefined {
  const largest = gradients.flatMap((g) => (sizeOf(g.shape.map(Number)) > 0 ? [g.abs().maxOver()] : []))
  const [first, ...rest] = largest
  return first && rest.reduce((a, b) => a.max(b), first).compare('lessEqual', maxFloat32)
}

/** The scale and age after an update. */
export function nextLossScale(scale: Tensor, age: Tensor, finite: Tensor, { growth, backoff, interval }: Required<LossScale>): { readonly scale: Tensor; readonly age: Tensor } {
  const older = age.add(1)
  const due = older.compare('greaterEqual', interval)
  const grown = scale.mul(growth).min(maxFloat32 / growth)
  return {
    scale: finite.select(due.select(grown, scale), scale.mul(backoff).max(1)),
    age: finite.select(due.select(0, older), 0),
  }
}
