// Reductions and softmaxes.

import type { ValueId } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import { elementTypes } from '../proto/onnx.ts'
import { input, output } from './shared.ts'

type ReduceName = 'reduceSum' | 'reduceMax' | 'argMax' | 'softmax' | 'logSoftmax'

export const reduceKernels: Pick<KernelTable, ReduceName> = {
  reduceSum: (node, l) => {
    const { axes, keepDims } = node.attrs
    const x = input(node, 0)
    if (l.isEmpty(x)) return l.filled(output(node), 0)
    if (l.dtype(x) !== 'int32') return sumOver(l, l.get(x), axes, keepDims)
    // The engine's int32 sum saturates; in 64 bits nothing is lost, and the cast back wraps.
    const wide = l.model.op('Cast', [l.get(x)], { to: elementTypes.int64 })
    return l.model.op('Cast', [sumOver(l, wide, axes, keepDims)], { to: elementTypes.int32 })
  },

  // The engine's ReduceMax loses NaNs: where one is in the way, NaN.
  reduceMax: (node, l) => {
    const { axes, keepDims } = node.attrs
    const x = input(node, 0)
    if (axes.length === 0) return l.get(x)
    const reduce = (name: string): string => l.model.op('ReduceMax', [name], { axes, keepdims: keepDims ? 1 : 0 })
    const largest = reduce(l.get(x))
    if (l.dtype(x) === 'int32') return largest
    return l.model.op('Where', [hasNaN(l, x, reduce), l.model.float(Number.NaN), largest])
  },

  // The first NaN, or else the first largest; the engine's ArgMax passes over NaNs.
  argMax: (node, l) => {
    const x = input(node, 0)
    const attrs = { axis: node.attrs.axis, keepdims: 0, select_last_index: 0 }
    const index = (name: string): string => l.model.op('Cast', [l.model.op('ArgMax', [name], attrs)], { to: elementTypes.int32 })
    const largest = index(l.get(x))
    if (l.dtype(x) === 'int32') return largest
    const reduce = (name: string): string => l.model.op('ReduceMax', [name], { axes: [node.attrs.axis], keepdims: 0 })
    return l.model.op('Where', [hasNaN(l, x, reduce), index(nanMask(l, x)), largest])
  },

  softmax: (node, l) => l.model.op('Softmax', [l.get(input(node, 0))], { axis: node.attrs.axis }),
  logSoftmax: (node, l) => l.model.op('LogSoftmax', [l.get(input(node, 0))], { axis: node.attrs.axis }),
}

/**
 * Sums over axes. Where the axes lie apart ([N, C, H, W] over 0, 2, 3) the engine has no fast path for all at once: one
 * run of neighbours after another, the last first. (Fewer terms a sum also means fewer roundings.)
 */
export function sumOver(l: Lowering, x: string, axes: readonly number[], keepDims: boolean): string {
  if (axes.length === 0) return x
  const runs: number[][] = []
  for (const axis of axes) {
    const run = runs.at(-1)
    if (run?.at(-1) === axis - 1) run.push(axis)
    else runs.push([axis])
  }
  return runs.toReversed().reduce((name, run) => l.model.sum(name, run, keepDims), x)
}

function nanMask(l: Lowering, x: ValueId): string {
  return l.model.op('Cast', [l.model.op('IsNaN', [l.get(x)])], { to: elementTypes.float32 })
}

function hasNaN(l: Lowering, x: ValueId, reduce: (name: string) => string): string {
  return l.model.op('Cast', [reduce(nanMask(l, x))], { to: elementTypes.bool })
}
