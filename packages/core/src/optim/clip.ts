// Clipping by the global norm (Pascanu et al. 2013, arXiv:1211.5063), in PyTorch's form (clip_grad_norm_):
//   g_i = g_i * min(1, maxNorm / (norm + 1e-6)),  norm = sqrt(sum_i |g_i|^2)

import { ValueError } from '../backend/errors.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** The root of the sum of squares of all gradients, a scalar. */
export function globalNorm(gradients: readonly Tensor[]): Tensor {
  const [first, ...rest] = gradients.map((g) => g.square().sum())
  if (!first) throw new ValueError('globalNorm: there are no gradients')
  return rest.reduce((a, b) => a.add(b), first).sqrt()
}

/** The gradients scaled down together where their global norm is above `maxNorm`, and that norm. */
export function clipByGlobalNorm(gradients: readonly Tensor[], maxNorm: number): { readonly gradients: readonly Tensor[]; readonly norm: Tensor } {
  if (!(maxNorm > 0)) throw new ValueError(`clipByGlobalNorm: maxNorm must be positive, got ${maxNorm}`)
  const norm = globalNorm(gradients)
  const factor = norm.full(maxNorm).div(norm.add(1e-6)).min(1)
  return { gradients: gradients.map((g) => g.mul(factor)), norm }
}
