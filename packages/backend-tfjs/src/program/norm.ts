// Batch normalisation of images by TensorFlow's fused kernels (the formulas: core's ops/norm.ts). FusedBatchNormV3 gives the
// mean and the variance as running statistics take it, divided by M - 1; times (M - 1) / M it is the variance of the ops. Its
// gradient takes what the forward kernel reserved for it, so it stands only where the two belong together.

import { type Graph, type Node, producers, staticShape, typeOf } from '@dynconv/core'
import { filled, nth, product, scalar } from '../kernels/shared.ts'
import { apart, besideOf, sideBySide } from './beside.ts'
import { attr, type TfValue } from './graph.ts'
import { nhwc, plain } from './layout.ts'
import type { ProgramKernels } from './lowering.ts'
import type { ProgramPrimitives } from './primitives.ts'

/** Whether a batchNorm or batchNormGrad can be fused; others are decomposed. */
export function fusesNorm(node: Node, graph: Graph): boolean {
  if (node.op !== 'batchNorm' && node.op !== 'batchNormGrad') return false
  const [x = -1, gamma] = node.inputs
  const { shape, dtype } = typeOf(graph, x)
  if (dtype !== 'float32' || shape.length !== 4) return false
  const [batch = 0, , height = 0, width = 0] = staticShape('tfjs', shape)
  // cuDNN takes no smaller epsilon.
  if (batch * height * width < 2 || node.attrs.epsilon < 1e-5) return false
  if (node.op === 'batchNorm') return true
  const made = graph.nodes[producers(graph).get(node.inputs[2] ?? -1) ?? -1]
  return (
    made?.op === 'batchNorm' &&
    made.attrs.epsilon === node.attrs.epsilon &&
    made.inputs[0] === x &&
    made.inputs[1] === gamma &&
    made.outputs[1] === node.inputs[2] &&
    made.outputs[2] === node.inputs[3]
  )
}

/** The kernels. */
export const normKernels: ProgramKernels = {
  batchNorm: (node, l) => {
    if (!fusesNorm(node, l.graph)) return false
    const [x, gamma, beta] = [nth(node.inputs, 0), nth(node.inputs, 1), nth(node.inputs, 2)]
    const [y, mean, variance] = [nth(node.outputs, 0), nth(node.outputs, 1), nth(node.outputs, 2)]
    const { p } = l
    const image = l.get(x, nhwc)
    const { stored, back } = asTheyStand(p, [image])
    const channels = nth(image.shape, 3)
    const none = filled(p, 0, [0], 'float32')
    const float = attr.type('float32')
    const attrs = { T: float, U: float, epsilon: attr.float(node.attrs.epsilon), exponential_avg_factor: attr.float(1), data_format: attr.string('NHWC'), is_training: attr.bool(true) }
    const vector = { dtype: 'float32', shape: [channels] } as const
    const results = p.graph.op('FusedBatchNormV3', [nth(stored, 0), l.get(gamma), l.get(beta), none, none], attrs, [
      { dtype: 'float32', shape: nth(stored, 0).shape }, vector, vector, vector, vector, { dtype: 'float32', shape: [0] },
    ])
    l.memo.set(`norm ${mean}`, results.slice(3))
    const count = product(image.shape) / channels
    l.put(node, y, back(nth(results, 0)), nhwc)
    l.put(node, mean, nth(results, 1), plain(1))
    l.put(node, variance, p.binary('mul', nth(results, 2), scalar(p, (count - 1) / count, 'float32')), plain(1))
    return true
  },

  batchNormGrad: (node, l) => {
    const [x, gamma, mean, , dy] = node.inputs
    const reserved = l.memo.get(`norm ${mean}`)
    if (!reserved || x === undefined || gamma === undefined || dy === undefined) return false
    const image = l.get(x, nhwc)
    const { stored, back } = asTheyStand(l.p, [l.get(dy, nhwc), image])
    const channels = nth(image.shape, 3)
    const float = attr.type('float32')
    const attrs = { T: float, U: float, epsilon: attr.float(node.attrs.epsilon), data_format: attr.string('NHWC'), is_training: attr.bool(true) }
    const vector = { dtype: 'float32', shape: [channels] } as const
    const none = { dtype: 'float32', shape: [0] } as const
    const results = l.p.graph.op('FusedBatchNormGradV3', [...stored, l.get(gamma), ...reserved], attrs, [{ dtype: 'float32', shape: nth(stored, 0).shape }, vector, vector, none, none])
    const layouts = [nhwc, plain(1), plain(1)]
    node.outputs.forEach((id, i) => {
      l.put(node, id, i === 0 ? back(nth(results, i)) : nth(results, i), nth(layouts, i))
    })
    return true
  },
}

// Images [N, H, W, C] side by side where one of them is, and the way back of what has been made of them. The statistics of
// channels do not mind the order of samples and pixels.
function asTheyStand(p: ProgramPrimitives, images: readonly TfValue[]): { readonly stored: readonly TfValue[]; readonly back: (result: TfValue) => TfValue } {
  const together = images.map((x) => besideOf(x)?.together).find((c) => c !== undefined)
  if (together === undefined) return { stored: images, back: (result) => result }
  return { stored: images.map((x) => sideBySide(p, x, together)), back: (result) => apart(p, result, together) }
}
