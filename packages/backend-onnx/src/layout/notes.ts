// What the policy chose, for people: how much runs in blocks, and why the rest does not.

import { formatShape, type Graph, type Node, typeOf } from '@dynconv/core'
import { type Assignment, blockedNode, describeConvolution, isByOutputs, isOnlyRead, neededNodes } from './assign.ts'
import { channelsTogether, samplesTogether } from './convPerSample.ts'
import type { FusionPlan } from './fuse.ts'
import { inputGradForm, kindOf, turnedCase } from './support.ts'
import { type WinogradForm, winogradForm } from './winogradConv.ts'

/** The choices for `graph`, a line each. */
export function notesOf(graph: Graph, assignment: Assignment, plan: FusionPlan, block: number): readonly string[] {
  const convolutions = neededNodes(graph).filter((node) => describeConvolution(graph, node) !== undefined)
  const plain = convolutions.filter((node) => !blockedNode(graph, node, block))
  const states = graph.states.filter((s) => assignment.stateLayout(s.name) === 'kernel')
  const summary =
    `layout NCHWc, block ${block}: ${convolutions.length - plain.length} of ${convolutions.length} convolutions and gradients in blocks, ` +
    `${states.length} of ${graph.states.length} states stored as kernels, ${plan.sums.size} sums and activations fused`
  const dynamic = convolutions.filter((node) => 'form' in node.attrs && !plain.includes(node))
  const winograd = convolutions.filter((node) => !dynamic.includes(node)).flatMap((node) => winogradOf(graph, node, block) ?? [])
  return [
    summary,
    ...dynamic.map((node) => `${node.op} ${shapesOf(graph, node)}: form ${isByOutputs(node) ? 'outputs' : 'kernels'}, in blocks${by(winogradOf(graph, node, block))}${inPieces(graph, node, block)}`),
    ...[...new Set(winograd)].map((form) => `${winograd.filter((f) => f === form).length} ordinary convolutions${by(form)}`),
    ...plain.map((node) => `${node.op} ${shapesOf(graph, node)} stays plain: ${reason(graph, node, block)}`),
  ]
}

// How a convolution by kernels that the program only reads, or by any, is taken by Winograd's filtering.
function winogradOf(graph: Graph, node: Node, block: number): WinogradForm | undefined {
  const found = blockedNode(graph, node, block)
  if ((node.op !== 'conv2d' && node.op !== 'dynamicConv2d') || found?.kind !== 'blocked') return undefined
  const perSample = node.op === 'dynamicConv2d' && !isByOutputs(node)
  return winogradForm(found.case, { perSample, onlyRead: isOnlyRead(graph, node.inputs[1]) })
}

function by(form: WinogradForm | undefined): string {
  return form === undefined ? '' : `, by Winograd over ${form}`
}

// How many channels' and samples' kernels are mixed at a time, where not all are.
function inPieces(graph: Graph, node: Node, block: number): string {
  const found = blockedNode(graph, node, block)
  if (!found || isByOutputs(node) || winogradOf(graph, node, block) !== undefined) return ''
  const isGradient = node.op === 'dynamicConv2dInputGrad'
  if (node.op !== 'dynamicConv2d' && !(isGradient && inputGradForm(found.case, found.kind) === 'turned')) return ''
  const c = isGradient ? turnedCase(found.case) : found.case
  const bases = node.inputs[1]
  const [count = 0] = bases === undefined ? [] : typeOf(graph, bases).shape
  const together = typeof count === 'number' ? channelsTogether(c, { count, onlyRead: isOnlyRead(graph, bases) }, block) : c.outChannels
  return together < c.outChannels ? `, mixed ${together} channels of ${samplesTogether(c, together)} samples at a time` : ''
}

function shapesOf(graph: Graph, node: Node): string {
  return node.inputs.map((id) => formatShape(typeOf(graph, id).shape)).join(' x ')
}

function reason(graph: Graph, node: Node, block: number): string {
  const found = describeConvolution(graph, node)
  if (!found) return 'a size is not known'
  if (node.inputs.some((id) => typeOf(graph, id).dtype !== 'float32')) return 'not float32'
  const { inChannels, outChannels, groups } = found.case
  if (kindOf(found.case, block, found.dynamic) === undefined) {
    return `channels ${inChannels} -> ${outChannels}${groups > 1 ? ` in ${groups} groups` : ''} do not fill blocks of ${block}`
  }
  return 'no blocked gradient for this stride, padding and size'
}
