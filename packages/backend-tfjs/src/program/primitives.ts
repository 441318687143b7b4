// The primitives as nodes of a TensorFlow graph. Attributes that are left out take TensorFlow's defaults when the graph is
// loaded.

import type { Comparison, Size2d } from '@dynconv/core'
import { broadcastTogether, nth, range, sameSizes } from '../kernels/shared.ts'
import { type BinaryKind, pixelsOfOneTap, type Primitives, type UnaryKind } from '../primitives.ts'
import { attr, type TfGraph, type TfValue } from './graph.ts'
import type { AttrValue, ElementType } from './proto.ts'

/** Where TensorFlow's kernels differ from the ops: see composed/quirks.ts. */
export interface ProgramQuirks {
  readonly losesNaN: boolean
}

const unaryOps: { readonly [K in UnaryKind]: string } = {
  neg: 'Neg', abs: 'Abs', exp: 'Exp', log: 'Log', sqrt: 'Sqrt', rsqrt: 'Rsqrt', tanh: 'Tanh', sigmoid: 'Sigmoid', relu: 'Relu',
}
const binaryOps: { readonly [K in BinaryKind]: string } = {
  add: 'AddV2', sub: 'Sub', mul: 'Mul', div: 'RealDiv', min: 'Minimum', max: 'Maximum', pow: 'Pow', and: 'LogicalAnd', or: 'LogicalOr',
}
const comparisonOps: { readonly [C in Comparison]: string } = {
  equal: 'Equal', notEqual: 'NotEqual', less: 'Less', lessEqual: 'LessEqual', greater: 'Greater', greaterEqual: 'GreaterEqual',
}

/** The primitives of a graph, and what only a graph has. */
export interface ProgramPrimitives extends Primitives<TfValue> {
  readonly graph: TfGraph
  readonly quirks: ProgramQuirks
  cast(x: TfValue, dtype: ElementType): TfValue
  /** Equal parts along the first axis, each with that axis. */
  split(x: TfValue, count: number): readonly TfValue[]
  /** The elements along the first axis, each without it. */
  unpack(x: TfValue): readonly TfValue[]
  pack(list: readonly TfValue[]): TfValue
  addAll(list: readonly TfValue[]): TfValue
  reverse(x: TfValue, axes: readonly number[]): TfValue
  conv2dFilterGrad(x: TfValue, dy: TfValue, filterShape: readonly number[], stride: Size2d, padding?: 'VALID' | 'SAME'): TfValue
  conv2d(x: TfValue, w: TfValue, stride: Size2d, dilation: Size2d, padding?: 'VALID' | 'SAME'): TfValue
  conv2dInputGrad(dy: TfValue, w: TfValue, inputShape: readonly number[], stride: Size2d, padding?: 'VALID' | 'SAME'): TfValue
}

/** Writes into `graph`. */
export function programPrimitives(graph: TfGraph, quirks: ProgramQuirks): ProgramPrimitives {
  const T = (x: TfValue): Readonly<Record<string, AttrValue>> => ({ T: attr.type(x.dtype) })
  const index = attr.type('int32')
  const scalar = (value: number): TfValue => graph.constant({ dtype: 'float32', shape: [], data: Float32Array.of(value) })
  const binaryNode = (op: string, a: TfValue, b: TfValue): TfValue => {
    const logical = op === 'LogicalAnd' || op === 'LogicalOr'
    return graph.one(op, [a, b], logical ? {} : T(a), a.dtype, broadcastTogether(a.shape, b.shape))
  }
  const compareNode = (kind: Comparison, a: TfValue, b: TfValue): TfValue => graph.one(comparisonOps[kind], [a, b], T(a), 'bool', broadcastTogether(a.shape, b.shape))
  const reduceNode = (op: string, x: TfValue, axes: readonly number[], keepDims: boolean): TfValue => {
    const shape = keepDims ? x.shape.map((d, i) => (axes.includes(i) ? 1 : d)) : x.shape.filter((_, i) => !axes.includes(i))
    return graph.one(op, [x, graph.ints(axes)], { ...T(x), Tidx: index, keep_dims: attr.bool(keepDims) }, x.dtype, shape)
  }
  const convAttrs = (stride: Size2d, dilation: Size2d, padding: 'VALID' | 'SAME'): Readonly<Record<string, AttrValue>> => ({
    T: attr.type('float32'),
    strides: attr.ints([1, ...stride, 1]),
    dilations: attr.ints([1, ...dilation, 1]),
    padding: attr.string(padding),
    data_format: attr.string('NHWC'),
  })
  const one: Size2d = [1, 1]

  const p: ProgramPrimitives = {
    graph,
    quirks,
    constant: (value) => graph.constant(value),
    reshape: (x, shape) => {
      if (sameSizes(x.shape, shape)) return x
      // A reshape of a reshape is one.
      const source = x.node.op === 'Reshape' ? nth(x.node.inputs, 0) : x
      return sameSizes(source.shape, shape) ? source : graph.one('Reshape', [source, graph.ints(shape)], { ...T(x), Tshape: index }, x.dtype, shape)
    },
    transpose: (x, permutation) => {
      const shape = permutation.map((axis) => nth(x.shape, axis))
      const long = permutation.filter((axis) => x.shape[axis] !== 1)
      // Moving axes of size 1 moves no element.
      if (long.every((axis, i) => i === 0 || nth(long, i - 1) < axis)) return p.reshape(x, shape)
      return graph.one('Transpose', [x, graph.ints(permutation)], { ...T(x), Tperm: index }, x.dtype, shape)
    },
    broadcast: (x, shape) => {
      if (sameSizes(x.shape, shape)) return x
      if (shape.length <= 5) return graph.one('BroadcastTo', [x, graph.ints(shape)], { ...T(x), Tidx: index }, x.dtype, shape)
      // BroadcastTo stretches up to five axes.
      const full = [...shape.slice(x.shape.length).map(() => 1), ...x.shape]
      const times = shape.map((d, i) => (full[i] === d ? 1 : d))
      return graph.one('Tile', [p.reshape(x, full), graph.ints(times)], { ...T(x), Tmultiples: index }, x.dtype, shape)
    },
    slice: (x, starts, sizes) => sameSizes(x.shape, sizes) ? x : graph.one('Slice', [x, graph.ints(starts), graph.ints(sizes)], { ...T(x), Index: index }, x.dtype, sizes),
    stridedSlice: (x, starts, sizes, steps) => {
      const ends = starts.map((start, i) => start + (nth(sizes, i) - 1) * nth(steps, i) + 1)
      return graph.one('StridedSlice', [x, graph.ints(starts), graph.ints(ends), graph.ints(steps)], { ...T(x), Index: index }, x.dtype, sizes)
    },
    pad: (x, before, after, value) => {
      const shape = x.shape.map((d, i) => d + nth(before, i) + nth(after, i))
      const paddings = graph.ints(before.flatMap((n, i) => [n, nth(after, i)]), [before.length, 2])
      if (value === 0) return graph.one('Pad', [x, paddings], { ...T(x), Tpaddings: index }, x.dtype, shape)
      const border = p.cast(scalar(value), x.dtype)
      return graph.one('PadV2', [x, paddings, border], { ...T(x), Tpaddings: index }, x.dtype, shape)
    },
    concat: (list, axis) => {
      const first = nth(list, 0)
      if (list.length === 1) return first
      const total = list.reduce((sum, x) => sum + nth(x.shape, axis), 0)
      const shape = first.shape.map((d, i) => (i === axis ? total : d))
      return graph.one('ConcatV2', [...list, graph.ints([axis], [])], { ...T(first), Tidx: index, N: attr.int(list.length) }, first.dtype, shape)
    },
    gather: (x, indices, axis) => {
      const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)]
      return graph.one('GatherV2', [x, indices, graph.ints([axis], [])], { Tparams: attr.type(x.dtype), Tindices: index, Taxis: index }, x.dtype, shape)
    },
    scatterRows: (updates, indices, size) => {
      const shape = [size, nth(updates.shape, 1)]
      const column = p.reshape(indices, [nth(indices.shape, 0), 1])
      return graph.one('ScatterNd', [column, updates, graph.ints(shape)], { ...T(updates), Tindices: index }, updates.dtype, shape)
    },
    unary: (kind, x) => {
      const y = graph.one(unaryOps[kind], [x], T(x), x.dtype, x.shape)
      return kind === 'relu' && quirks.losesNaN ? p.select(compareNode('equal', x, x), y, x) : y
    },
    binary: (kind, a, b) => {
      const y = binaryNode(binaryOps[kind], a, b)
      if (!quirks.losesNaN || a.dtype !== 'float32' || (kind !== 'min' && kind !== 'max')) return y
      return p.select(binaryNode('LogicalAnd', compareNode('equal', a, a), compareNode('equal', b, b)), y, binaryNode('AddV2', a, b))
    },
    not: (x) => graph.one('LogicalNot', [x], {}, 'bool', x.shape),
    compare: compareNode,
    select: (condition, a, b) => graph.one('SelectV2', [condition, a, b], T(a), a.dtype, broadcastTogether(condition.shape, broadcastTogether(a.shape, b.shape))),
    cast: (x, dtype) => (x.dtype === dtype ? x : graph.one('Cast', [x], { SrcT: attr.type(x.dtype), DstT: attr.type(dtype) }, dtype, x.shape)),
    sum: (x, axes, keepDims) => reduceNode('Sum', x, axes, keepDims),
    max: (x, axes, keepDims) => {
      const largest = reduceNode('Max', x, axes, keepDims)
      if (!quirks.losesNaN || x.dtype !== 'float32') return largest
      const marks = reduceNode('Max', p.cast(compareNode('notEqual', x, x), 'float32'), axes, keepDims)
      return p.select(compareNode('greater', marks, scalar(0)), scalar(Number.NaN), largest)
    },
    argMax: (x, axis) => graph.one('ArgMax', [x, graph.ints([axis], [])], { ...T(x), Tidx: index, output_type: index }, 'int32', x.shape.filter((_, i) => i !== axis)),
    matmul: (a, b, transposeA, transposeB) => {
      const [rows, columns] = [nth(a.shape, a.shape.length - (transposeA ? 1 : 2)), nth(b.shape, b.shape.length - (transposeB ? 2 : 1))]
      if (a.shape.length === 2 && b.shape.length === 2) {
        return graph.one('MatMul', [a, b], { ...T(a), transpose_a: attr.bool(transposeA), transpose_b: attr.bool(transposeB) }, a.dtype, [rows, columns])
      }
      const shape = [...broadcastTogether(a.shape.slice(0, -2), b.shape.slice(0, -2)), rows, columns]
      return graph.one('BatchMatMulV2', [a, b], { ...T(a), adj_x: attr.bool(transposeA), adj_y: attr.bool(transposeB) }, a.dtype, shape)
    },
    conv2d: (x, w, stride, dilation, padding = 'VALID') => {
      const [batch, height, width] = [nth(x.shape, 0), nth(x.shape, 1), nth(x.shape, 2)]
      const out = (n: number, i: 0 | 1): number => (padding === 'SAME' ? Math.ceil(n / stride[i]) : Math.floor((n - dilation[i] * (nth(w.shape, i) - 1) - 1) / stride[i]) + 1)
      return graph.one('Conv2D', [x, w], convAttrs(stride, dilation, padding), 'float32', [batch, out(height, 0), out(width, 1), nth(w.shape, 3)])
    },
    conv2dInputGrad: (dy, w, inputShape, stride, padding = 'VALID') =>
      graph.one('Conv2DBackpropInput', [graph.ints(inputShape), w, dy], convAttrs(stride, one, padding), 'float32', inputShape),
    conv2dFilterGrad: (x, dy, filterShape, stride, padding = 'VALID') => {
      const met = pixelsOfOneTap(p, x, dy, filterShape, stride)
      return graph.one('Conv2DBackpropFilter', [met ?? x, graph.ints(filterShape), dy], convAttrs(met ? one : stride, one, padding), 'float32', filterShape)
    },
    depthwiseConv2d: (x, w, stride, dilation) => {
      const out = (i: 0 | 1): number => Math.floor((nth(x.shape, i + 1) - dilation[i] * (nth(w.shape, i) - 1) - 1) / stride[i]) + 1
      const shape = [nth(x.shape, 0), out(0), out(1), nth(w.shape, 2) * nth(w.shape, 3)]
      return graph.one('DepthwiseConv2dNative', [x, w], convAttrs(stride, dilation, 'VALID'), 'float32', shape)
    },
    split: (x, count) => {
      if (count === 1) return [x]
      const shape = [nth(x.shape, 0) / count, ...x.shape.slice(1)]
      return graph.op('Split', [graph.ints([0], []), x], { ...T(x), num_split: attr.int(count) }, range(count).map(() => ({ dtype: x.dtype, shape })))
    },
    unpack: (x) => {
      const count = nth(x.shape, 0)
      if (count === 1) return [p.reshape(x, x.shape.slice(1))]
      return graph.op('Unpack', [x], { ...T(x), num: attr.int(count), axis: attr.int(0) }, range(count).map(() => ({ dtype: x.dtype, shape: x.shape.slice(1) })))
    },
    pack: (list) => {
      const first = nth(list, 0)
      return graph.one('Pack', list, { ...T(first), N: attr.int(list.length), axis: attr.int(0) }, first.dtype, [list.length, ...first.shape])
    },
    addAll: (list) => (list.length === 1 ? nth(list, 0) : graph.one('AddN', list, { ...T(nth(list, 0)), N: attr.int(list.length) }, nth(list, 0).dtype, nth(list, 0).shape)),
    reverse: (x, axes) => graph.one('ReverseV2', [x, graph.ints(axes)], { ...T(x), Tidx: index }, x.dtype, x.shape),
  }
  return p
}

