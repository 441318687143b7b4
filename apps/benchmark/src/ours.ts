// The workloads on our own library.

import { type Backend, compile, Conv2d, crossEntropy, type DynamicConvForm, DynamicConv2d, type HostTensor, hostTensor, Module, Random, sgd, type Tensor, trainer } from '@dynconv/core'
import { dynamic, ordinary, resnet } from '@dynconv/models'
import type { Variant } from './measure.ts'
import { type LayerWorkload, numBases, type StepWorkload } from './workloads.ts'

/** A variant that holds an engine's memory until it is disposed. */
export interface OwnVariant extends Variant {
  readonly explain: () => string
  readonly dispose: () => void
}

class Chain extends Module {
  readonly layers: readonly Module[]

  constructor(layers: readonly Module[]) {
    super()
    this.layers = layers
  }

  override forward(x: Tensor): Tensor {
    return this.layers.reduce((y, layer) => layer.forward(y).relu(), x).mean([2, 3])
  }
}

/** A chain of static (form undefined) or dynamic convolutions. */
export async function layerVariant(backend: Backend, workload: LayerWorkload, form: DynamicConvForm | undefined): Promise<OwnVariant> {
  const { channels, size, batch, depth } = workload
  const geometry = { inChannels: channels, outChannels: channels, kernelSize: 3, padding: 1, bias: false }
  const net = new Chain(Array.from({ length: depth }, () => (form ? new DynamicConv2d({ ...geometry, numBases, form }) : new Conv2d(geometry))))
  const shape = [batch, channels, size, size]
  const compiled = await compile(net, { backend, inputs: [{ shape }] })
  const x = normalImages(shape)
  return {
    name: form ? `dynamic ${form}` : 'static',
    run: () => time(() => compiled.run([x])),
    explain: () => compiled.explain(),
    dispose: () => compiled.dispose(),
  }
}

/** One training step of a residual network, static or dynamic. */
export async function stepVariant(backend: Backend, workload: StepWorkload, isDynamic: boolean): Promise<OwnVariant> {
  const { widths, blocks, batch, size } = workload
  const net = resnet({ classes: 10, widths, blocks, conv: isDynamic ? dynamic({ numBases }) : ordinary })
  const training = await trainer(net, { backend, loss: crossEntropy(), optimizer: sgd({ lr: 0.01, momentum: 0.9 }), metrics: () => ({}) })
  const images = normalImages([batch, 3, size, size])
  const random = new Random(2)
  const labels = hostTensor('int32', [batch], Int32Array.from({ length: batch }, () => random.int(10)))
  return {
    name: isDynamic ? `K=${numBases}` : 'static',
    run: () => time(() => training.step(images, labels)),
    explain: () => training.explain(),
    dispose: () => training.dispose(),
  }
}

function normalImages(shape: readonly number[]): HostTensor {
  const random = new Random(1)
  return hostTensor('float32', shape, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()))
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}
