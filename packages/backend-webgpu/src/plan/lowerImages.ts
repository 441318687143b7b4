// Pools, norms and resampling.

import { GraphError, type OpAttrs, sizeOf, type StaticShape, type StaticType } from '@dynconv/core'
import { channelGradientsKernel, channelStatisticsKernel, type NormShape, planeGradientsKernel, planeStatisticsKernel } from '../kernels/norm.ts'
import { avgPoolGradKernel, avgPoolKernel, maxPoolGradKernel, maxPoolKernel, type PoolShape } from '../kernels/pool.ts'
import { axisTable, resizeGradKernel, resizeKernel, type ResizeShape, reverseTable } from '../kernels/resize.ts'
import type { Context } from './context.ts'
import { arithmetic, deviation, perChannel } from './arithmetic.ts'
import type { Lazy, Operand } from './fuse.ts'
import type { Rules } from './rules.ts'
import type { Value } from './program.ts'

type ImageName =
  | 'maxPool2d'
  | 'maxPool2dGrad'
  | 'avgPool2d'
  | 'avgPool2dGrad'
  | 'batchNorm'
  | 'batchNormGrad'
  | 'batchNormInference'
  | 'groupNorm'
  | 'resize'
  | 'resizeGrad'

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new GraphError('webgpu: an op on images was given too few operands')
  return value
}

// x and y as [planes, height, width].
function planes(context: Context, dtype: StaticType['dtype'], x: StaticShape, y: StaticShape): Omit<PoolShape, 'attrs'> {
  const [batch = 0, channels = 0, height = 0, width = 0] = x
  const [, , outHeight = 0, outWidth = 0] = y
  return { target: context.target, dtype, planes: batch * channels, inSize: [height, width], outSize: [outHeight, outWidth] }
}

// x [N, C, ...spatial] as [batch, channels, pixels].
function normShape(context: Context, { dtype, layout: { shape } }: Value): NormShape {
  const [batch = 0, channels = 0, ...spatial] = shape
  return { target: context.target, dtype, batch, channels, pixels: sizeOf(spatial) }
}

interface NormInputs {
  readonly x: Operand
  readonly gamma: Operand
  readonly beta: Operand
  readonly mean: Operand
  readonly r: Operand
}

// (x - mean) r gamma + beta
function normalised(context: Context, type: StaticType, { x, gamma, beta, mean, r }: NormInputs): Lazy {
  const { add, sub, mul } = arithmetic(context, type)
  const stretch = (vector: Operand): Operand => perChannel(context, vector, type.shape)
  return add(mul(mul(sub(x, stretch(mean)), stretch(r)), stretch(gamma)), stretch(beta))
}

/** The rules. */
export const imageRules: Pick<Rules, ImageName> = {
  maxPool2d: (context, attrs, inputs, outputs) => {
    const [type, x] = [need(outputs[0]), context.dense(need(inputs[0]))]
    return context.result(type, [x], () => maxPoolKernel({ ...planes(context, type.dtype, x.layout.shape, type.shape), attrs }))
  },
  maxPool2dGrad: (context, attrs, inputs, outputs) => {
    const [type, x, dy] = [need(outputs[0]), context.dense(need(inputs[0])), context.dense(need(inputs[1]))]
    return context.result(type, [x, dy], () => maxPoolGradKernel({ ...planes(context, type.dtype, type.shape, dy.layout.shape), attrs }))
  },
  avgPool2d: (context, attrs, inputs, outputs) => {
    const [type, x] = [need(outputs[0]), context.dense(need(inputs[0]))]
    return context.result(type, [x], () => avgPoolKernel({ ...planes(context, type.dtype, x.layout.shape, type.shape), attrs }, attrs.countIncludePad))
  },
  avgPool2dGrad: (context, attrs, inputs, outputs) => {
    const [type, dy] = [need(outputs[0]), context.dense(need(inputs[0]))]
    return context.result(type, [dy], () => avgPoolGradKernel({ ...planes(context, type.dtype, type.shape, dy.layout.shape), attrs }, attrs.countIncludePad))
  },

  batchNorm: (context, { epsilon }, inputs, outputs) => {
    const [type, vector] = [need(outputs[0]), need(outputs[1])]
    const x = context.dense(need(inputs[0]))
    const shape = normShape(context, x)
    const perVector = (): Value => context.tensor(vector.dtype, vector.shape)
    const [mean, variance, r] = [perVector(), perVector(), perVector()]
    if (shape.channels > 0) {
      const part = context.tensor('float32', [shape.batch, shape.channels, 2])
      if (shape.batch > 0) context.dispatch(planeStatisticsKernel(shape), x, part)
      context.dispatch(channelStatisticsKernel(shape, epsilon), part, mean, variance, r)
    }
    const y = normalised(context, type, { x, gamma: need(inputs[1]), beta: need(inputs[2]), mean, r })
    return [y, mean, variance]
  },
  batchNormGrad: (context, { epsilon }, inputs, outputs) => {
    const [type, vector] = [need(outputs[0]), need(outputs[1])]
    const at = (i: number): Value => context.dense(need(inputs[i]))
    const [x, gamma, mean, variance, dy] = [at(0), at(1), at(2), at(3), at(4)]
    const shape = normShape(context, x)
    const perVector = (): Value => context.tensor(vector.dtype, vector.shape)
    const [dgamma, dbeta, factor, offset, slope] = [perVector(), perVector(), perVector(), perVector(), perVector()]
    if (shape.channels > 0) {
      const part = context.tensor('float32', [shape.batch, shape.channels, 2])
      if (shape.batch > 0) context.dispatch(planeGradientsKernel(shape), x, dy, mean, part)
      context.dispatch(channelGradientsKernel(shape, epsilon), part, variance, gamma, dgamma, dbeta, factor, offset, slope)
    }
    const { sub, mul } = arithmetic(context, type)
    const stretch = (v: Operand): Operand => perChannel(context, v, type.shape)
    const dx = mul(sub(sub(dy, stretch(offset)), mul(sub(x, stretch(mean)), stretch(slope))), stretch(factor))
    return [dx, dgamma, dbeta]
  },
  batchNormInference: (context, { epsilon }, inputs, outputs) => {
    const [x, gamma, beta, mean, variance] = [0, 1, 2, 3, 4].map((i) => need(inputs[i]))
    return normalised(context, need(outputs[0]), { x: need(x), gamma: need(gamma), beta: need(beta), mean: need(mean), r: deviation(context, need(variance), epsilon, need(outputs[0])) })
  },
  groupNorm: 'decompose',

  resize: (context, { mode }, inputs, outputs) => {
    const [type, x] = [need(outputs[0]), context.dense(need(inputs[0]))]
    const shape: ResizeShape = planes(context, type.dtype, x.layout.shape, type.shape)
    const y = context.tensor(type.dtype, type.shape)
    if (sizeOf(type.shape) === 0) return y
    const [rows, columns] = tablesOf(mode, shape)
    const pixels = context.builder.constant('int32', [...rows.lo, ...rows.hi, ...columns.lo, ...columns.hi])
    const fractions = context.builder.constant('float32', [...rows.fraction, ...columns.fraction])
    context.dispatch(resizeKernel(shape, mode), x, pixels, fractions, y)
    return y
  },
  resizeGrad: (context, { mode }, inputs, outputs) => {
    const [type, dy] = [need(outputs[0]), context.dense(need(inputs[0]))]
    const shape: ResizeShape = planes(context, type.dtype, type.shape, dy.layout.shape)
    const dx = context.tensor(type.dtype, type.shape)
    if (sizeOf(type.shape) === 0) return dx
    const [rows, columns] = tablesOf(mode, shape).map((table, i) => reverseTable(table, shape.inSize[i] ?? 1))
    const join = (key: 'starts' | 'readers' | 'shares'): readonly number[] => [...need(rows)[key], ...need(columns)[key]]
    const tables = [context.builder.constant('int32', join('starts')), context.builder.constant('int32', join('readers')), context.builder.constant('float32', join('shares'))]
    context.dispatch(resizeGradKernel(shape, need(rows).readers.length), dy, ...tables, dx)
    return dx
  },
}

function tablesOf(mode: OpAttrs['resize']['mode'], { inSize, outSize }: ResizeShape): readonly [ReturnType<typeof axisTable>, ReturnType<typeof axisTable>] {
  return [axisTable(mode, inSize[0], outSize[0]), axisTable(mode, inSize[1], outSize[1])]
}
