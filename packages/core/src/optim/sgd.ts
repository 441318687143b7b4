// Stochastic gradient descent with momentum, in PyTorch's form (torch.optim.SGD, no dampening):
//   g = grad + weightDecay * w;  v = momentum * v + g;  w = w - lr * (nesterov ? g + momentum * v : v)

import { ValueError } from '../backend/errors.ts'
import { checkDecays, groupOf, type Optimizer, type ParameterGroup, rateAt, type Schedule } from './optimizer.ts'

/** Options of `sgd`. */
export interface SgdOptions {
  /** The rate, or a schedule of it. */
  readonly lr: number | Schedule
  /** 0 unless given. */
  readonly momentum?: number
  readonly nesterov?: boolean
  /** 0 unless given. */
  readonly weightDecay?: number
  readonly groups?: readonly ParameterGroup[]
}

/**
 * Stochastic gradient descent.
 *
 * @example sgd({ lr: cosine({ peak: 0.1, steps: 5000 }), momentum: 0.9, weightDecay: 5e-4 })
 */
export function sgd(options: SgdOptions): Optimizer {
  const { lr, momentum = 0, nesterov = false, weightDecay = 0, groups } = options
  rateAt('sgd', lr, 0)
  if (!(momentum >= 0 && momentum < 1)) throw new ValueError(`sgd: momentum must be in [0, 1), got ${momentum}`)
  checkDecays('sgd', weightDecay, groups)
  if (nesterov && momentum === 0) throw new ValueError('sgd: nesterov needs a momentum above 0')
  return {
    name: 'sgd',
    slots: momentum ? ['momentum'] : [],
    hyper: (step) => ({ lr: rateAt('sgd', lr, step) }),
    update: (trained, context) => {
      const group = groupOf(trained.name, groups, weightDecay)
      const rate = group.lrScale === 1 ? context.hyper('lr') : context.hyper('lr').mul(group.lrScale)
      const g = group.weightDecay ? trained.gradient.add(trained.value.mul(group.weightDecay)) : trained.gradient
      if (!momentum) return trained.value.sub(g.mul(rate))
      const v = context.read('momentum', trained).mul(momentum).add(g)
      context.write('momentum', trained, v)
      return trained.value.sub((nesterov ? g.add(v.mul(momentum)) : v).mul(rate))
    },
  }
}
