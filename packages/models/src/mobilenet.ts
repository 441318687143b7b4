// MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381): blocks that widen with a 1x1 convolution, filter each channel by
// itself, and narrow again without an activation. Names of parts are torchvision's (`features.3.conv.1.0.weight`), so that
// its weights load by name. With K = 4 dynamic convolutions inside its blocks it has the 11.1 M parameters that
// Chen et al. (arXiv:1912.03458) count.

import { BatchNorm2d, Lambda, Linear, Module, normal, ReLU6, Sequential, type Tensor, ValueError, withSeed, zeros } from '@dynconv/core'
import { type ConvFactory, type ConvSite, ordinary } from './conv.ts'
import { heInitialise } from './init.ts'

/** Options of a MobileNetV2. */
export interface MobileNetV2Options {
  readonly classes: number
  /** The width multiplier: channels of every layer are scaled by it and rounded to multiples of 8. 1 unless given. */
  readonly width?: number
  /** 3 unless given. */
  readonly inChannels?: number
  /** 'imagenet': 32 times fewer rows and columns at the end; 'cifar': 8 times, for images of 32x32. 'imagenet' unless given. */
  readonly stem?: 'cifar' | 'imagenet'
  /** The factory of convolutions; ordinary ones unless given. */
  readonly conv?: ConvFactory
  /** The seed of the initial values; 0 unless given. */
  readonly seed?: number
}

interface Stage {
  /** Channels inside a block over those that enter it. */
  readonly expansion: number
  readonly channels: number
  readonly blocks: number
  /** Of the first block. */
  readonly stride: number
}

/** Table 2 of the article. */
const stages: readonly Stage[] = [
  { expansion: 1, channels: 16, blocks: 1, stride: 1 },
  { expansion: 6, channels: 24, blocks: 2, stride: 2 },
  { expansion: 6, channels: 32, blocks: 3, stride: 2 },
  { expansion: 6, channels: 64, blocks: 4, stride: 2 },
  { expansion: 6, channels: 96, blocks: 3, stride: 1 },
  { expansion: 6, channels: 160, blocks: 3, stride: 2 },
  { expansion: 6, channels: 320, blocks: 1, stride: 1 },
]

/** The nearest multiple of 8, at least 8 and at least 0.9 of `channels`: the rule of the authors' own code. */
export function roundChannels(channels: number): number {
  const rounded = Math.max(8, Math.floor((channels + 4) / 8) * 8)
  return rounded < 0.9 * channels ? rounded + 8 : rounded
}

type At = Pick<ConvSite, 'stage' | 'block'>

// A convolution, its norm and, unless it is the last of a block, ReLU6.
function convNorm(inChannels: number, outChannels: number, kernelSize: number, options: { readonly stride?: number; readonly groups?: number }, conv: ConvFactory, site: ConvSite): Sequential {
  const geometry = { inChannels, outChannels, kernelSize, padding: (kernelSize - 1) / 2, bias: false, ...options }
  return new Sequential(conv(geometry, site), new BatchNorm2d(outChannels), new ReLU6())
}

/** An inverted residual: [N, C_in, H, W] -> [N, C_out, H/stride, W/stride], with a shortcut where the shapes agree. */
export class InvertedResidual extends Module {
  readonly conv: Sequential
  readonly #hasShortcut: boolean

  constructor(inChannels: number, outChannels: number, stride: number, expansion: number, conv: ConvFactory, at: At) {
    super()
    const hidden = inChannels * expansion
    this.#hasShortcut = stride === 1 && inChannels === outChannels
    this.conv = new Sequential(
      ...(expansion === 1 ? [] : [convNorm(inChannels, hidden, 1, {}, conv, { role: 'pointwise', ...at })]),
      convNorm(hidden, hidden, 3, { stride, groups: hidden }, conv, { role: 'depthwise', ...at }),
      conv({ inChannels: hidden, outChannels, kernelSize: 1, bias: false }, { role: 'pointwise', ...at }),
      new BatchNorm2d(outChannels),
    )
  }

  override forward(x: Tensor): Tensor {
    const y = this.conv.forward(x)
    return this.#hasShortcut ? x.add(y) : y
  }
}

/** The network: [N, C, H, W] -> logits [N, classes]. */
export class MobileNetV2 extends Module {
  readonly features: Sequential
  readonly classifier: Sequential

  constructor(options: MobileNetV2Options) {
    super()
    const { classes, width = 1, inChannels = 3, stem = 'imagenet', conv = ordinary } = options
    if (!(width > 0)) throw new ValueError(`MobileNetV2: width must be a positive number, got ${width}`)
    let channels = roundChannels(32 * width)
    const features: Module[] = [convNorm(inChannels, channels, 3, { stride: stem === 'imagenet' ? 2 : 1 }, conv, { role: 'stem', stage: 0, block: 0 })]
    stages.forEach(({ expansion, channels: plain, blocks, stride }, i) => {
      const outChannels = roundChannels(plain * width)
      // Small images keep their size through the second stage too.
      const first = stem === 'cifar' && i === 1 ? 1 : stride
      for (let block = 0; block < blocks; block++) {
        features.push(new InvertedResidual(channels, outChannels, block === 0 ? first : 1, expansion, conv, { stage: i + 1, block }))
        channels = outChannels
      }
    })
    const last = roundChannels(1280 * Math.max(1, width))
    features.push(convNorm(channels, last, 1, {}, conv, { role: 'head', stage: stages.length + 1, block: 0 }))
    this.features = new Sequential(...features)
    const head = new Linear({ inFeatures: last, outFeatures: classes })
    // Where torchvision has its dropout stands nothing, so that the layer after it keeps its name.
    this.classifier = new Sequential(new Lambda((x) => x), head)
    heInitialise(this)
    head.weight.data = normal([classes, last], 0.01)
    if (head.bias) head.bias.data = zeros([classes])
  }

  override forward(x: Tensor): Tensor {
    return this.classifier.forward(this.features.forward(x).mean([2, 3]))
  }
}

/**
 * A MobileNetV2: 3.5 M parameters with 1000 classes, 2.2 M with 10.
 *
 * @example mobilenetV2({ classes: 10, stem: 'cifar', width: 0.5, conv: dynamic({ numBases: 4 }) })
 * @throws ValueError for a width that is not positive
 */
export function mobilenetV2(options: MobileNetV2Options): MobileNetV2 {
  return withSeed(options.seed ?? 0, () => new MobileNetV2(options))
}
