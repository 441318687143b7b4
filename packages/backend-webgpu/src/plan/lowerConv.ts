// Convolutions, ordinary and dynamic. A dynamic convolution mixes its kernels once, in one pass over the bases, and is then
// the same dispatch as an ordinary one, whose kernel pointer moves with the sample.

import { type Conv2dAttrs, GraphError, sizeOf, type StaticType } from '@dynconv/core'
import { converted } from '../kernels/elementwise.ts'
import { type Bias, type ConvShape, weightSize } from '../kernels/convShape.ts'
import { convPlainKernel, filterGradPlainKernel, inputGradPlainKernel } from '../kernels/convPlain.ts'
import { aggregateKernel, contractKernel, contractParts, type Mixture, sumRowsKernel } from '../kernels/dynamic.ts'
import { matmulKernel } from '../kernels/matmul.ts'
import { denseLayout, permuteLayout } from '../wgsl/views.ts'
import type { Context } from './context.ts'
import type { Operand } from './fuse.ts'
import type { Rules } from './rules.ts'
import type { Value } from './program.ts'

type ConvName = 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad' | 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new GraphError('webgpu: a convolution was given too few operands')
  return value
}

function convShape(
  context: Context,
  attrs: Conv2dAttrs,
  x: readonly number[],
  y: readonly number[],
  kernelSize: readonly [number, number],
  dtype: StaticType['dtype'],
  perSample: boolean,
): ConvShape {
  const [batch = 0, inChannels = 0, height = 0, width = 0] = x
  const [, outChannels = 0, outHeight = 0, outWidth = 0] = y
  return { target: context.target, dtype, batch, inChannels, outChannels, inSize: [height, width], outSize: [outHeight, outWidth], kernelSize, attrs, perSample }
}

const lastTwo = (shape: readonly number[]): readonly [number, number] => [shape.at(-2) ?? 1, shape.at(-1) ?? 1]

// y = x * w + bias, for a weight or one for each sample.
function forward(context: Context, shape: ConvShape, x: Value, w: Value, bias: { readonly kind: Bias; readonly value?: Value }, type: StaticType): Value {
  const y = context.tensor(type.dtype, type.shape)
  if (sizeOf(type.shape) === 0) return y
  context.dispatch(convPlainKernel(shape, bias.kind), x, w, y, ...(bias.value ? [bias.value] : []))
  return y
}

function inputGrad(context: Context, shape: ConvShape, dy: Value, w: Value, type: StaticType): Value {
  return context.result(type, [dy, w], () => inputGradPlainKernel(shape))
}

// dW of the samples [first, first + count), summed or each.
function filterGrad(context: Context, shape: ConvShape, x: Value, dy: Value, samples: { readonly first: number; readonly count: number }, type: StaticType): Value {
  return context.result(type, [x, dy], () => filterGradPlainKernel(shape, samples))
}

// More bases than registers: then an ordinary product.
const maxRegisterBases = 16

// The mixed kernels [B, n].
function aggregate(context: Context, mixture: Mixture, bases: Value, pi: Value): Value {
  const { target, dtype, batch, numBases, size } = mixture
  return context.result({ dtype, shape: [batch, size] }, [bases, pi], () => {
    if (numBases <= maxRegisterBases) return aggregateKernel(mixture)
    throw new GraphError(`webgpu: ${target.kind}: aggregate takes at most ${maxRegisterBases} bases`)
  })
}

function product(context: Context, a: Value, b: Value, rows: number, inner: number, columns: number): Value {
  return context.result({ dtype: a.dtype, shape: [rows, columns] }, [a, b], () =>
    matmulKernel({ target: context.target, dtype: a.dtype, a: a.layout, b: b.layout, shape: [rows, columns], inner }),
  )
}

function mix(context: Context, mixture: Mixture, bases: Value, pi: Value): Value {
  if (mixture.numBases <= maxRegisterBases) return aggregate(context, mixture, bases, pi)
  const matrix = context.view(bases, denseLayout([mixture.numBases, mixture.size]))
  return product(context, pi, matrix, mixture.batch, mixture.numBases, mixture.size)
}

// What a kernel gradient may hold of the samples' kernels at a time, unless the plan says how many.
const kernelBudgetBytes = 64 * 2 ** 20

/** The rules. */
export const convRules: Pick<Rules, ConvName> = {
  conv2d: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [x, w] = [context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    const bias = inputs[2] ? context.dense(inputs[2]) : undefined
    const shape = convShape(context, attrs, x.layout.shape, type.shape, lastTwo(w.layout.shape), type.dtype, false)
    return forward(context, shape, x, w, bias ? { kind: 'channel', value: bias } : { kind: 'none' }, type)
  },
  conv2dInputGrad: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [dy, w] = [context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    return inputGrad(context, convShape(context, attrs, type.shape, dy.layout.shape, lastTwo(w.layout.shape), type.dtype, false), dy, w, type)
  },
  conv2dFilterGrad: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [x, dy] = [context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    const shape = convShape(context, attrs, x.layout.shape, dy.layout.shape, attrs.kernelSize, type.dtype, false)
    return filterGrad(context, shape, x, dy, { first: 0, count: shape.batch }, type)
  },

  dynamicConv2d: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [x, bases, pi] = [context.dense(need(inputs[0])), context.dense(need(inputs[1])), context.dense(need(inputs[2]))]
    const shape = convShape(context, attrs, x.layout.shape, type.shape, lastTwo(bases.layout.shape), type.dtype, true)
    const mixture = mixtureOf(shape, bases)
    const w = mix(context, mixture, bases, pi)
    if (!inputs[3]) return forward(context, shape, x, w, { kind: 'none' }, type)
    const bias = product(context, pi, context.dense(inputs[3]), shape.batch, mixture.numBases, shape.outChannels)
    return forward(context, shape, x, w, { kind: 'sample', value: bias }, type)
  },
  dynamicConv2dInputGrad: (context, attrs, inputs, outputs) => {
    const type = need(outputs[0])
    const [dy, bases, pi] = [context.dense(need(inputs[0])), context.dense(need(inputs[1])), context.dense(need(inputs[2]))]
    const shape = convShape(context, attrs, type.shape, dy.layout.shape, lastTwo(bases.layout.shape), type.dtype, true)
    return inputGrad(context, shape, dy, mix(context, mixtureOf(shape, bases), bases, pi), type)
  },
  dynamicConv2dKernelGrad: (context, attrs, inputs, outputs) => {
    const [basesType, piType] = [need(outputs[0]), need(outputs[1])]
    const [x, dy, bases, pi] = [0, 1, 2, 3].map((i) => context.dense(need(inputs[i])))
    const shape = convShape(context, attrs, need(x).layout.shape, need(dy).layout.shape, attrs.kernelSize, basesType.dtype, true)
    const chunk = attrs.chunk || Math.max(1, Math.floor(kernelBudgetBytes / (weightSize(shape) * 4)))
    return kernelGrad(context, shape, { x: need(x), dy: need(dy), bases: need(bases), pi: need(pi) }, chunk, basesType, piType)
  },
}

function mixtureOf({ target, dtype, batch, ...shape }: ConvShape, bases: Value): Mixture {
  return { target, dtype, batch, numBases: bases.layout.shape[0] ?? 1, size: weightSize({ target, dtype, batch, ...shape }) }
}

// Chunk by chunk: dV of its samples, which is then folded into dBases and dpi. Never more than a chunk of dV exists.
function kernelGrad(
  context: Context,
  shape: ConvShape,
  { x, dy, bases, pi }: { readonly x: Value; readonly dy: Value; readonly bases: Value; readonly pi: Value },
  chunk: number,
  basesType: StaticType,
  piType: StaticType,
): readonly Operand[] {
  const mixture = mixtureOf(shape, bases)
  const { target, dtype, batch, numBases, size } = mixture
  if (numBases > maxRegisterBases) return manyBases(context, shape, { x, dy, bases, pi }, basesType, piType)
  const parts = contractParts(mixture)
  const dBases = context.tensor('float32', basesType.shape)
  const dPiParts = context.tensor('float32', [batch, numBases, parts])
  for (let start = 0; start < batch; start += chunk) {
    const samples = { first: start, count: Math.min(chunk, batch - start) }
    const dKernels = filterGrad(context, shape, x, dy, samples, { dtype, shape: [samples.count, size] })
    context.dispatch(contractKernel(mixture, { ...samples, add: start > 0 }), dKernels, pi, bases, dBases, dPiParts)
  }
  const dPi = context.result(piType, [dPiParts], () => sumRowsKernel(target, dtype, batch * numBases, parts))
  if (dtype === 'float32') return [dBases, dPi]
  return [context.elementwise('cast', converted(dtype), [dBases], dtype, basesType.shape), dPi]
}

function manyBases(
  context: Context,
  shape: ConvShape,
  { x, dy, bases, pi }: { readonly x: Value; readonly dy: Value; readonly bases: Value; readonly pi: Value },
  basesType: StaticType,
  piType: StaticType,
): readonly Operand[] {
  const { dtype, batch, numBases, size } = mixtureOf(shape, bases)
  const dKernels = filterGrad(context, shape, x, dy, { first: 0, count: batch }, { dtype, shape: [batch, size] })
  const transposed = (value: Value, layout: Value['layout']): Value => context.view(value, permuteLayout(layout, [1, 0]))
  const dBases = product(context, transposed(pi, pi.layout), dKernels, numBases, batch, size)
  const dPi = product(context, dKernels, transposed(bases, denseLayout([numBases, size])), batch, size, numBases)
  return [context.view(dBases, denseLayout(basesType.shape)), context.view(dPi, denseLayout(piType.shape))]
}
