// Cases of whole layers, small networks and training: what a user runs. They need no package but core.

import {
  adamW,
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  DynamicConv2d,
  type DynamicConv2dOptions,
  type DynamicConvForm,
  type Graph,
  GroupNorm,
  type HostTensor,
  Linear,
  type Loss,
  maxPool2d,
  Module,
  mse,
  type Optimizer,
  type RoutingKind,
  type RoutingNorm,
  referenceBackend,
  resize,
  type StateInit,
  sgd,
  tensor,
  type Tensor,
  traceStep,
  withSeed,
  zeros,
} from '@dynconv/core'
import { indices, spread } from './data.ts'
import { type Case, type CaseOptions, moduleCase } from './define.ts'

const forms: readonly DynamicConvForm[] = ['kernels', 'outputs', 'auto']

// The routing starts near uniform; a layer whose samples all mix alike would hide a mixture given to the wrong sample.
function awake<M extends Module>(module: M): M {
  for (const [name, p] of module.namedParameters()) {
    if (name.endsWith('fc2.weight')) p.data = tensor(Float64Array.from(p.data.data, (w) => 100 * Number(w)), p.shape)
  }
  return module
}

function layerCase(label: string, options: DynamicConv2dOptions, x: readonly number[], rest: Partial<CaseOptions> = {}): Case {
  return moduleCase({ id: `DynamicConv2d[${label}]`, family: 'layers', inputs: [spread(x)], build: () => awake(new DynamicConv2d(options)), prepared: true, ...rest })
}

function layerCases(): readonly Case[] {
  const base = { inChannels: 6, outChannels: 4, kernelSize: 3, padding: 1, numBases: 3 } as const
  const kinds: readonly RoutingKind[] = ['softmax', 'sigmoid', 'renorm']
  const norms: readonly RoutingNorm[] = ['none', 'layer', 'group', 'batch']
  return [
    ...forms.flatMap((form) =>
      kinds.flatMap((routing) => [
        layerCase(`form=${form} routing=${routing}`, { ...base, form, routing, temperature: 2 }, [3, 6, 5, 5]),
        // CondConv: one layer of routing.
        layerCase(`form=${form} routing=${routing} ratio=0`, { ...base, form, routing, ratio: 0 }, [3, 6, 5, 5]),
      ]),
    ),
    ...forms.flatMap((form) =>
      [true, false].flatMap((training) =>
        norms.map((routingNorm) =>
          layerCase(`form=${form} norm=${routingNorm} ${training ? 'train' : 'eval'}`, { ...base, form, routingNorm }, [4, 6, 4, 4], { training, orders: 1, differences: false }),
        ),
      ),
    ),
    ...forms.flatMap((form) => [
      layerCase(`form=${form} depthwise`, { ...base, outChannels: 6, groups: 6, form }, [2, 6, 5, 5]),
      layerCase(`form=${form} groups=2 stride=2 dilation=2 pad=0,1,2,3`, { ...base, groups: 2, stride: 2, dilation: 2, padding: [0, 1, 2, 3], form, bias: false }, [2, 6, 8, 7]),
      layerCase(`form=${form} stem of 3 channels`, { ...base, inChannels: 3, form }, [2, 3, 6, 6]),
      moduleCase({ id: `CondConv block[form=${form} one routing for three layers]`, family: 'layers', inputs: [spread([3, 6, 5, 5])], build: () => awake(new SharedBlock(form)), prepared: true, orders: 1, differences: false }),
    ]),
  ]
}

// An inverted residual whose three convolutions mix by one routing (Yang et al. 2019, section 3).
class SharedBlock extends Module {
  readonly expand: DynamicConv2d
  readonly depthwise: DynamicConv2d
  readonly project: DynamicConv2d

  constructor(form: DynamicConvForm) {
    super()
    const shared = { numBases: 2, routing: 'sigmoid', ratio: 0, form } as const
    this.expand = new DynamicConv2d({ inChannels: 6, outChannels: 12, kernelSize: 1, bias: false, ...shared })
    this.depthwise = new DynamicConv2d({ inChannels: 12, outChannels: 12, kernelSize: 3, padding: 1, groups: 12, bias: false, ...shared })
    this.project = new DynamicConv2d({ inChannels: 12, outChannels: 6, kernelSize: 1, bias: false, ...shared })
  }

  override forward(x: Tensor): Tensor {
    const pi = this.expand.routing.forward(x)
    const wide = this.expand.mix(x, pi).clamp(0, 6)
    return x.add(this.project.mix(this.depthwise.mix(wide, pi).clamp(0, 6), pi))
  }
}

type Convolution = Conv2d | DynamicConv2d

function convolution(dynamic: boolean, options: { readonly inChannels: number; readonly outChannels: number; readonly kernelSize: number; readonly stride?: number; readonly groups?: number }): Convolution {
  const padding = Math.floor(options.kernelSize / 2)
  return dynamic ? new DynamicConv2d({ ...options, padding, numBases: 3, bias: false }) : new Conv2d({ ...options, padding, bias: false })
}

// A residual block that narrows, between a stem and a classifier.
class SmallResNet extends Module {
  readonly stem: Convolution
  readonly bn1: BatchNorm2d = new BatchNorm2d(8)
  readonly conv1: Convolution
  readonly bn2: BatchNorm2d = new BatchNorm2d(16)
  readonly conv2: Convolution
  readonly bn3: BatchNorm2d = new BatchNorm2d(16)
  readonly shortcut: Conv2d = new Conv2d({ inChannels: 8, outChannels: 16, kernelSize: 1, stride: 2, bias: false })
  readonly fc: Linear = new Linear({ inFeatures: 16, outFeatures: 5 })

  constructor(dynamic: boolean) {
    super()
    this.stem = convolution(false, { inChannels: 3, outChannels: 8, kernelSize: 3 })
    this.conv1 = convolution(dynamic, { inChannels: 8, outChannels: 16, kernelSize: 3, stride: 2 })
    this.conv2 = convolution(dynamic, { inChannels: 16, outChannels: 16, kernelSize: 3 })
  }

  override forward(x: Tensor): Tensor {
    const h = maxPool2d(this.bn1.forward(this.stem.forward(x)).relu(), { kernelSize: 3, stride: 1, padding: 1 })
    const y = this.bn3.forward(this.conv2.forward(this.bn2.forward(this.conv1.forward(h)).relu()))
    return this.fc.forward(y.add(this.shortcut.forward(h)).relu().mean([2, 3]))
  }
}

// Depthwise separable, with a clamp: MobileNetV2's block.
class SmallMobileNet extends Module {
  readonly expand: Convolution
  readonly bn1: BatchNorm2d = new BatchNorm2d(16)
  readonly depthwise: Convolution
  readonly bn2: BatchNorm2d = new BatchNorm2d(16)
  readonly project: Convolution
  readonly norm: GroupNorm = new GroupNorm(2, 8)
  readonly fc: Linear = new Linear({ inFeatures: 8, outFeatures: 4 })

  constructor(dynamic: boolean) {
    super()
    this.expand = convolution(dynamic, { inChannels: 8, outChannels: 16, kernelSize: 1 })
    this.depthwise = convolution(dynamic, { inChannels: 16, outChannels: 16, kernelSize: 3, groups: 16 })
    this.project = convolution(dynamic, { inChannels: 16, outChannels: 8, kernelSize: 1 })
  }

  override forward(x: Tensor): Tensor {
    const wide = this.bn1.forward(this.expand.forward(x)).clamp(0, 6)
    const deep = this.bn2.forward(this.depthwise.forward(wide)).clamp(0, 6)
    return this.fc.forward(x.add(this.norm.forward(this.project.forward(deep))).mean([2, 3]))
  }
}

// Super-resolution: twice the size, a residual on the bilinear image.
class SmallSuperResolution extends Module {
  readonly head: Convolution
  readonly body: Convolution
  readonly tail: Convolution

  constructor(dynamic: boolean) {
    super()
    this.head = convolution(false, { inChannels: 1, outChannels: 8, kernelSize: 3 })
    this.body = convolution(dynamic, { inChannels: 8, outChannels: 8, kernelSize: 3 })
    this.tail = convolution(false, { inChannels: 8, outChannels: 1, kernelSize: 3 })
  }

  override forward(x: Tensor): Tensor {
    const h = this.head.forward(x).relu()
    const deep = h.add(this.body.forward(h).tanh())
    return resize(x, { scale: 2, mode: 'bilinear' }).add(this.tail.forward(resize(deep, { scale: 2 })))
  }
}

/** A residual network for 5 classes, its routing awake. */
export function smallResNet(dynamic: boolean): Module {
  return awake(new SmallResNet(dynamic))
}

interface Network {
  readonly name: string
  readonly build: (dynamic: boolean) => Module
  readonly x: readonly number[]
}

const networks: readonly Network[] = [
  { name: 'ResNet', build: (dynamic) => new SmallResNet(dynamic), x: [4, 3, 7, 6] },
  { name: 'MobileNetV2', build: (dynamic) => new SmallMobileNet(dynamic), x: [4, 8, 5, 5] },
  { name: 'super-resolution', build: (dynamic) => new SmallSuperResolution(dynamic), x: [2, 1, 6, 7] },
]

const kindOf = (dynamic: boolean): string => (dynamic ? 'dynamic' : 'static')

function networkCases(): readonly Case[] {
  return networks.flatMap(({ name, build, x }) =>
    [false, true].flatMap((dynamic) =>
      [false, true].map((training) =>
        moduleCase({
          id: `network[${name} ${kindOf(dynamic)} ${training ? 'train' : 'eval'}]`,
          family: 'networks',
          inputs: [spread(x)],
          build: () => awake(build(dynamic)),
          training,
          prepared: true,
          differences: false,
        }),
      ),
    ),
  )
}

interface TrainingRun {
  readonly network: Network
  readonly dynamic: boolean
  readonly optimizer: Optimizer
  readonly loss: Loss
  readonly targets: readonly HostTensor[]
  readonly clipNorm?: number
  /** Whether products take their inputs in float16. */
  readonly mixed?: boolean
}

const steps = 10

/** The start of every state of a training step's graph: the module's own values, and zeros for the optimizer's. */
export function statesOf(graph: Graph, module: Module): readonly StateInit[] {
  const parts = module.state()
  return graph.states.map(({ name, kind, dtype, shape }) => ({ name, kind, data: parts.get(name) ?? zeros(shape.map(Number), dtype) }))
}

// A scale at which no gradient of these networks overflows.
const lossScale = 128

// Ten whole steps (forward, backward, clipping, optimizer), each on another batch: all losses and, at the end, every
// parameter, statistic and moment.
function trainingCase(run: TrainingRun): Case {
  const { network, dynamic, optimizer, loss, targets, clipNorm, mixed } = run
  const batches = Array.from({ length: steps }, (_, step) => spread(network.x).make(100 + step))
  return {
    id: `training[${network.name} ${kindOf(dynamic)} ${optimizer.name}${clipNorm === undefined ? '' : ` clip=${clipNorm}`}${mixed ? ' float16' : ''} steps=${steps}]`,
    family: 'training',
    dtype: mixed ? 'float16' : 'float32',
    orders: 0,
    differences: false,
    prepared: true,
    program: () => {
      const module = withSeed(1, () => awake(network.build(dynamic)))
      const [x, target] = [batches[0], targets[0]]
      if (!x || !target) throw new RangeError('training: there are no batches')
      // The trace is the same for every engine.
      const backend = referenceBackend()
      const graph = traceStep(module, { backend, loss, optimizer, ...(clipNorm === undefined ? {} : { clipNorm }), ...(mixed ? { compute: 'float16' } : {}) }, x, target)
      const states = statesOf(graph, module).map((state) => (state.name === 'optimizer.lossScale' ? { ...state, data: tensor(lossScale) } : state))
      const runs = batches.map((images, step) => [images, targets[step] ?? target, ...Object.values(optimizer.hyper(step)).map((v) => tensor(v))])
      return { graph, states, runs, lowerInputs: 0, by: [] }
    },
  }
}

function trainingCases(): readonly Case[] {
  const [resnet, mobilenet, superResolution] = networks
  if (!resnet || !mobilenet || !superResolution) throw new RangeError('training: a network is missing')
  const classes = (count: number): readonly HostTensor[] => Array.from({ length: steps }, (_, step) => indices([4], count).make(200 + step))
  const images = Array.from({ length: steps }, (_, step) => spread([2, 1, 12, 14]).make(300 + step))
  const momentum = sgd({ lr: (step) => 0.05 / (1 + step), momentum: 0.9, nesterov: true, weightDecay: 1e-3 })
  return [false, true].flatMap((dynamic) => [
    trainingCase({ network: resnet, dynamic, optimizer: momentum, loss: crossEntropy({ smoothing: 0.1 }), targets: classes(5), clipNorm: 1 }),
    trainingCase({ network: mobilenet, dynamic, optimizer: sgd({ lr: 0.05 }), loss: crossEntropy(), targets: classes(4) }),
    trainingCase({ network: mobilenet, dynamic, optimizer: sgd({ lr: 0.05, momentum: 0.9 }), loss: crossEntropy(), targets: classes(4), mixed: true }),
    trainingCase({ network: superResolution, dynamic, optimizer: adamW({ lr: 0.01, weightDecay: 0.1 }), loss: mse(), targets: images }),
  ])
}

/** Layers, networks and training. */
export function moduleCases(): readonly Case[] {
  return [...layerCases(), ...networkCases(), ...trainingCases()]
}
