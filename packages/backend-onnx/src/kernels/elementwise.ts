// Elementwise ops. ONNX Runtime's kernels follow NumPy's broadcasting and IEEE 754 (NaN goes through Min, Max, Clip and
// Relu; Pow(x, 0) = Pow(1, x) = 1), as the ops' definitions do.

import { type DType, fromNumbers, type NodeOf, type OpName, type ValueId } from '@dynconv/core'
import type { Kernel, KernelTable, Lowering } from '../lowering.ts'
import { elementTypes } from '../proto/onnx.ts'
import { input } from './shared.ts'

type ElementwiseName =
  | 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'compare' | 'select'
  | 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu' | 'clamp' | 'cast' | 'stopGradient' | 'customGradient'

// The same op under ONNX's name.
const direct =
  <K extends OpName>(type: string): Kernel<K> =>
  (node, l) =>
    l.model.op(type, l.getAll(node.inputs))

const comparisons = {
  equal: 'Equal',
  notEqual: 'Equal',
  less: 'Less',
  lessEqual: 'LessOrEqual',
  greater: 'Greater',
  greaterEqual: 'GreaterOrEqual',
} as const

// The type that kernels compute a dtype in.
const computed = { float32: 'float32', float16: 'float32', int32: 'int32', bool: 'bool' } as const satisfies Record<DType, DType>

export const elementwiseKernels: Pick<KernelTable, ElementwiseName> = {
  add: direct('Add'),
  sub: direct('Sub'),
  mul: direct('Mul'),
  div: direct('Div'),
  min: direct('Min'),
  max: direct('Max'),
  pow: direct('Pow'),
  neg: direct('Neg'),
  abs: direct('Abs'),
  exp: direct('Exp'),
  log: direct('Log'),
  sqrt: direct('Sqrt'),
  rsqrt: (node, l) => l.model.op('Reciprocal', [l.model.op('Sqrt', l.getAll(node.inputs))]),
  tanh: direct('Tanh'),
  // The engine's own Sigmoid is exact to 1 / 2^24 of 1, not of its result, and stops at 1.5e-8: its logarithm would be wrong.
  sigmoid: (node, l) => {
    const x = l.get(input(node, 0))
    if (l.standard) return l.model.op('Sigmoid', [x])
    return l.model.op('Reciprocal', [l.model.op('Add', [l.model.op('Exp', [l.model.op('Neg', [x])]), l.model.float(1)])])
  },
  relu: direct('Relu'),

  clamp: (node, l) => {
    const { min, max } = node.attrs
    const bound = (value: number): string => l.constant(fromNumbers(computed[l.dtype(input(node, 0))], [], [value]))
    return l.model.op('Clip', [l.get(input(node, 0)), bound(min), bound(max)])
  },

  compare: (node, l) => {
    const result = l.model.op(comparisons[node.attrs.kind], l.getAll(node.inputs))
    return node.attrs.kind === 'notEqual' ? l.model.op('Not', [result]) : result
  },

  select: (node, l) => {
    const mask = reluMask(node, l)
    if (mask) return l.model.op('Mul', mask)
    const [condition = '', a = '', b = ''] = l.getAll(node.inputs)
    if (l.dtype(input(node, 1)) !== 'bool') return l.model.op('Where', [condition, a, b])
    // The engine has no Where on bools: (condition and a) or (not condition and b).
    return l.model.op('Or', [l.model.op('And', [condition, a]), l.model.op('And', [l.model.op('Not', [condition]), b])])
  },

  cast: (node, l) => {
    const [from, to] = [computed[l.dtype(input(node, 0))], computed[node.attrs.dtype]]
    const x = l.get(input(node, 0))
    return from === to ? x : l.model.op('Cast', [x], { to: elementTypes[to] })
  },

  stopGradient: (node, l) => l.get(input(node, 0)),
  customGradient: (node, l) => l.getAll(node.inputs.slice(node.inputs.length - node.attrs.outputs)),
}

/**
 * The gradient of relu, select(y > 0, g, 0) with y = relu(x), as the product g * m of the names returned, with
 * m = HardSigmoid(y) = max(0, min(1, alpha y)): 0 where y is 0 and 1 where it is at least 1 / alpha, which no normal
 * float32 is below. This takes half the time of Where(Greater).
 *
 * It differs in two cases, which only a net that has already diverged meets: an infinite (or NaN) gradient that relu masks
 * becomes NaN instead of 0, and so does the gradient where y itself is NaN. A subnormal y passes its gradient in part.
 */
export function reluMask(node: NodeOf<'select'>, l: Lowering): readonly string[] | undefined {
  const y = reluOf(node, l)
  if (y === undefined) return undefined
  return [l.get(input(node, 1)), l.model.op('HardSigmoid', [l.get(y)], { alpha: { float: 3e38 }, beta: { float: 0 } })]
}

/** The value y, when `node` is the gradient of y = relu(x): select(y > 0, g, 0). */
export function reluOf(node: NodeOf<'select'>, l: Lowering): ValueId | undefined {
  const [condition, g, otherwise] = node.inputs
  if (condition === undefined || g === undefined || otherwise === undefined || l.scalarOf(otherwise) !== 0) return undefined
  const compare = l.producer(condition)
  if (compare?.op !== 'compare' || compare.attrs.kind !== 'greater') return undefined
  const [y, zero] = compare.inputs
  if (y === undefined || zero === undefined || l.scalarOf(zero) !== 0 || l.producer(y)?.op !== 'relu') return undefined
  // The product has g's shape: that must be the whole result's. (Integers have no gradient, and no HardSigmoid.)
  const sameShape = l.shape(y).join() === l.shape(g).join()
  return sameShape && l.dtype(g) !== 'int32' && l.dtype(y) === l.dtype(g) ? y : undefined
}
