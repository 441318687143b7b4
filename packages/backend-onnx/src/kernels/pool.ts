// Pools and their gradients.

import type { Node, NodeOf } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import type { ModelBuilder } from '../model.ts'
import { elementTypes } from '../proto/onnx.ts'
import { input, output, pads, size } from './shared.ts'

type PoolName = 'maxPool2d' | 'maxPool2dGrad' | 'avgPool2d' | 'avgPool2dGrad'

export const poolKernels: Pick<KernelTable, PoolName> = {
  maxPool2d: (node, l) => {
    const x = l.get(input(node, 0))
    if (l.standard) return maxPool(l.model, x, node.attrs)
    return l.model.branch(
      isFinite(l.model, x),
      { dtype: 'float32', shape: l.shape(output(node)) },
      () => maxPool(l.model, x, node.attrs),
      () => maxPoolOfAnything(l.model, x, node.attrs),
    )
  },

  maxPool2dGrad: (node, l) => {
    const [x, dy] = [input(node, 0), input(node, 1)]
    const names = [l.get(x), l.get(dy)] as const
    const { shape } = l.type(x)
    return l.model.branch(
      isFinite(l.model, names[0]),
      { dtype: 'float32', shape },
      () => scatterAtMax(l, node, names),
      () => first(l.decompose(node)),
    )
  },

  avgPool2d: (node, l) => {
    const { kernelSize, stride, padding, countIncludePad } = node.attrs
    const attrs = { kernel_shape: kernelSize, strides: stride, pads: pads(padding), count_include_pad: countIncludePad ? 1 : 0 }
    return l.model.op('AveragePool', [l.get(input(node, 0))], attrs)
  },

  avgPool2dGrad: (node, l) => {
    const [kh, kw] = node.attrs.kernelSize
    const { shape } = l.type(input(node, 0))
    const [, , height = 0, width = 0] = shape
    const sideBySide = isSideBySide(node) && height * kh === node.attrs.inputSize[0] && width * kw === node.attrs.inputSize[1]
    if (!sideBySide) return first(l.decompose(node))
    // Windows side by side: each pixel's share, repeated over its window.
    const { model } = l
    const share = model.reshape(model.op('Div', [l.get(input(node, 0)), model.float(kh * kw)]), [...shape.slice(0, 3), 1, width, 1])
    const from = [...shape.slice(0, 3), 1, width, 1]
    return model.reshape(l.expand(share, from, [...shape.slice(0, 3), kh, width, kw]), l.shape(output(node)))
  },
}

function maxPool(model: ModelBuilder, x: string, { kernelSize, stride, padding }: NodeOf<'maxPool2d'>['attrs']): string {
  return model.op('MaxPool', [x], { kernel_shape: kernelSize, strides: stride, pads: pads(padding) })
}

/**
 * The pool of plain images that may hold NaN or infinity. The engine's own pool passes over NaNs, so their places are pooled
 * too; and it starts at the lowest float32, not at -infinity, which a window of nothing else is.
 */
export function maxPoolOfAnything(model: ModelBuilder, x: string, attrs: NodeOf<'maxPool2d'>['attrs']): string {
  const where = (places: string): string =>
    model.op('Cast', [maxPool(model, model.op('Cast', [places], { to: elementTypes.float32 }), attrs)], { to: elementTypes.bool })
  const lowest = model.float(Number.NEGATIVE_INFINITY)
  const pooled = model.op('Where', [where(model.op('Greater', [x, lowest])), maxPool(model, x, attrs), lowest])
  return model.op('Where', [where(model.op('IsNaN', [x])), model.float(Number.NaN), pooled])
}

/** Whether all of x is finite (a bool scalar): the sum of finite numbers is, unless it overflows, and of others never is. */
export function isFinite(model: ModelBuilder, x: string): string {
  const sum = model.op('ReduceSum', [x], { keepdims: 0 })
  return model.op('Not', [model.op('IsNaN', [model.op('Sub', [sum, sum])])])
}

/**
 * dx for finite x: MaxPool also gives the flat index in x of each window's first largest element; dy is added there. It
 * starts at the lowest float32 and takes what is larger, so a window of that number alone would have no index: limiting x
 * to the next number above it gives each window one.
 */
function scatterAtMax(l: Lowering, node: NodeOf<'maxPool2dGrad'>, [x, dy]: readonly [string, string]): string {
  const { model } = l
  const { shape } = l.type(input(node, 0))
  const total = shape.reduce((n, d) => n * size(d), 1)
  const { kernelSize, stride, padding } = node.attrs
  const limited = model.op('Clip', [x, model.float(-3.4028232635611926e38)])
  const [, index = ''] = model.ops('MaxPool', [limited], { kernel_shape: kernelSize, strides: stride, pads: pads(padding) }, 2)
  const zeros = l.expand(model.float(0), [], [total])
  const sum = model.op('ScatterElements', [zeros, model.op('Reshape', [index, model.ints([-1])]), model.op('Reshape', [dy, model.ints([-1])])], {
    axis: 0,
    reduction: isSideBySide(node) ? undefined : 'add',
  })
  return model.reshape(sum, shape)
}

function isSideBySide(node: Extract<Node, { readonly op: 'maxPool2dGrad' | 'avgPool2dGrad' }>): boolean {
  const { kernelSize, stride, padding } = node.attrs
  return kernelSize[0] === stride[0] && kernelSize[1] === stride[1] && padding.every((p) => p === 0)
}

function first(names: readonly string[]): string {
  return names[0] ?? ''
}
