// Dynamic convolution on plain values. Both forms are the op's own decomposition into a product and convolutions, except
// where the order of things matters (the formulas: core's ops/dynamicConv.ts):
//
// - the input gradient with stride 1 on large images turns the K bases round and aggregates them again, instead of turning
//   round the B aggregated kernels;
// - the kernel gradient in chunks makes each chunk wait for the one before.

import { formatShape, type Node, type NodeOf, type Size2d, sizeOf } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import { elementTypes } from '../proto/onnx.ts'
import { conv, filterGrad, flipKernels, flippedPadding, prefersFlip } from './conv.ts'
import { product } from './matmul.ts'
import { input, output, size } from './shared.ts'

type DynamicName = 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

export const dynamicConvKernels: Pick<KernelTable, DynamicName> = {
  dynamicConv2d: (node, l) => {
    explain(node, l, input(node, 1))
    return l.decompose(node)
  },

  dynamicConv2dInputGrad: (node, l) => {
    const [dy, bases, pi] = [input(node, 0), input(node, 1), input(node, 2)]
    const { attrs } = node
    const [count = 0, outChannels = 0, inPerGroup = 0, ...kernelSize] = l.type(bases).shape
    const kernel: Size2d = [size(kernelSize[0]), size(kernelSize[1])]
    const padding = flippedPadding(attrs, kernel)
    explain(node, l, bases)
    if (attrs.form === 'outputs' || !padding || !prefersFlip(attrs.inputSize)) return l.decompose(node)
    const [batch = 0, , height = 0, width = 0] = l.type(dy).shape
    const channels = inPerGroup * attrs.groups
    const share = outChannels / attrs.groups
    const { model } = l
    const flipped = flipKernels(l, l.get(bases), [count], [outChannels, inPerGroup, ...kernelSize], attrs.groups)
    const rows = model.reshape(flipped, [count, channels * share * sizeOf(kernel)])
    const kernels = model.reshape(model.op('MatMul', [l.get(pi), rows]), [batch * channels, share, ...kernel])
    const sideBySide = model.reshape(l.get(dy), [1, batch * outChannels, height, width])
    const dx = conv(l, sideBySide, kernels, { ...attrs, padding, groups: batch * attrs.groups })
    return model.reshape(dx, l.type(output(node)).shape)
  },

  dynamicConv2dKernelGrad: (node, l) => {
    const batch = l.type(input(node, 0)).shape[0] ?? 0
    const { form, chunk } = node.attrs
    explain(node, l, input(node, 2))
    return form === 'outputs' || chunk === 0 || chunk >= batch ? l.decompose(node) : kernelGradInChunks(node, l, batch)
  },
}

/**
 * dBases and dPi with the kernels' gradients dV of `chunk` samples in memory at a time. The engine runs whatever is ready,
 * so without a dependency it would make all dV first and save nothing. So each chunk reads its samples from a start that
 * is computed from the sums of the chunk before: start + 0 * isNaN(sum), which is start, but only known when they are.
 */
function kernelGradInChunks(node: NodeOf<'dynamicConv2dKernelGrad'>, l: Lowering, batch: number): readonly string[] {
  const { attrs } = node
  const { model } = l
  const [x, dy, bases, pi] = [0, 1, 2, 3].map((i) => ({ name: l.get(input(node, i)), shape: l.type(input(node, i)).shape }))
  if (!x || !dy || !bases || !pi) return []
  const [count = 0, ...kernelShape] = bases.shape
  const kernelElements = sizeOf(kernelShape)
  const rows = model.reshape(bases.name, [count, kernelElements])
  const dPis: string[] = []
  let dRows: string | undefined
  for (let start = 0; start < batch; start += attrs.chunk) {
    const samples = Math.min(attrs.chunk, batch - start)
    const last = dPis.at(-1)
    const wait = dRows === undefined || last === undefined ? undefined : zeroAfter(l, dRows, last)
    const from = (at: number): string => (wait === undefined ? model.ints([at]) : model.op('Add', [model.ints([at]), wait]))
    const take = (name: string): string => model.op('Slice', [name, from(start), from(start + samples), model.ints([0])])
    const sideBySide = ({ name, shape }: typeof x) => {
      const flat = [1, samples * size(shape[1]), size(shape[2]), size(shape[3])]
      return { name: model.reshape(take(name), flat), shape: flat }
    }
    const dKernels = filterGrad(l, sideBySide(x), sideBySide(dy), { ...attrs, groups: samples * attrs.groups })
    const dV = { name: model.reshape(dKernels, [samples, kernelElements]), rank: 2 }
    const part = product(l, { name: take(pi.name), rank: 2 }, dV, { transposeA: true })
    dRows = dRows === undefined ? part : model.op('Add', [dRows, part])
    dPis.push(product(l, dV, { name: rows, rank: 2 }, { transposeB: true }))
  }
  return [model.reshape(dRows ?? '', bases.shape), model.concat(dPis, 0)]
}

// An int64 [1] that is 0, but known only after `a` and `b` (matrices) are: their first elements go into it.
function zeroAfter(l: Lowering, a: string, b: string): string {
  const { model } = l
  const corner = (name: string): string => model.slice(name, [0, 0], [1, 1], [0, 1])
  const known = model.op('IsNaN', [model.op('Add', [corner(a), corner(b)])])
  return model.op('Mul', [model.reshape(model.op('Cast', [known], { to: elementTypes.int64 }), [1]), model.ints([0])])
}

// The line of `explain()`.
function explain(node: Extract<Node, { readonly op: DynamicName }>, l: Lowering, bases: number): void {
  const form = node.attrs.form === 'auto' ? 'kernels' : node.attrs.form
  const chunk = node.op === 'dynamicConv2dKernelGrad' && node.attrs.chunk > 0 ? `, ${node.attrs.chunk} samples at a time` : ''
  l.note(`${node.op} %${node.outputs[0]}: x or dy ${formatShape(l.shape(input(node, 0)))}, bases ${formatShape(l.shape(bases))}: form ${form}${chunk}, layout plain`)
}
