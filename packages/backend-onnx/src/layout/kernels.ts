// The blocked kernels by op. Each is tried before the plain kernel of its op and says whether it took the node: it does
// not where the assignment left the values plain, or where the op needs the plain order.

import { GraphBuilder, type Node, type NodeOf, type OpName, ops, sameShape, sizeOf, type ValueId } from '@dynconv/core'
import { input, output } from '../kernels/shared.ts'
import { type Layout, Lowering } from '../lowering.ts'
import { blockedNode, elementwiseOps, isByOutputs } from './assign.ts'
import type { Context } from './context.ts'
import { conv2dFilterGrad, dynamicConv2dKernelGrad, emitConv } from './convolutions.ts'
import { isConvNode } from './convNode.ts'
import { conv, globalAverage, pointwise } from './nchwc.ts'
import { batchNorm, batchNormGrad, batchNormInference, emitNorm, type PendingNorm } from './norm.ts'
import { convByOutputs, inputGradByOutputs, kernelGradByOutputs } from './outputsForm.ts'
import { avgPool, maxPool } from './pool.ts'
import { operandView, type Seen, viewOf } from './views.ts'

/** Lowers the node on blocked values and returns true, or returns false. */
export type BlockedKernel<K extends OpName> = (node: NodeOf<K>, ctx: Context) => boolean

type Table = { readonly [K in OpName]?: BlockedKernel<K> }

const table: Table = {
  conv2d: convolution,
  conv2dInputGrad: convolution,
  dynamicConv2d: convolution,
  dynamicConv2dInputGrad: convolution,
  conv2dFilterGrad: (node, ctx) => {
    if (!blockedNode(ctx.lowering.graph, node, ctx.block)) return false
    ctx.lowering.set(output(node), conv2dFilterGrad(node, ctx), 'kernel')
    return true
  },
  dynamicConv2dKernelGrad: (node, ctx) => {
    if (!blockedNode(ctx.lowering.graph, node, ctx.block)) return false
    const [dBases, dPi] = isByOutputs(node) ? kernelGradByOutputs(node, ctx) : dynamicConv2dKernelGrad(node, ctx)
    ctx.lowering.set(output(node, 0), dBases, 'kernel')
    ctx.lowering.set(output(node, 1), dPi)
    return true
  },
  batchNorm: normalisation,
  batchNormGrad: normalisation,
  batchNormInference: normalisation,
  maxPool2d: (node, ctx) => pooled(node, ctx, maxPool),
  avgPool2d: (node, ctx) => pooled(node, ctx, avgPool),
  reduceSum,
  broadcastTo,
}

function pooled<K extends 'maxPool2d' | 'avgPool2d'>(node: NodeOf<K>, ctx: Context, pool: (node: NodeOf<K>, ctx: Context) => string): boolean {
  if (ctx.assignment.layoutOf(output(node)) !== 'blocked') return false
  ctx.lowering.set(output(node), pool(node, ctx), 'blocked')
  return true
}

/** Lowers `node` on blocked values, if it can be. */
export function lowerBlocked(node: Node, ctx: Context): boolean {
  if (node.op === 'div' && pixelMean(node, ctx)) return true
  if (elementwiseOps.has(node.op)) return elementwise(node, ctx)
  const kernel = table[node.op] as BlockedKernel<OpName> | undefined
  return kernel?.(node, ctx) ?? false
}

function convolution(node: Node, ctx: Context): boolean {
  if (!blockedNode(ctx.lowering.graph, node, ctx.block)) return false
  if (node.op === 'dynamicConv2d' && isByOutputs(node)) ctx.lowering.set(output(node), convByOutputs(node, ctx), 'blocked')
  else if (node.op === 'dynamicConv2dInputGrad' && isByOutputs(node)) ctx.lowering.set(output(node), inputGradByOutputs(node, ctx), 'blocked')
  else if (isConvNode(node)) ctx.lowering.set(output(node), emitConv(node, ctx, {}), 'blocked')
  return true
}

/** A normalisation up to its first result: the statistics, or the gradients of gamma and beta, are set. */
export function beginNorm(node: Node, ctx: Context): PendingNorm | undefined {
  if (ctx.assignment.layoutOf(output(node)) !== 'blocked') return undefined
  if (node.op === 'batchNorm') return batchNorm(node, ctx)
  if (node.op === 'batchNormGrad') return batchNormGrad(node, ctx)
  return node.op === 'batchNormInference' ? batchNormInference(node, ctx) : undefined
}

function normalisation(node: Node, ctx: Context): boolean {
  const pending = beginNorm(node, ctx)
  if (!pending) return false
  ctx.lowering.set(output(node), emitNorm(ctx, pending, {}), 'blocked')
  return true
}

// Elementwise ops do not mind the order in memory, so the plain kernel runs as it is on values that all lie in one
// layout. An operand that broadcasts is seen in the physical axes, and so are the others then.
function elementwise(node: Node, ctx: Context): boolean {
  const id = output(node)
  const layout = ctx.assignment.layoutOf(id)
  if (layout === 'plain') return false
  if (node.op === 'select' && maskedGradient(node, ctx)) return true
  const shape = ctx.shape(id)
  const isWhole = (other: ValueId): boolean => sameShape(ctx.shape(other), shape)
  const isScalar = (other: ValueId): boolean => ctx.shape(other).length === 0
  const aligned = node.inputs.every((other) => isWhole(other) || isScalar(other))
  const view = viewOf(shape, layout, ctx.block)
  const names = node.inputs.map((other): Seen => {
    const own = ctx.shape(other)
    if (isScalar(other)) return { name: ctx.lowering.get(other), shape: own }
    if (isWhole(other)) {
      const name = ctx.lowering.get(other, layout)
      return aligned ? { name, shape } : { name: ctx.model.reshape(name, view.physical), shape: view.physical }
    }
    return operandView(ctx.model, ctx.lowering.get(other), own, view)
  })
  const result = onViews(node, ctx, names)
  ctx.lowering.set(id, aligned ? result : ctx.model.reshape(result, shape), layout)
  return true
}

// The plain kernel of `node` on other names and shapes: a graph of that one node. Constants stay visible to it.
function onViews(node: Node, ctx: Context, inputs: readonly Seen[]): string {
  const { lowering, model } = ctx
  const builder = new GraphBuilder(ops)
  const bound: (readonly [ValueId, string])[] = []
  const tensors = inputs.map(({ name, shape }, i) => {
    const t = builder.input(`input${i}`, lowering.dtype(input(node, i)), shape)
    bound.push([t.id, name])
    return t
  })
  const [result] = builder.emit<OpName>(node.op, node.attrs, tensors)
  if (!result) throw new RangeError(`onnx: ${node.op} has no result`)
  const inner = new Lowering({ graph: builder.build(), model, kernels: ctx.kernels })
  for (const [id, name] of bound) inner.bind(id, name)
  for (const only of inner.graph.nodes) inner.lowerPlain(only)
  return inner.get(result.id)
}

// The gradient of relu: g times HardSigmoid(y) = max(0, min(1, alpha y)), which is 0 where y = relu(x) is 0 and 1 where y is
// at least 1 / alpha, less than any normal float32. It takes half the time of a comparison and a selection. (A gradient
// that is not finite becomes NaN where it should be masked: the net has diverged by then.)
function maskedGradient(node: NodeOf<'select'>, ctx: Context): boolean {
  const y = ctx.plan.masks.get(node)
  if (y === undefined) return false
  const { lowering, model } = ctx
  const g = input(node, 1)
  const [n = 0, c = 0, h = 0, w = 0] = ctx.shape(y)
  const mask = ctx.once(`mask:${y}`, () => model.op('HardSigmoid', [ctx.blocked(y)], { alpha: { float: 3e38 }, beta: { float: 0 } }))
  const shape = ctx.shape(g)
  if (sameShape(shape, ctx.shape(y))) {
    lowering.set(output(node), model.op('Mul', [ctx.blocked(g), mask]), 'blocked')
    return true
  }
  if (!sameShape(shape, [n, c, 1, 1])) {
    const view = viewOf(ctx.shape(y), 'blocked', ctx.block)
    const product = model.op('Mul', [model.reshape(mask, view.physical), operandView(model, lowering.get(g), shape, view).name])
    lowering.set(output(node), model.reshape(product, ctx.shape(y)), 'blocked')
    return true
  }
  // A value per sample and channel: the mask through a depthwise convolution of all samples side by side.
  const scale = model.reshape(lowering.get(g), [n * c, 1, 1, 1])
  const product = conv(model, model.reshape(mask, [1, n * c, h, w]), scale, { ...pointwise, groups: n * c })
  lowering.set(output(node), model.reshape(product, [n, c, h, w]), 'blocked')
  return true
}

// Sums of blocked images over pixels, or over batch and pixels, by the engine's global average; sums over everything in
// whatever order there is.
function reduceSum(node: NodeOf<'reduceSum'>, ctx: Context): boolean {
  const { lowering, model } = ctx
  const x = input(node, 0)
  const id = output(node)
  const { axes } = node.attrs
  const layout: Layout | undefined = (['blocked', 'kernel'] as const).find((l) => lowering.has(x, l))
  if (!layout || lowering.dtype(x) !== 'float32') return false
  const shape = ctx.shape(x)
  if (axes.length === shape.length) {
    const sum = model.sum(model.reshape(lowering.get(x, layout), [sizeOf(shape)]), [0], false)
    lowering.set(id, node.attrs.keepDims ? model.reshape(sum, ctx.shape(id)) : sum)
    return true
  }
  const over = axes.join()
  if (layout !== 'blocked' || (over !== '2,3' && over !== '0,2,3')) return false
  const [, , h = 1, w = 1] = shape
  const means = pixelMeans(x, ctx)
  const sums = h * w === 1 ? means : model.op('Mul', [means, model.float(h * w)])
  const result = over === '2,3' ? sums : model.sum(sums, [0], true)
  lowering.set(id, node.attrs.keepDims ? result : model.reshape(result, ctx.shape(id)))
  return true
}

// A sum over pixels divided by their number is the engine's global average itself: two passes over a few numbers less, which took
// 0.05 of a dynamic layer's time at 1x1 512@7 batch 8.
function pixelMean(node: NodeOf<'div'>, ctx: Context): boolean {
  const { lowering, model } = ctx
  const sum = lowering.producer(input(node, 0))
  if (sum?.op !== 'reduceSum' || sum.attrs.axes.join() !== '2,3') return false
  const x = input(sum, 0)
  if (!lowering.has(x, 'blocked') || lowering.dtype(x) !== 'float32') return false
  const [, , h = 1, w = 1] = ctx.shape(x)
  const id = output(node)
  if (lowering.scalarOf(input(node, 1)) !== h * w || !sameShape(ctx.shape(id), ctx.shape(output(sum)))) return false
  const means = pixelMeans(x, ctx)
  lowering.set(id, sum.attrs.keepDims ? means : model.reshape(means, ctx.shape(id)))
  return true
}

// [N, C, 1, 1] of a blocked x.
function pixelMeans(x: ValueId, ctx: Context): string {
  return ctx.once(`means:${x}`, () => globalAverage(ctx.model, ctx.lowering.get(x, 'blocked')))
}

// A value per channel (or less) repeated to blocked images.
function broadcastTo(node: NodeOf<'broadcastTo'>, ctx: Context): boolean {
  const id = output(node)
  const layout = ctx.assignment.layoutOf(id)
  if (layout === 'plain' || ctx.lowering.constantOf(id)) return false
  const shape = ctx.shape(id)
  const view = viewOf(shape, layout, ctx.block)
  const source = operandView(ctx.model, ctx.lowering.get(input(node, 0)), ctx.shape(input(node, 0)), view)
  ctx.lowering.set(id, ctx.model.reshape(ctx.model.op('Expand', [source.name, ctx.model.ints(view.physical)]), shape), layout)
  return true
}
