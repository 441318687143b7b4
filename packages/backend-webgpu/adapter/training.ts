// A small dynamic network in training, the same on every backend: what the losses of two backends are compared on. Runs in
// browsers.

import { type Backend, BatchNorm2d, Conv2d, crossEntropy, DynamicConv2d, globalAvgPool2d, type HostTensor, Linear, Module, Random, sgd, tensor, type Tensor, trainer, withSeed } from '@dynconv/core'

class SmallNet extends Module {
  readonly stem: Conv2d = new Conv2d({ inChannels: 3, outChannels: 8, kernelSize: 3, padding: 1, bias: false })
  readonly norm: BatchNorm2d = new BatchNorm2d(8)
  readonly dynamic: DynamicConv2d = new DynamicConv2d({ inChannels: 8, outChannels: 8, kernelSize: 3, padding: 1, stride: 2, numBases: 4 })
  readonly head: Linear = new Linear({ inFeatures: 8, outFeatures: 4 })

  override forward(x: Tensor): Tensor {
    const h = this.dynamic.forward(this.norm.forward(this.stem.forward(x)).relu())
    return this.head.forward(globalAvgPool2d(h.relu()).reshape([-1, 8]))
  }
}

// Four classes: bright in one of three channels, or in none.
function batch(random: Random, size: number): readonly [images: HostTensor, labels: HostTensor] {
  const labels = Array.from({ length: size }, (_, n) => n % 4)
  const images = labels.flatMap((label) =>
    Array.from({ length: 3 * 64 }, (_, i) => random.normal() * 0.3 + (Math.floor(i / 64) === label ? 1 : 0)),
  )
  return [tensor(images, [size, 3, 8, 8]), tensor(labels, [size], 'int32')]
}

/** The loss of each of `steps` steps. */
export async function losses(backend: Backend, steps: number): Promise<readonly number[]> {
  const net = withSeed(1, () => new SmallNet())
  const training = await trainer(net, { backend, loss: crossEntropy(), optimizer: sgd({ lr: 0.1, momentum: 0.9 }) })
  try {
    const random = new Random(7)
    const result: number[] = []
    for (let step = 0; step < steps; step++) result.push((await training.step(...batch(random, 8))).loss)
    return result
  } finally {
    training.dispose()
  }
}

/** How far two lists of losses are apart, relative to the first loss; undefined when within what float32 explains. */
export function lossesDiffer(a: readonly number[], b: readonly number[]): string | undefined {
  const tolerance = 1e-4
  const worst = Math.max(...a.map((loss, i) => Math.abs(loss - (b[i] ?? Number.NaN)) / Math.max(Math.abs(a[0] ?? 1), 1)))
  return a.length === b.length && worst <= tolerance ? undefined : `losses ${a.join(', ')} and ${b.join(', ')} differ by ${worst}`
}
