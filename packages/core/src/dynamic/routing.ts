// Routing: from an image batch to how much each sample takes of each basis kernel.
//
//   z  = fc2(relu(norm(fc1(GAP(x)))))      fc1: I -> hidden, fc2: hidden -> K      (Chen et al. 2020, arXiv:1912.03458, sec. 3)
//   z  = fc2(GAP(x))                       ratio 0: a single layer, as CondConv's  (Yang et al. 2019, arXiv:1904.04971)
//   pi = softmax(z / tau) | sigmoid(z / tau) | sigmoid(z / tau) / sum sigmoid(z / tau)
//
// GAP is the mean over the image. tau, the temperature, is a buffer: annealing it never recompiles, and checkpoints keep it.

import { ShapeError, ValueError } from '../backend/errors.ts'
import { record } from '../graph/scope.ts'
import { filled, normal } from '../nn/init.ts'
import { BatchNorm2d, checkCount, GroupNorm, Linear } from '../nn/layers.ts'
import { Module } from '../nn/module.ts'
import { Buffer } from '../nn/parameter.ts'
import { tensor } from '../tensor/hostTensor.ts'
import { formatShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** How logits become the mixture: softmax (sums to 1), sigmoid (each for itself), or sigmoid divided by its sum. */
export type RoutingKind = 'softmax' | 'sigmoid' | 'renorm'

/** The normalisation between the two layers of a routing; 'group': 8 groups at most, of 4 channels at least. */
export type RoutingNorm = 'none' | 'layer' | 'group' | 'batch'

/** Options of a routing. */
export interface RoutingOptions {
  readonly inChannels: number
  /** K, how many basis kernels there are. */
  readonly numBases: number
  /** hidden / inChannels; 0.25 unless given; 0: a single layer. */
  readonly ratio?: number
  /** The least hidden width, so that a 3-channel stem works; 4 unless given. */
  readonly minHidden?: number
  /** softmax unless given. */
  readonly kind?: RoutingKind
  /** none unless given. With ratio 0 there is nothing to normalise. */
  readonly norm?: RoutingNorm
  /** tau at the start; 1 unless given. */
  readonly temperature?: number
}

const kinds: { readonly [K in RoutingKind]: (z: Tensor) => Tensor } = {
  softmax: (z) => z.softmax(1),
  sigmoid: (z) => z.sigmoid(),
  // Far-negative logits make every sigmoid 0; the floor keeps the quotient finite.
  renorm: (z) => {
    const gates = z.sigmoid()
    return gates.div(gates.sum([1], true).max(1e-6))
  },
}

const norms: { readonly [N in RoutingNorm]: (hidden: number) => Module | undefined } = {
  none: () => undefined,
  layer: (hidden) => new GroupNorm(1, hidden),
  // There are no pixels left: of one channel a group is always 0, of two -1 and 1.
  group: (hidden) => new GroupNorm(largestDivisor(hidden, Math.min(8, Math.floor(hidden / 4))), hidden),
  batch: (hidden) => new BatchNorm2d(hidden),
}

/** [B, I, H, W] -> the mixture pi, [B, K]. `fc1.weight` [hidden, I], `fc2.weight` [K, hidden], `fc2.bias` [K]. */
export class Routing extends Module {
  readonly fc1: Linear | undefined
  readonly norm: Module | undefined
  readonly fc2: Linear
  /** tau, a scalar. */
  readonly temperature: Buffer
  readonly kind: RoutingKind
  readonly inChannels: number

  /** @throws ValueError for a ratio below 0, a temperature that is not positive, or an unknown kind or norm */
  constructor(options: RoutingOptions) {
    super()
    const { inChannels, numBases, ratio = 0.25, minHidden = 4, kind = 'softmax', norm = 'none', temperature = 1 } = options
    checkCount('Routing', 'inChannels', inChannels)
    checkCount('Routing', 'numBases', numBases)
    checkCount('Routing', 'minHidden', minHidden)
    if (!(ratio >= 0)) throw new ValueError(`Routing: ratio must be 0 or more, got ${ratio}`)
    if (!(kind in kinds)) throw new ValueError(`Routing: kind must be ${Object.keys(kinds).join(', ')}, got ${String(kind)}`)
    if (!(norm in norms)) throw new ValueError(`Routing: norm must be ${Object.keys(norms).join(', ')}, got ${String(norm)}`)
    checkTemperature('Routing', temperature)
    const hidden = ratio === 0 ? inChannels : Math.max(minHidden, Math.trunc(inChannels * ratio))
    this.fc1 = ratio === 0 ? undefined : new Linear({ inFeatures: inChannels, outFeatures: hidden, bias: false })
    this.norm = ratio === 0 ? undefined : norms[norm](hidden)
    this.fc2 = new Linear({ inFeatures: hidden, outFeatures: numBases })
    // Near zero, so that the mixture starts uniform and every basis learns from the first step.
    this.fc2.weight.data = normal([numBases, hidden], 0.01)
    if (this.fc2.bias) this.fc2.bias.data = filled([numBases], 0)
    this.temperature = new Buffer(tensor(temperature))
    this.kind = kind
    this.inChannels = inChannels
  }

  override forward(x: Tensor): Tensor {
    if (x.rank !== 4 || x.shape[1] !== this.inChannels) {
      throw new ShapeError(`Routing: expected [B, ${this.inChannels}, H, W] for inChannels=${this.inChannels}, got ${formatShape(x.shape)}`)
    }
    let h = x.mean([2, 3])
    if (this.fc1) {
      h = this.fc1.forward(h)
      if (this.norm) h = this.norm.forward(h.reshape([...h.shape, 1, 1])).reshape(h.shape)
      h = h.relu()
    }
    const pi = kinds[this.kind](this.fc2.forward(h).div(this.temperature.value))
    record(this, 'pi', pi)
    return pi
  }
}

/** Throws unless tau is a positive number. */
export function checkTemperature(who: string, temperature: number): void {
  if (!(temperature > 0 && Number.isFinite(temperature))) throw new ValueError(`${who}: temperature must be positive, got ${temperature}`)
}

function largestDivisor(n: number, most: number): number {
  for (let d = Math.min(n, most); d > 1; d--) if (n % d === 0) return d
  return 1
}
