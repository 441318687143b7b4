// Residual networks of basic blocks (He et al. 2016, arXiv:1512.03385). Names of parts are torchvision's (`layer1.0.conv1`),
// so that its weights load by name; the CIFAR variants are those of the article's section 4.2 with projection shortcuts.

import { BatchNorm2d, Linear, MaxPool2d, Module, Sequential, type Tensor, ValueError, withSeed } from '@dynconv/core'
import { type ConvFactory, type ConvSite, ordinary } from './conv.ts'
import { heInitialise } from './init.ts'

/** Options of a residual network. */
export interface ResNetOptions {
  readonly classes: number
  /** Channels of each stage. */
  readonly widths: readonly number[]
  /** Blocks in each stage. */
  readonly blocks: readonly number[]
  /** 3 unless given. */
  readonly inChannels?: number
  /** 'cifar': a 3x3 convolution; 'imagenet': 7x7 with stride 2 and a max pool. 'cifar' unless given. */
  readonly stem?: 'cifar' | 'imagenet'
  /** The factory of convolutions; ordinary ones unless given. */
  readonly conv?: ConvFactory
  /** The seed of the initial values; 0 unless given. */
  readonly seed?: number
}

/** Two 3x3 convolutions and a shortcut: [N, C_in, H, W] -> [N, C_out, H/stride, W/stride]. */
export class BasicBlock extends Module {
  readonly conv1: Module
  readonly bn1: BatchNorm2d
  readonly conv2: Module
  readonly bn2: BatchNorm2d
  readonly downsample: Sequential | undefined

  constructor(inChannels: number, outChannels: number, stride: number, conv: ConvFactory, at: Pick<ConvSite, 'stage' | 'block'>) {
    super()
    const common = { outChannels, kernelSize: 3, padding: 1, bias: false }
    this.conv1 = conv({ ...common, inChannels, stride }, { role: 'block', ...at })
    this.bn1 = new BatchNorm2d(outChannels)
    this.conv2 = conv({ ...common, inChannels: outChannels }, { role: 'block', ...at })
    this.bn2 = new BatchNorm2d(outChannels)
    this.downsample =
      stride === 1 && inChannels === outChannels
        ? undefined
        : new Sequential(conv({ inChannels, outChannels, kernelSize: 1, stride, bias: false }, { role: 'shortcut', ...at }), new BatchNorm2d(outChannels))
  }

  override forward(x: Tensor): Tensor {
    const h = this.bn1.forward(this.conv1.forward(x)).relu()
    const y = this.bn2.forward(this.conv2.forward(h))
    return y.add(this.downsample ? this.downsample.forward(x) : x).relu()
  }
}

/** A residual network: [N, C, H, W] -> logits [N, classes]. */
export class ResNet extends Module {
  readonly conv1: Module
  readonly bn1: BatchNorm2d
  readonly maxpool: MaxPool2d | undefined
  readonly [layer: `layer${number}`]: Sequential
  // Declared only: as a field it would come before the layers, and parameters are named in the order of fields.
  declare readonly fc: Linear
  readonly #stages: readonly Sequential[]

  constructor(options: ResNetOptions) {
    super()
    const { classes, widths, blocks, inChannels = 3, stem = 'cifar', conv = ordinary } = options
    const [first] = widths
    if (first === undefined || widths.length !== blocks.length) {
      throw new ValueError(`ResNet: widths [${widths.join(', ')}] and blocks [${blocks.join(', ')}] must be of one length, at least 1`)
    }
    const geometry = stem === 'cifar' ? { kernelSize: 3, padding: 1 } : { kernelSize: 7, stride: 2, padding: 3 }
    this.conv1 = conv({ inChannels, outChannels: first, bias: false, ...geometry }, { role: 'stem', stage: 0, block: 0 })
    this.bn1 = new BatchNorm2d(first)
    this.maxpool = stem === 'imagenet' ? new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }) : undefined
    let width = first
    this.#stages = widths.map((outChannels, i) => {
      const stage = Array.from({ length: blocks[i] ?? 0 }, (_, block) => {
        const inner = new BasicBlock(width, outChannels, i > 0 && block === 0 ? 2 : 1, conv, { stage: i + 1, block })
        width = outChannels
        return inner
      })
      const layer = new Sequential(...stage)
      Object.defineProperty(this, `layer${i + 1}`, { value: layer, enumerable: true })
      return layer
    })
    this.fc = new Linear({ inFeatures: width, outFeatures: classes })
    heInitialise(this)
  }

  override forward(x: Tensor): Tensor {
    let y = this.bn1.forward(this.conv1.forward(x)).relu()
    if (this.maxpool) y = this.maxpool.forward(y)
    for (const stage of this.#stages) y = stage.forward(y)
    return this.fc.forward(y.mean([2, 3]))
  }
}

/** A residual network with widths and depths of your own. */
export function resnet(options: ResNetOptions): ResNet {
  return withSeed(options.seed ?? 0, () => new ResNet(options))
}

/** What the named networks leave open. */
export type NamedResNetOptions = Omit<ResNetOptions, 'widths' | 'blocks'>

/** ResNet-18: 11.2 M parameters with the CIFAR stem and 10 classes, 11.7 M with ImageNet's stem and 1000. */
export function resnet18(options: NamedResNetOptions): ResNet {
  return resnet({ ...options, widths: [64, 128, 256, 512], blocks: [2, 2, 2, 2] })
}

/** ResNet-20 for 32x32 images: stages of 16, 32 and 64 channels, three blocks each; 0.27 M parameters. */
export function resnet20(options: NamedResNetOptions): ResNet {
  return resnet({ ...options, widths: [16, 32, 64], blocks: [3, 3, 3] })
}

/** The smallest: stages of 16, 32 and 64 channels, one block each; 0.08 M parameters. */
export function resnet8(options: NamedResNetOptions): ResNet {
  return resnet({ ...options, widths: [16, 32, 64], blocks: [1, 1, 1] })
}
