// Sources, ops that move elements, and indexing.

import { type Dim, type DType, fromNumbers, isStatic, sizeOf } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import { elementTypes } from '../proto/onnx.ts'
import { input, output, product, range, size } from './shared.ts'

type ShapeName =
  | 'constant' | 'iota' | 'reshape' | 'transpose' | 'broadcastTo' | 'slice' | 'pad' | 'concat' | 'gather' | 'scatterAdd' | 'oneHot'

export const shapeKernels: Pick<KernelTable, ShapeName> = {
  constant: (node, l) => l.constant(node.attrs.value),

  iota: (node, l) => {
    const { shape, axis, dtype } = node.attrs
    // 0, 1, 2, ... with the axes behind `axis` as 1s, then repeated along all others.
    const ramp = [shape[axis] ?? 1, ...shape.slice(axis + 1).map(() => 1)]
    return l.expand(counting(l, ramp, dtype), ramp, shape)
  },

  reshape: (node, l) => l.reshape(l.get(input(node, 0)), node.attrs.shape),
  transpose: (node, l) => l.model.transpose(l.get(input(node, 0)), node.attrs.permutation),
  broadcastTo: (node, l) => l.expand(l.get(input(node, 0)), l.shape(input(node, 0)), node.attrs.shape),

  slice: (node, l) => {
    const { starts, sizes, steps } = node.attrs
    const shape = l.shape(input(node, 0))
    const axes = range(starts.length).filter((i) => starts[i] !== 0 || steps[i] !== 1 || sizes[i] !== shape[i])
    if (axes.length === 0) return l.get(input(node, 0))
    const pick = (list: readonly number[]): readonly number[] => axes.map((i) => list[i] ?? 0)
    // The end is exclusive. Walking backwards past element 0 it would be -1, which ONNX takes for the last element: any
    // number below -d stands for "before the first".
    const ends = starts.map((start, i) => {
      const step = steps[i] ?? 1
      const last = start + ((sizes[i] ?? 0) - 1) * step
      return step > 0 ? last + 1 : last === 0 ? -size(shape[i]) - 1 : last - 1
    })
    return l.model.slice(l.get(input(node, 0)), pick(starts), pick(ends), axes, pick(steps))
  },

  pad: (node, l) => {
    const { before, after, value } = node.attrs
    const x = input(node, 0)
    if (l.isEmpty(x)) return l.filled(output(node), value)
    if ([...before, ...after].every((n) => n === 0)) return l.get(x)
    return l.model.op('Pad', [l.get(x), l.model.ints([...before, ...after]), l.scalar(value, l.dtype(x))])
  },

  concat: (node, l) => l.model.concat(l.getAll(node.inputs.filter((id) => !l.isEmpty(id))), node.attrs.axis),

  gather: (node, l) => l.model.op('Gather', l.getAll(node.inputs), { axis: node.attrs.axis }),

  // ScatterND adds whole slices at indices of the first axis: the axis comes to the front and goes back.
  scatterAdd: (node, l) => {
    const { axis } = node.attrs
    const [updates, indices] = [input(node, 0), input(node, 1)]
    const result = output(node)
    if (l.isEmpty(updates)) return l.filled(result, 0)
    const { dtype, shape } = l.type(result)
    const count = product(l.shape(indices))
    const [outer, inner] = [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis + 1))]
    const { model } = l
    const flat = model.transpose(model.reshape(l.get(updates), [outer, count, inner]), outer === 1 ? [0, 1, 2] : [1, 0, 2])
    const rows = model.reshape(flat, [count, outer * inner])
    const at = model.reshape(model.op('Cast', [l.get(indices)], { to: elementTypes.int64 }), [count, 1])
    const zeros = l.expand(l.scalar(0, dtype), [], [shape[axis] ?? 0, outer * inner])
    const summed = model.op('ScatterND', [zeros, at, rows], { reduction: 'add' })
    const back = outer === 1 ? summed : model.transpose(model.reshape(summed, [shape[axis] ?? 0, outer, inner]), [1, 0, 2])
    return model.reshape(back, shape)
  },

  // The engine's OneHot takes few types and lets negative indices wrap: comparing with 0, 1, 2, ... does neither.
  oneHot: (node, l) => {
    const { depth, dtype } = node.attrs
    const at = l.reshape(l.get(input(node, 0)), [...l.shape(input(node, 0)), 1])
    const equal = l.model.op('Equal', [at, l.constant(fromNumbers('int32', [depth], range(depth)))])
    return dtype === 'bool' ? equal : l.model.op('Cast', [equal], { to: elementTypes[dtype === 'int32' ? 'int32' : 'float32'] })
  },
}

// 0, 1, 2, ... as a tensor of `ramp`, whose first axis is the counting one and whose others are 1.
function counting(l: Lowering, ramp: readonly Dim[], dtype: DType): string {
  const [length] = ramp
  if (isStatic(ramp)) return l.constant(fromNumbers(dtype, ramp, range(size(length))))
  const end = l.model.reshape(l.dim(String(length)), [])
  const counted = l.model.op('Cast', [l.model.op('Range', [l.model.int(0), end, l.model.int(1)])], { to: elementTypes[dtype === 'int32' ? 'int32' : 'float32'] })
  return l.reshape(counted, ramp)
}
