// Initial values that the networks share.

import { Conv2d, DynamicConv2d, kaimingNormal, type Module } from '@dynconv/core'

/**
 * He's initialisation (arXiv:1502.01852), fan-out, for every convolution of `net`; each basis of a dynamic convolution is a
 * kernel of its own.
 */
export function heInitialise(net: Module): void {
  for (const module of net.namedModules().values()) {
    if (module instanceof Conv2d) {
      const [o = 1, , kh = 1, kw = 1] = module.weight.shape
      module.weight.data = kaimingNormal(module.weight.shape, (o * kh * kw) / (module.options.groups ?? 1))
    } else if (module instanceof DynamicConv2d) {
      const [, o = 1, , kh = 1, kw = 1] = module.bases.shape
      module.bases.data = kaimingNormal(module.bases.shape, (o * kh * kw) / (module.options.groups ?? 1))
    }
  }
}
