// Ops that move elements, choose them by index, or make them from nothing.

import { broadcastShapes, concat, type StaticShape, sizeOf, type Tensor } from '@dynconv/core'
import { dtypeOf, hostOf, type NodeView, type Result, type Rule } from './node.ts'
import type { OnnxTensor } from './proto.ts'

/** An axis counted from the end or the front, as one from the front. */
export function fromFront(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis
}

// What became an input in some opset, and was an attribute before.
function list(n: NodeView, i: number, name: string, inputSince: number): readonly number[] | undefined {
  return n.opset >= inputSince ? n.known(i) : n.ints(name)
}

function integers(values: readonly number[]): OnnxTensor {
  return { type: 'int64', dims: [values.length], data: Float64Array.from(values) }
}

// Start, end and step of one axis, as ONNX clamps them, as our start and size.
function range(start: number, end: number, step: number, size: number): readonly [start: number, size: number] {
  const [low, high] = step < 0 ? [-1, size - 1] : [0, size]
  const clamp = (v: number): number => Math.min(Math.max(v < 0 ? v + size : v, low), high)
  const [from, to] = [step < 0 ? Math.max(clamp(start), 0) : clamp(start), clamp(end)]
  const count = Math.max(0, Math.ceil((to - from) / step))
  return [count === 0 ? 0 : from, count]
}

function slice(n: NodeView): Tensor {
  const x = n.x(0)
  const shape = n.shape(0)
  const starts = list(n, 1, 'starts', 10) ?? []
  const ends = list(n, 2, 'ends', 10) ?? []
  const axes = (list(n, 3, 'axes', 10) ?? starts.map((_, i) => i)).map((axis) => fromFront(axis, shape.length))
  const steps = (n.opset >= 10 ? n.known(4) : undefined) ?? starts.map(() => 1)
  const ranges = shape.map((size, axis): readonly [number, number, number] => {
    const at = axes.indexOf(axis)
    if (at < 0) return [0, size, 1]
    const step = steps[at] ?? 1
    return [...range(starts[at] ?? 0, ends[at] ?? 0, step, size), step]
  })
  return x.slice(ranges.map(([start]) => start), ranges.map(([, size]) => size), ranges.map(([, , step]) => step))
}

function split(n: NodeView): readonly Tensor[] {
  const x = n.x(0)
  const axis = fromFront(n.int('axis', 0), x.rank)
  const size = n.shape(0)[axis] ?? 0
  const sizes = list(n, 1, 'split', 13) ?? Array.from({ length: n.outputs }, () => size / n.outputs)
  let start = 0
  return sizes.map((part) => {
    start += part
    return x.narrow(axis, start - part, part)
  })
}

function pad(n: NodeView): Tensor {
  const x = n.x(0)
  const mode = n.text('mode', 'constant')
  if (mode !== 'constant') return n.refuse(`mode=${mode}`)
  const pads = (n.opset >= 11 ? n.known(1) : (n.ints('pads') ?? n.ints('paddings'))) ?? []
  if (pads.some((p) => p < 0)) return n.refuse('pads below 0')
  const value = n.opset >= 11 ? (n.known(2)?.[0] ?? 0) : n.float('value', 0)
  return x.pad(pads.slice(0, x.rank), pads.slice(x.rank), value)
}

// ONNX counts negative indices from the end.
function nonNegative(indices: Tensor, size: number): Tensor {
  return indices.less(0).select(indices.add(size), indices)
}

// The axes of x in the order in which `last`, its last one, stands at `axis`.
function lastTo(x: Tensor, axis: number): Tensor {
  const others = Array.from({ length: x.rank - 1 }, (_, i) => i)
  return x.transpose([...others.slice(0, axis), x.rank - 1, ...others.slice(axis)])
}

function oneHot(n: NodeView): Tensor {
  const values = n.x(2)
  const depth = n.known(1)?.[0] ?? 0
  const indices = nonNegative(n.x(0).cast('int32'), depth)
  const hot = indices.oneHot(depth, 'bool')
  const [off, on] = [values.narrow(0, 0, 1).reshape([]), values.narrow(0, 1, 1).reshape([])]
  return lastTo(hot, fromFront(n.int('axis', -1), hot.rank)).select(on, off)
}

// A reshape to [.., a, b, ..], a permutation and a reshape back: blocks of pixels as channels, and the reverse.
function depthToSpace(n: NodeView): Tensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = n.shape(0)
  const b = n.int('blocksize', 1)
  const depth = channels / (b * b)
  const crd = n.text('mode', 'DCR') === 'CRD'
  const blocks = n.x(0).reshape(crd ? [batch, depth, b, b, height, width] : [batch, b, b, depth, height, width])
  return blocks.transpose(crd ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2]).reshape([batch, depth, height * b, width * b])
}

function spaceToDepth(n: NodeView): Tensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = n.shape(0)
  const b = n.int('blocksize', 1)
  const blocks = n.x(0).reshape([batch, channels, height / b, b, width / b, b])
  return blocks.transpose([0, 3, 5, 1, 2, 4]).reshape([batch, channels * b * b, height / b, width / b])
}

function unsqueezed(shape: StaticShape, axes: readonly number[]): StaticShape {
  const rank = shape.length + axes.length
  const at = new Set(axes.map((axis) => fromFront(axis, rank)))
  let next = 0
  return Array.from({ length: rank }, (_, i) => (at.has(i) ? 1 : (shape[next++] ?? 1)))
}

/** The rules. */
export const shapeRules: Readonly<Record<string, Rule>> = {
  Constant: (n): Result => {
    const value = n.numbers('value')
    if (value) return value
    const numbers = n.floats('value_floats') ?? [n.float('value_float', Number.NaN)]
    if (!numbers.some(Number.isNaN)) return { type: 'float', dims: n.floats('value_floats') ? [numbers.length] : [], data: Float64Array.from(numbers) }
    const ints = n.ints('value_ints') ?? [n.int('value_int', Number.NaN)]
    if (!ints.some(Number.isNaN)) return { type: 'int64', dims: n.ints('value_ints') ? [ints.length] : [], data: Float64Array.from(ints) }
    return n.refuse('value of another kind')
  },
  ConstantOfShape: (n) => {
    const value = n.numbers('value') ?? { type: 'float', dims: [1], data: Float64Array.of(0) }
    return n.constant(hostOf(value)).reshape([]).broadcastTo(n.known(0) ?? [])
  },
  Range: (n) => {
    const [start = 0, limit = 0, delta = 1] = [0, 1, 2].map((i) => n.known(i)?.[0] ?? 0)
    const { dtype } = n.x(0)
    return n.iota([Math.max(0, Math.ceil((limit - start) / delta))], 0, dtype).mul(n.x(2)).add(n.x(0))
  },
  Shape: (n) => {
    const shape = n.shape(0)
    const end = n.int('end', shape.length)
    return integers(shape.slice(fromFront(n.int('start', 0), shape.length), fromFront(end, shape.length)))
  },
  Size: (n) => ({ type: 'int64', dims: [], data: Float64Array.of(sizeOf(n.shape(0))) }),
  EyeLike: (n) => {
    const [rows = 0, columns = 0] = n.shape(0)
    const onDiagonal = n.iota([rows, columns], 0, 'int32').add(n.int('k', 0)).equal(n.iota([rows, columns], 1, 'int32'))
    const to = n.int('dtype', 0)
    return onDiagonal.cast(to ? dtypeOf(to === 1 ? 'float' : to === 6 ? 'int32' : to === 7 ? 'int64' : 'double') : n.x(0).dtype)
  },

  Reshape: (n) => {
    const shape = n.shape(0)
    const keepsZeros = n.int('allowzero', 0) !== 0
    const target = list(n, 1, 'shape', 5) ?? []
    return n.x(0).reshape(target.map((d, i) => (d === 0 && !keepsZeros ? (shape[i] ?? 0) : d)))
  },
  Flatten: (n) => {
    const shape = n.shape(0)
    const axis = fromFront(n.int('axis', 1), shape.length)
    return n.x(0).reshape([sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis))])
  },
  Squeeze: (n) => {
    const shape = n.shape(0)
    const axes = list(n, 1, 'axes', 13)?.map((axis) => fromFront(axis, shape.length))
    return n.x(0).reshape(shape.filter((d, i) => (axes ? !axes.includes(i) : d !== 1)))
  },
  Unsqueeze: (n) => n.x(0).reshape(unsqueezed(n.shape(0), list(n, 1, 'axes', 13) ?? [])),
  Transpose: (n) => n.x(0).transpose(n.ints('perm')),
  Expand: (n) => n.x(0).broadcastTo(broadcastShapes('Expand', n.shape(0), n.known(1) ?? [])),
  Tile: (n) => {
    const shape = n.shape(0)
    const repeats = n.known(1) ?? []
    // Each axis as [1, d], stretched to [repeats, d].
    const pairs = n.x(0).reshape(shape.flatMap((d) => [1, d]))
    return pairs.broadcastTo(shape.flatMap((d, i) => [repeats[i] ?? 1, d])).reshape(shape.map((d, i) => d * (repeats[i] ?? 1)))
  },
  Slice: slice,
  Split: split,
  Pad: pad,
  Concat: (n) => concat(n.all(), n.int('axis', 1)),
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,

  Gather: (n) => {
    const axis = fromFront(n.int('axis', 0), n.x(0).rank)
    return n.x(0).gather(nonNegative(n.x(1), n.shape(0)[axis] ?? 0), axis)
  },
  // Our scatterAdd adds whole slices along one axis: what ScatterND does with reduction 'add' and one index a slice.
  ScatterND: (n) => {
    const reduction = n.text('reduction', 'none')
    const shape = n.shape(1)
    if (reduction !== 'add') return n.refuse(`reduction=${reduction}`)
    if (shape.at(-1) !== 1) return n.refuse('indices of more than one axis')
    const size = n.shape(0)[0] ?? 0
    const indices = nonNegative(n.x(1).reshape(shape.slice(0, -1)), size)
    return n.x(0).add(n.x(2).scatterAdd(indices, 0, size))
  },
  OneHot: oneHot,
  Hardmax: (n) => {
    const x = n.x(0)
    const axis = fromFront(n.int('axis', -1), x.rank)
    return lastTo(x.argMax(axis).oneHot(n.shape(0)[axis] ?? 0, x.dtype), axis)
  },
}
