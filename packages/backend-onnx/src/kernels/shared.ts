// Small helpers that the kernels of every family use.

import { type Dim, GraphError, type Node, type Padding2d, type ValueId } from '@dynconv/core'

/** The i-th input of a node. */
export function input(node: Pick<Node, 'inputs' | 'op'>, i: number): ValueId {
  const id = node.inputs[i]
  if (id === undefined) throw new GraphError(`onnx: ${node.op} has no input ${i}`)
  return id
}

/** The i-th output of a node. */
export function output(node: Pick<Node, 'outputs' | 'op'>, i: number = 0): ValueId {
  const id = node.outputs[i]
  if (id === undefined) throw new GraphError(`onnx: ${node.op} has no output ${i}`)
  return id
}

/** A dimension that must be known here. */
export function size(dim: Dim | undefined): number {
  if (typeof dim !== 'number') throw new GraphError(`onnx: a size must be known here, got ${String(dim)}`)
  return dim
}

/** The product of known sizes. */
export function product(dims: readonly Dim[]): number {
  return dims.reduce<number>((n, d) => n * size(d), 1)
}

/** [top, bottom, left, right] as ONNX wants it: all starts, then all ends. */
export function pads([top, bottom, left, right]: Padding2d): readonly number[] {
  return [top, left, bottom, right]
}

/** 0 to n - 1. */
export function range(n: number): readonly number[] {
  return Array.from({ length: n }, (_, i) => i)
}
