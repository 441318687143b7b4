// Reductions, softmaxes, products and losses.

import { crossEntropy, sizeOf, type Tensor } from '@dynconv/core'
import type { NodeView, Rule } from './node.ts'
import { fromFront } from './rulesShape.ts'

// All axes unless given; none where an empty list was given and the node says so.
function axesOf(n: NodeView, inputSince: number): readonly number[] {
  const axes = n.opset >= inputSince ? n.known(1) : n.ints('axes')
  const nothing = n.int('noop_with_empty_axes', 0) !== 0
  const rank = n.shape(0).length
  return axes?.length ? axes.map((axis) => fromFront(axis, rank)) : nothing ? [] : n.shape(0).map((_, i) => i)
}

type Reduce = (x: Tensor, axes: readonly number[], keepDims: boolean) => Tensor

const reduction =
  (reduce: Reduce, inputSince: number = 18): Rule =>
  (n) => {
    const axes = axesOf(n, inputSince)
    const keepDims = n.int('keepdims', 1) !== 0
    return axes.length ? reduce(n.x(0), axes, keepDims) : n.x(0)
  }

function extreme(index: (x: Tensor, axis: number) => Tensor): Rule {
  return (n) => {
    const x = n.x(0)
    const axis = fromFront(n.int('axis', 0), x.rank)
    if (n.int('select_last_index', 0) !== 0) return n.refuse('select_last_index=1')
    const found = index(x, axis)
    return n.int('keepdims', 1) ? found.reshape(n.shape(0).map((d, i) => (i === axis ? 1 : d))) : found
  }
}

// Before opset 13 all axes from `axis` on (1 unless given) are one.
function normalised(apply: (x: Tensor, axis: number) => Tensor): Rule {
  return (n) => {
    const shape = n.shape(0)
    if (n.opset >= 13) return apply(n.x(0), n.int('axis', -1))
    const axis = fromFront(n.int('axis', 1), shape.length)
    return apply(n.x(0).reshape([sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis))]), 1).reshape(shape)
  }
}

function gemm(n: NodeView): Tensor {
  const [alpha, beta] = [n.float('alpha', 1), n.float('beta', 1)]
  const c = n.maybe(2)
  if (n.opset < 7) n.int('broadcast', 0)
  const product = n.x(0).matmul(n.x(1), { transposeA: n.int('transA', 0) !== 0, transposeB: n.int('transB', 0) !== 0 })
  const scaled = alpha === 1 ? product : product.mul(alpha)
  return c ? scaled.add(beta === 1 ? c : c.mul(beta)) : scaled
}

// Our loss takes logits [N, C], and averages over the batch without weights.
function softmaxCrossEntropy(n: NodeView): readonly Tensor[] {
  const reduction = n.text('reduction', 'mean')
  if (reduction !== 'mean') return n.refuse(`reduction=${reduction}`)
  if (n.has(2)) return n.refuse('weights')
  if (n.int('ignore_index', Number.NaN) >= 0) return n.refuse('ignore_index')
  const logits = n.x(0)
  if (logits.rank !== 2) return n.refuse('scores of more than two axes')
  return [crossEntropy()(logits, n.x(1)), logits.logSoftmax(1)]
}

/** The rules. */
export const reduceRules: Readonly<Record<string, Rule>> = {
  ReduceSum: reduction((x, axes, keep) => x.sum(axes, keep), 13),
  ReduceMean: reduction((x, axes, keep) => x.mean(axes, keep)),
  ReduceMax: reduction((x, axes, keep) => x.maxOver(axes, keep)),
  ReduceMin: reduction((x, axes, keep) => x.neg().maxOver(axes, keep).neg()),
  ReduceL1: reduction((x, axes, keep) => x.abs().sum(axes, keep)),
  ReduceL2: reduction((x, axes, keep) => x.square().sum(axes, keep).sqrt()),
  ReduceLogSum: reduction((x, axes, keep) => x.sum(axes, keep).log()),
  ReduceLogSumExp: reduction((x, axes, keep) => x.exp().sum(axes, keep).log()),
  ReduceSumSquare: reduction((x, axes, keep) => x.square().sum(axes, keep)),
  ArgMax: extreme((x, axis) => x.argMax(axis)),
  ArgMin: extreme((x, axis) => x.neg().argMax(axis)),
  Softmax: normalised((x, axis) => x.softmax(axis)),
  LogSoftmax: normalised((x, axis) => x.logSoftmax(axis)),
  MatMul: (n) => n.x(0).matmul(n.x(1)),
  Gemm: gemm,
  SoftmaxCrossEntropyLoss: softmaxCrossEntropy,
}
