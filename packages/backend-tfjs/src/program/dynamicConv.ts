// Dynamic convolution and its gradients: which values they take, in which form (dynamicForms.ts) they are written, and the
// gradients of the bases and the mixture by chunks of samples.

import type { Graph, Node, NodeOf, ValueId } from '@dynconv/core'
import { formatShape, staticShape, typeOf } from '@dynconv/core'
import { nth, product } from '../kernels/shared.ts'
import { four, isOne } from './conv.ts'
import { forwardForms, inputGradForms, kernelGradForms, kernelGradOrders, type KernelParts } from './dynamicForms.ts'
import { divisorUpTo, type DynamicLayer, type Form } from './forms.ts'
import type { TfNode, TfValue } from './graph.ts'
import { basesLayout, nhwc, plain, tapsLayout } from './layout.ts'
import type { Lowering, ProgramKernels } from './lowering.ts'
import type { ProgramPrimitives } from './primitives.ts'

type DynamicName = 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

/** Whether a dynamic convolution is written here; others are decomposed. */
export function takesDynamic(node: Node, graph: Graph): boolean {
  if (node.op !== 'dynamicConv2d' && node.op !== 'dynamicConv2dInputGrad' && node.op !== 'dynamicConv2dKernelGrad') return false
  const { shape, dtype } = typeOf(graph, nth(node.inputs, 0))
  const { form, groups, dilation } = node.attrs
  return dtype === 'float32' && form !== 'outputs' && groups === 1 && isOne(dilation) && !staticShape('tfjs', shape).includes(0)
}

/** The kernels. */
export const dynamicConvKernels: ProgramKernels = {
  dynamicConv2d: (node, l) => {
    if (!takesDynamic(node, l.graph)) return false
    const [x, bases, pi, bias] = node.inputs
    const y = nth(node.outputs, 0)
    if (x === undefined || bases === undefined || pi === undefined) return false
    const layer = describe(node, l.shape(x), l.shape(y), l.shape(bases))
    const { form, why } = l.target.forms.forward(layer)
    explain(l, node, layer, form, why)
    const mixed = forwardForms[form.name](l.p, layer, l.get(x, nhwc), parts(l, bases, pi, layer), form)
    const shared = bias === undefined ? mixed : l.p.binary('add', mixed, l.p.reshape(l.p.matmul(l.get(pi), l.get(bias), false, false), [layer.batch, 1, 1, layer.outChannels]))
    l.put(node, y, shared, nhwc)
    return true
  },

  dynamicConv2dInputGrad: (node, l) => {
    if (!takesDynamic(node, l.graph)) return false
    const [dy, bases, pi] = [nth(node.inputs, 0), nth(node.inputs, 1), nth(node.inputs, 2)]
    const dx = nth(node.outputs, 0)
    const layer = describe(node, l.shape(dx), l.shape(dy), l.shape(bases))
    const { form, why } = l.target.forms.inputGrad(layer)
    explain(l, node, layer, form, why)
    const value = inputGradForms[form.name](l.p, layer, l.get(dy, nhwc), parts(l, bases, pi, layer), form)
    l.put(node, dx, value, nhwc)
    return true
  },

  dynamicConv2dKernelGrad: (node, l) => {
    if (!takesDynamic(node, l.graph)) return false
    const [x, dy, bases, pi] = [nth(node.inputs, 0), nth(node.inputs, 1), nth(node.inputs, 2), nth(node.inputs, 3)]
    const layer = describe(node, l.shape(x), l.shape(dy), l.shape(bases))
    const { p } = l
    const { chunk } = node.attrs
    const step = chunk === 0 ? layer.batch : Math.min(chunk, layer.batch)
    const { form, why } = l.target.forms.kernelGrad(layer)
    explain(l, node, layer, form, `${step < layer.batch ? `, ${step} samples at a time` : ''}${why}`)
    const wide = l.get(bases, basesLayout)
    const order = kernelGradOrders[form.name]
    const rows = order.to(p, wide)
    const flat = p.reshape(rows, [nth(wide.shape, 0), product(wide.shape.slice(1))])
    const [images, grads, mixture] = [l.get(x, nhwc), l.get(dy, nhwc), l.get(pi)]
    const dPis: TfValue[] = []
    let dRows: TfValue | undefined
    for (let start = 0; start < layer.batch; start += step) {
      const count = Math.min(step, layer.batch - start)
      // Each chunk waits for the sums of the one before, so that only one of them has its kernels' gradients in memory.
      const after = dRows ? [dRows.node, nth(dPis, dPis.length - 1).node] : []
      const part = (t: TfValue): TfValue => (count === layer.batch ? t : narrow(p, t, start, count, after))
      const dV = kernelGradForms[form.name](p, { ...layer, batch: count }, part(images), part(grads), { ...form, together: divisorUpTo(count, form.together ?? count) })
      const sum = p.matmul(part(mixture), dV, true, false)
      dRows = dRows ? p.binary('add', dRows, sum) : sum
      dPis.push(p.matmul(dV, flat, false, true))
    }
    if (!dRows) return false
    l.put(node, nth(node.outputs, 0), order.from(p, p.reshape(dRows, rows.shape)), basesLayout)
    l.put(node, nth(node.outputs, 1), p.concat(dPis, 0), plain(2))
    return true
  },
}

function describe({ attrs }: NodeOf<DynamicName>, x: readonly number[], y: readonly number[], bases: readonly number[]): DynamicLayer {
  const [batch, inChannels, height, width] = four(x)
  const [, outChannels, p, q] = four(y)
  const { stride, padding } = attrs
  return { batch, numBases: nth(bases, 0), inChannels, outChannels, kernelSize: [nth(bases, 3), nth(bases, 4)], inputSize: [height, width], outputSize: [p, q], stride, padding }
}

function explain(l: Lowering, node: NodeOf<DynamicName>, layer: DynamicLayer, form: Form, why: string): void {
  const { batch, inChannels, outChannels, inputSize, kernelSize } = layer
  const together = form.together === undefined ? '' : `, ${form.together} samples side by side`
  l.note(`${node.op} ${formatShape([batch, inChannels, ...inputSize])} -> ${outChannels} channels, ${kernelSize.join('x')}: ${form.name}${together}${why}`)
}

function parts(l: Lowering, bases: ValueId, pi: ValueId, layer: DynamicLayer): KernelParts {
  const mixed = (): TfValue => {
    const key = `kernels ${bases} ${pi}`
    const [known] = l.memo.get(key) ?? []
    if (known) return known
    const size = product(layer.kernelSize) * layer.inChannels * layer.outChannels
    const V = l.p.matmul(l.get(pi), l.p.reshape(l.get(bases, basesLayout), [layer.numBases, size]), false, false)
    l.memo.set(key, [V])
    return V
  }
  return { mixed, bases: () => l.get(bases, basesLayout), taps: () => l.get(bases, tapsLayout), pi: () => l.get(pi) }
}

function narrow(p: ProgramPrimitives, t: TfValue, start: number, count: number, after: readonly TfNode[]): TfValue {
  const sliced = p.slice(t, t.shape.map((_, i) => (i === 0 ? start : 0)), [count, ...t.shape.slice(1)])
  sliced.node.after.push(...after)
  return sliced
}
