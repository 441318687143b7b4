// Ops that work in any layout: elementwise ones, reductions, moves along axes. They take the layout of their inputs and hand
// it on.

import type { NodeOf, OpName, ValueId } from '@dynconv/core'
import { castTo, computed } from '../kernels/elementwise.ts'
import { kernelTable } from '../kernels/table.ts'
import { nth, product, range, sameSizes } from '../kernels/shared.ts'
import { elementwiseBeside, reducedBeside } from './beside.ts'
import type { TfValue } from './graph.ts'
import { isPlain, keyOf, type Layout, nhwc, plain, storedAxis, storedShape, withoutAxes } from './layout.ts'
import type { Lowering, ProgramKernel, ProgramKernels } from './lowering.ts'
import { attr } from './graph.ts'

/** The kernels. */
export const transparentKernels: ProgramKernels = {
  ...elementwise('add', 'sub', 'mul', 'div', 'min', 'max', 'pow', 'compare'),
  ...elementwise('neg', 'abs', 'exp', 'log', 'sqrt', 'rsqrt', 'tanh', 'sigmoid', 'relu', 'stopGradient'),
  select: (node, l) => reluGrad(node, l) || stretch(node, l),
  cast: (node, l) => {
    const [x, y] = [nth(node.inputs, 0), nth(node.outputs, 0)]
    const layout = l.layoutOf(x)
    l.put(node, y, castTo(l.p, l.get(x, layout), computed(node.attrs.dtype)), layout)
    return true
  },
  broadcastTo: (node, l) => {
    const [x, y] = [nth(node.inputs, 0), nth(node.outputs, 0)]
    l.repeat(y, x)
    return true
  },
  reduceSum: reduction('sum'),
  reduceMax: reduction('max'),
  // Renames axes: axis j of y is axis permutation[j] of x.
  transpose: (node, l) => {
    const [x, y] = [nth(node.inputs, 0), nth(node.outputs, 0)]
    const layout = l.layoutOf(x)
    l.put(node, y, l.get(x, layout), layout.map((axis) => node.attrs.permutation.indexOf(axis)))
    return true
  },
  slice: (node, l) => {
    const { starts, sizes, steps } = node.attrs
    const [x, y] = [nth(node.inputs, 0), nth(node.outputs, 0)]
    const layout = l.layoutOf(x)
    if (isPlain(layout) || steps.some((s) => s < 0)) return false
    const at = (list: readonly number[]): readonly number[] => storedShape(list, layout)
    const value = l.get(x, layout)
    const stored = steps.every((s) => s === 1) ? l.p.slice(value, at(starts), at(sizes)) : l.p.stridedSlice(value, at(starts), at(sizes), at(steps))
    l.put(node, y, stored, layout)
    return true
  },
  pad: (node, l) => {
    const { before, after, value } = node.attrs
    const [x, y] = [nth(node.inputs, 0), nth(node.outputs, 0)]
    const layout = l.layoutOf(x)
    if (isPlain(layout) || product(l.shape(x)) === 0) return false
    l.put(node, y, l.p.pad(l.get(x, layout), layout.map((axis) => nth(before, axis)), layout.map((axis) => nth(after, axis)), value), layout)
    return true
  },
  concat: (node, l) => {
    const y = nth(node.outputs, 0)
    const layout = node.inputs.map((id) => l.layoutOf(id)).find((each) => !isPlain(each))
    if (!layout || node.inputs.some((id) => product(l.shape(id)) === 0)) return false
    l.put(node, y, l.p.concat(node.inputs.map((id) => l.get(id, layout)), storedAxis(node.attrs.axis, layout)), layout)
    return true
  },
}

type Elementwise = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'compare' | 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu' | 'stopGradient'

function elementwise(...names: readonly Elementwise[]): ProgramKernels {
  return Object.fromEntries(names.map((name) => [name, stretch]))
}

// The layout of the largest input that is not plain, for all.
function stretch(node: NodeOf<OpName>, l: Lowering): boolean {
  const y = nth(node.outputs, 0)
  const shape = l.shape(y)
  const rank = shape.length
  const isWhole = (id: ValueId): boolean => sameSizes(l.shape(id), shape)
  const ranked = [...node.inputs.filter(isWhole), ...node.inputs.filter((id) => !isWhole(id) && l.shape(id).length === rank)]
  const layout = ranked.map((id) => l.layoutOf(id)).find((each) => !isPlain(each)) ?? plain(rank)
  // Something must have the whole shape; what only repeats need not, if another one does.
  const whole = node.inputs.some((id) => isWhole(id) && l.source(id) === id)
  const inputs = node.inputs.map((id) => l.operand(whole ? l.source(id) : id, layout))
  const apply = (list: readonly TfValue[], stored: readonly number[]): TfValue => applied(node, l, list, stored)
  const stored = storedShape(shape, layout)
  l.put(node, y, (isNhwc(layout) ? elementwiseBeside(l.p, inputs, stored, apply) : undefined) ?? apply(inputs, stored), layout)
  return true
}

function isNhwc(layout: Layout): boolean {
  return keyOf(layout) === keyOf(nhwc)
}

const tables: WeakMap<object, ReturnType<typeof kernelTable<TfValue>>> = new WeakMap()

// The op's own kernel, which works on tensors as they stand.
function applied(node: NodeOf<OpName>, l: Lowering, inputs: readonly TfValue[], shape: readonly number[]): TfValue {
  const table = tables.get(l.p) ?? kernelTable(l.p)
  tables.set(l.p, table)
  const kernel = table[node.op] as ((attrs: unknown, inputs: readonly TfValue[], outputs: readonly unknown[]) => TfValue) | undefined
  if (!kernel) throw new RangeError(`tfjs: ${node.op} has no kernel`)
  const result = kernel(node.attrs, inputs, [{ dtype: l.dtype(nth(node.outputs, 0)), shape }])
  return sameSizes(result.shape, shape) ? result : l.p.broadcast(result, shape)
}

function reduction<K extends 'reduceSum' | 'reduceMax'>(kind: 'sum' | 'max'): ProgramKernel<K> {
  return (node, l) => {
    const [x, y] = [nth(node.inputs, 0), nth(node.outputs, 0)]
    const { axes, keepDims } = node.attrs
    if (product(l.shape(x)) === 0 || axes.length === 0) return false
    const layout = l.layoutOf(x)
    const [value, along] = [l.get(x, layout), axes.map((axis) => storedAxis(axis, layout))]
    const beside = isNhwc(layout) ? reducedBeside(l.p, kind, value, along, keepDims) : undefined
    l.put(node, y, beside ?? l.p[kind](value, along, keepDims), keepDims ? layout : withoutAxes(layout, axes))
    return true
  }
}

/**
 * The gradient of relu, select(y > 0, g, 0), as TensorFlow's ReluGrad: g * (y > 0), in one pass instead of two.
 *
 * It differs in one case, which only a net that has already diverged meets: an infinite (or NaN) gradient that relu masks
 * becomes NaN instead of 0.
 */
function reluGrad(node: NodeOf<'select'>, l: Lowering): boolean {
  const [condition, g, zero] = [nth(node.inputs, 0), nth(node.inputs, 1), nth(node.inputs, 2)]
  const test = l.producer(condition)
  if (test?.op !== 'compare' || test.attrs.kind !== 'greater' || l.dtype(g) !== 'float32' || !isZero(l, zero) || !isZero(l, nth(test.inputs, 1))) return false
  const features = nth(test.inputs, 0)
  const y = nth(node.outputs, 0)
  const shape = l.shape(y)
  if (l.dtype(features) !== 'float32' || l.producer(features)?.op !== 'relu' || !sameSizes(l.shape(features), shape) || !sameSizes(l.shape(g), shape)) return false
  const layout = isPlain(l.layoutOf(features)) ? l.layoutOf(g) : l.layoutOf(features)
  const apply = (inputs: readonly TfValue[], stored: readonly number[]): TfValue => l.p.graph.one('ReluGrad', inputs.toReversed(), { T: attr.type('float32') }, 'float32', stored)
  const [inputs, stored] = [[l.get(features, layout), l.get(g, layout)], storedShape(shape, layout)]
  l.put(node, y, (isNhwc(layout) ? elementwiseBeside(l.p, inputs, stored, apply) : undefined) ?? apply(inputs, stored), layout)
  return true
}

function isZero(l: Lowering, id: ValueId): boolean {
  const value = l.constantOf(id)
  return value !== undefined && value.data.length > 0 && range(value.data.length).every((i) => value.data[i] === 0)
}
