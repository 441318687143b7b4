// Pools of blocked images (the formulas: core's ops/pool.ts).

import type { NodeOf } from '@dynconv/core'
import { isFinite, maxPoolOfAnything } from '../kernels/pool.ts'
import { input, output, pads } from '../kernels/shared.ts'
import type { Context } from './context.ts'
import { nchwcDomain, reorderInput, reorderOutput } from './nchwc.ts'

/** The largest of each window, blocked. Like the plain pool, the engine's passes over NaNs: those go the plain way. */
export function maxPool(node: NodeOf<'maxPool2d'>, ctx: Context): string {
  const { model } = ctx
  const x = ctx.blocked(input(node, 0))
  const [, channels = 0] = ctx.shape(input(node, 0))
  const { kernelSize, stride, padding } = node.attrs
  return model.branch(
    isFinite(model, x),
    { dtype: 'float32', shape: ctx.shape(output(node)) },
    () => model.op('MaxPool', [x], { kernel_shape: kernelSize, strides: stride, pads: pads(padding) }, { domain: nchwcDomain }),
    () => reorderInput(model, maxPoolOfAnything(model, reorderOutput(model, x, channels), node.attrs)),
  )
}

/** The mean of each window, blocked. */
export function avgPool(node: NodeOf<'avgPool2d'>, ctx: Context): string {
  const { kernelSize, stride, padding, countIncludePad } = node.attrs
  const attrs = { kernel_shape: kernelSize, strides: stride, pads: pads(padding), count_include_pad: countIncludePad ? 1 : 0 }
  return ctx.model.op('AveragePool', [ctx.blocked(input(node, 0))], attrs, { domain: nchwcDomain })
}
