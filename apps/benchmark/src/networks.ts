// The networks of the workloads, built from our own layers. A convolution factory decides whether (and how) they are dynamic.

import { Module, type Tensor } from '@dynconv/core'
import { BasicBlock, type ConvFactory, mobilenetV2, resnet } from '@dynconv/models'
import type { NetworkSpec } from './workloads.ts'

/** Layers one after another, then the mean of each channel: [N, C, H, W] -> [N, C]. */
class Chain extends Module {
  readonly layers: readonly Module[]
  readonly #rectify: boolean

  constructor(layers: readonly Module[], rectify: boolean) {
    super()
    this.layers = layers
    this.#rectify = rectify
  }

  override forward(x: Tensor): Tensor {
    const next = (y: Tensor, layer: Module): Tensor => (this.#rectify ? layer.forward(y).relu() : layer.forward(y))
    return this.layers.reduce(next, x).mean([2, 3])
  }
}

const builders: { readonly [K in NetworkSpec['kind']]: (spec: Extract<NetworkSpec, { readonly kind: K }>, conv: ConvFactory) => Module } = {
  chain: ({ channels, kernelSize, depthwise, depth }, conv) => {
    const geometry = { inChannels: channels, outChannels: channels, kernelSize, padding: (kernelSize - 1) / 2, groups: depthwise ? channels : 1, bias: false }
    return new Chain(
      Array.from({ length: depth }, (_, block) => conv(geometry, { role: 'block', stage: 1, block })),
      true,
    )
  },
  block: ({ channels, depth }, conv) => {
    const blocks = Array.from({ length: depth }, (_, block) => new BasicBlock(channels, channels, 1, conv, { stage: 1, block }))
    return new Chain(blocks, false)
  },
  resnet: ({ widths, blocks, stem, classes }, conv) => resnet({ widths, blocks, stem, classes, conv }),
  mobilenetV2: ({ width, stem, classes }, conv) => mobilenetV2({ width, stem, classes, conv }),
}

// Drawing the initial values of a large network takes longer than measuring it. Networks of the last spec are kept, for the
// same one comes again with another batch or on another engine; nothing here changes their values.
const kept: { spec: string; readonly networks: Map<string, Module> } = { spec: '', networks: new Map() }

/** The network that `spec` describes. Those with the same `key` have the same convolutions, and are one. */
export function keptNetwork(spec: NetworkSpec, key: string, conv: () => ConvFactory): Module {
  const text = JSON.stringify(spec)
  if (kept.spec !== text) kept.networks.clear()
  kept.spec = text
  const network = kept.networks.get(key) ?? buildNetwork(spec, conv())
  kept.networks.set(key, network)
  return network
}

/** Lets go of the networks kept so far. */
export function forgetNetworks(): void {
  kept.networks.clear()
}

/** The network that `spec` describes, its convolutions made by `conv`. */
function buildNetwork(spec: NetworkSpec, conv: ConvFactory): Module {
  // Each builder takes the spec of its own kind, which the compiler cannot follow through the table.
  const build = builders[spec.kind] as (spec: NetworkSpec, conv: ConvFactory) => Module
  return build(spec, conv)
}
