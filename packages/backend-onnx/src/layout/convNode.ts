// Convolutions whose result can take other terms in.

import type { Node, NodeOf } from '@dynconv/core'
import { isByOutputs } from './assign.ts'

/** Convolutions whose result can take other terms in. */
export type ConvNode = NodeOf<'conv2d'> | NodeOf<'conv2dInputGrad'> | NodeOf<'dynamicConv2d'> | NodeOf<'dynamicConv2dInputGrad'>

/** Whether `node` is such a convolution. */
export function isConvNode(node: Node): node is ConvNode {
  if (isByOutputs(node)) return false
  return node.op === 'conv2d' || node.op === 'conv2dInputGrad' || isDynamic(node)
}

/** Whether `node` has a kernel, and may have a bias, for every sample. */
export function isDynamic(node: Node): node is NodeOf<'dynamicConv2d'> | NodeOf<'dynamicConv2dInputGrad'> {
  return node.op === 'dynamicConv2d' || node.op === 'dynamicConv2dInputGrad'
}
