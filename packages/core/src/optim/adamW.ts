// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101; torch.optim.AdamW), t counted from 1:
//   w = w - lr * weightDecay * w
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   w = w - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)

import { ValueError } from '../backend/errors.ts'
import { checkDecays, groupOf, type Optimizer, type ParameterGroup, rateAt, type Schedule } from './optimizer.ts'

/** Options of `adamW`. */
export interface AdamWOptions {
  /** The rate, or a schedule of it. */
  readonly lr: number | Schedule
  /** [0.9, 0.999] unless given. */
  readonly betas?: readonly [number, number]
  /** 1e-8 unless given. */
  readonly epsilon?: number
  /** 0.01 unless given. */
  readonly weightDecay?: number
  readonly groups?: readonly ParameterGroup[]
}

/** Adam with decoupled weight decay. @example adamW({ lr: 1e-3 }) */
export function adamW(options: AdamWOptions): Optimizer {
  const { lr, betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0.01, groups } = options
  const [b1, b2] = betas
  rateAt('adamW', lr, 0)
  for (const b of betas) if (!(b >= 0 && b < 1)) throw new ValueError(`adamW: betas must be in [0, 1), got ${betas.join(', ')}`)
  if (!(epsilon > 0)) throw new ValueError(`adamW: epsilon must be positive, got ${epsilon}`)
  checkDecays('adamW', weightDecay, groups)
  return {
    name: 'adamW',
    slots: ['m', 'v'],
    hyper: (step) => {
      const rate = rateAt('adamW', lr, step)
      return { lr: rate, stepSize: rate / (1 - b1 ** (step + 1)), rootCorrection: 1 / Math.sqrt(1 - b2 ** (step + 1)) }
    },
    update: (trained, context) => {
      const { gradient: g, value } = trained
      const group = groupOf(trained.name, groups, weightDecay)
      const m = context.read('m', trained).mul(b1).add(g.mul(1 - b1))
      const v = context.read('v', trained).mul(b2).add(g.mul(g).mul(1 - b2))
      context.write('m', trained, m)
      context.write('v', trained, v)
      const decay = group.weightDecay * group.lrScale
      const decayed = decay ? value.sub(value.mul(context.hyper('lr').mul(decay))) : value
      const step = group.lrScale === 1 ? context.hyper('stepSize') : context.hyper('stepSize').mul(group.lrScale)
      return decayed.sub(m.mul(step).div(v.sqrt().mul(context.hyper('rootCorrection')).add(epsilon)))
    },
  }
}
