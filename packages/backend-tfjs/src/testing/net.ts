// A small residual network, static or dynamic, and the graph of its training step: for tests of whole programs.

import {
  type Backend,
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  DynamicConv2d,
  fromNumbers,
  type Graph,
  Linear,
  Module,
  Random,
  referenceBackend,
  sgd,
  type HostTensor,
  type Tensor,
  trainer,
  type Training,
  withSeed,
} from '@dynconv/core'

class Block extends Module {
  readonly conv1: Module
  readonly bn1: BatchNorm2d
  readonly conv2: Module
  readonly bn2: BatchNorm2d
  readonly shortcut: Conv2d | undefined

  constructor(inChannels: number, outChannels: number, stride: number, dynamic: boolean) {
    super()
    const conv = (i: number, s: number): Module => {
      const options = { inChannels: i, outChannels, kernelSize: 3, padding: 1, stride: s, bias: false }
      return dynamic ? new DynamicConv2d({ ...options, numBases: 3 }) : new Conv2d(options)
    }
    this.conv1 = conv(inChannels, stride)
    this.bn1 = new BatchNorm2d(outChannels)
    this.conv2 = conv(outChannels, 1)
    this.bn2 = new BatchNorm2d(outChannels)
    this.shortcut = stride === 1 ? undefined : new Conv2d({ inChannels, outChannels, kernelSize: 1, stride, bias: false })
  }

  override forward(x: Tensor): Tensor {
    const h = this.bn1.forward(this.conv1.forward(x)).relu()
    const y = this.bn2.forward(this.conv2.forward(h))
    return y.add(this.shortcut ? this.shortcut.forward(x) : x).relu()
  }
}

/** Images [N, 3, H, W] -> logits [N, 4]. */
export class SmallResNet extends Module {
  readonly stem: Conv2d = new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, padding: 1, bias: false })
  readonly bn: BatchNorm2d = new BatchNorm2d(4)
  readonly first: Block
  readonly second: Block
  readonly fc: Linear = new Linear({ inFeatures: 8, outFeatures: 4 })

  constructor(dynamic: boolean) {
    super()
    this.first = new Block(4, 4, 1, dynamic)
    this.second = new Block(4, 8, 2, dynamic)
  }

  override forward(x: Tensor): Tensor {
    return this.fc.forward(this.second.forward(this.first.forward(this.bn.forward(this.stem.forward(x)).relu())).mean([2, 3]))
  }
}

/** The network with its optimizer on a backend, the same for every backend. */
export function smallTraining(backend: Backend, dynamic: boolean): Promise<Training> {
  const net = withSeed(5, () => new SmallResNet(dynamic))
  return trainer(net, { backend, loss: crossEntropy(), optimizer: sgd({ lr: 0.05, momentum: 0.9, weightDecay: 1e-3 }) })
}

/** A batch for it. */
export function smallBatch(seed: number, size: number = 4): readonly [images: HostTensor, labels: HostTensor] {
  const random = new Random(seed)
  const images = Float64Array.from({ length: size * 3 * 64 }, () => random.normal())
  return [fromNumbers('float32', [size, 3, 8, 8], images), fromNumbers('int32', [size], Array.from({ length: size }, (_, i) => i % 4))]
}

/** The graph of a training step, as a backend gets it. */
export async function smallStep(dynamic: boolean): Promise<Graph> {
  const reference = referenceBackend()
  const graphs: Graph[] = []
  const recording: Backend = {
    name: reference.name,
    capabilities: reference.capabilities,
    supports: (node, graph) => reference.supports(node, graph),
    createState: (initial) => reference.createState(initial),
    compile: (graph, options) => {
      graphs.push(graph)
      return reference.compile(graph, options)
    },
    upload: (tensor) => reference.upload(tensor),
    memory: () => reference.memory(),
    dispose: () => reference.dispose(),
  }
  const training = await smallTraining(recording, dynamic)
  await training.step(...smallBatch(1))
  training.dispose()
  const [step] = graphs
  if (!step) throw new Error('the trainer compiled nothing')
  return step
}
