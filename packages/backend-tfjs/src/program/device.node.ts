// Whose kernels a program will run on, found out by trying once: TensorFlow does not say whether oneDNN is on, and its own
// kernels for the processor refuse the gradients of convolutions in groups.

import { fromNumbers, type HostTensor } from '@dynconv/core'
import { product, range } from '../kernels/shared.ts'
import { type Binding, Session } from './binding.node.ts'
import { inputGradForms, kernelGradForms, type KernelParts } from './dynamicForms.ts'
import type { Device, DynamicLayer } from './forms.ts'
import { TfGraph, type TfValue } from './graph.ts'
import { programPrimitives, type ProgramQuirks } from './primitives.ts'

/** The device that TensorFlow runs programs on. */
export function deviceOf(binding: Binding, quirks: ProgramQuirks): Device {
  if (binding.isUsingGpuDevice()) return 'gpu'
  return hasGroupedGradients(binding, quirks) ? 'onednn' : 'cpu'
}

const size = [5, 4] as const
const layer: DynamicLayer = { batch: 2, numBases: 1, inChannels: 3, outChannels: 2, kernelSize: [3, 3], inputSize: size, outputSize: size, stride: [1, 1], padding: [1, 1, 1, 1] }

// Both gradients of two samples side by side against those of one sample after the other.
function hasGroupedGradients(binding: Binding, quirks: ProgramQuirks): boolean {
  const graph = new TfGraph()
  const p = programPrimitives(graph, quirks)
  // Fed, for what is constant is folded by other kernels than those that run.
  const feeds: { readonly to: TfValue; readonly value: HostTensor }[] = []
  const fed = (shape: readonly number[]): TfValue => {
    const to = graph.placeholder('float32', shape)
    feeds.push({ to, value: waves(shape) })
    return to
  }
  const [rows, columns] = size
  const [x, dy, V] = [fed([layer.batch, rows, columns, layer.inChannels]), fed([layer.batch, rows, columns, layer.outChannels]), fed([layer.batch, 9 * layer.inChannels * layer.outChannels])]
  const parts: KernelParts = { mixed: () => V, bases: () => V, taps: () => V, pi: () => V }
  const apart = (a: TfValue, b: TfValue): TfValue => p.max(p.reshape(p.unary('abs', p.binary('sub', a, b)), [product(a.shape)]), [0], false)
  const differences = [
    apart(inputGradForms.grouped(p, layer, dy, parts, { name: 'grouped' }), inputGradForms.loop(p, layer, dy, parts, { name: 'loop' })),
    apart(kernelGradForms.grouped(p, layer, x, dy, { name: 'grouped' }), kernelGradForms.loop(p, layer, x, dy, { name: 'loop' })),
  ]
  try {
    const session = new Session(binding, graph.toProto())
    try {
      const found = session.run(feeds, differences.map((from) => ({ from, dtype: 'float32', shape: [] })))
      return found.every(({ data }) => Number(data[0]) < 1e-4)
    } finally {
      session.close()
    }
  } catch {
    // Refused.
    return false
  }
}

function waves(shape: readonly number[]): HostTensor {
  return fromNumbers('float32', shape, range(product(shape)).map((i) => Math.sin(i + shape.length)))
}
