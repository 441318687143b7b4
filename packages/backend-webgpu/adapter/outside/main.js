// A page as somebody else would write it, with the published packages: trains a small dynamic network, then uses it. packed.ts
// builds and opens it. Four classes of 8 x 8 images: bright in one of three channels, or in none.

import { compile, Conv2d, crossEntropy, DynamicConv2d, globalAvgPool2d, Linear, Module, Random, sgd, tensor, trainer, withSeed } from '@dynconv/core'
import { webgpu } from '@dynconv/backend-webgpu'

class SmallNet extends Module {
  stem = new Conv2d({ inChannels: 3, outChannels: 8, kernelSize: 3, padding: 1 })
  dynamic = new DynamicConv2d({ inChannels: 8, outChannels: 8, kernelSize: 3, padding: 1, stride: 2, numBases: 4 })
  head = new Linear({ inFeatures: 8, outFeatures: 4 })

  forward(x) {
    const h = this.dynamic.forward(this.stem.forward(x).relu())
    return this.head.forward(globalAvgPool2d(h.relu()).reshape([-1, 8]))
  }
}

function batch(random, size) {
  const labels = Array.from({ length: size }, (_, n) => n % 4)
  const images = labels.flatMap((label) => Array.from({ length: 3 * 64 }, (_, i) => random.normal() * 0.3 + (Math.floor(i / 64) === label ? 1 : 0)))
  return [tensor(images, [size, 3, 8, 8]), tensor(labels, [size], 'int32')]
}

async function run() {
  const backend = await webgpu()
  const net = withSeed(1, () => new SmallNet())
  const random = new Random(7)
  const training = await trainer(net, { backend, loss: crossEntropy(), optimizer: sgd({ lr: 0.2, momentum: 0.9 }) })
  const losses = []
  for (let step = 0; step < 30; step++) losses.push((await training.step(...batch(random, 16))).loss)
  await training.sync()
  training.dispose()

  const f = await compile(net, { backend, inputs: [{ shape: ['N', 3, 8, 8] }] })
  const [images, labels] = batch(random, 8)
  const [logits] = await f.run([images])
  const guesses = Array.from(labels.data, (_, n) => {
    const scores = logits.data.slice(n * 4, n * 4 + 4)
    return scores.indexOf(Math.max(...scores))
  })
  f.dispose()
  const { liveTensors } = backend.memory()
  const { device } = backend.capabilities
  await backend.dispose()
  return { device, losses, guesses, labels: [...labels.data], liveTensors }
}

globalThis.result = run()
