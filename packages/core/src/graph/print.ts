// A graph as text for people: one line a node. Not a format to read back.

import type { HostTensor } from '../tensor/hostTensor.ts'
import { toFloat64 } from '../tensor/hostTensor.ts'
import { formatShape } from '../tensor/shape.ts'
import type { ValueType } from '../ops/define.ts'
import { type Graph, type Node, typeOf, type ValueId } from './graph.ts'

/** `float32[8, 3, N]` */
export function formatType({ dtype, shape }: ValueType): string {
  return `${dtype}${formatShape(shape)}`
}

/** A node as one line: `%5 = conv2d(%3, %4) {stride: [1, 1], groups: 1} : float32[8, 64, 32, 32]` */
export function printNode(graph: Graph, node: Node): string {
  const attrs = Object.entries(node.attrs).map(([name, value]) => `${name}: ${formatAttr(value)}`)
  const text = attrs.length ? ` {${attrs.join(', ')}}` : ''
  const types = node.outputs.map((id) => formatType(typeOf(graph, id)))
  return `${node.outputs.map(name).join(', ')} = ${node.op}(${node.inputs.map(name).join(', ')})${text} : ${types.join(', ')}`
}

/**
 * The whole graph: its inputs, its states, a line for every node, what the states become, and the outputs.
 *
 * @example console.log(printGraph(trace((x) => x.relu(), { inputs: [{ shape: [3] }] }).graph))
 */
export function printGraph(graph: Graph): string {
  return [
    ...graph.inputs.map((port) => `input ${port.name} = ${name(port.value)} : ${formatType(typeOf(graph, port.value))}`),
    ...graph.states.map((s) => `${s.kind} ${s.name} = ${name(s.value)} : ${formatType(s)}`),
    ...graph.nodes.map((node) => printNode(graph, node)),
    ...graph.states.flatMap((s) => (s.update === undefined ? [] : [`update ${s.name} = ${name(s.update)}`])),
    ...graph.outputs.map((port) => `output ${port.name} = ${name(port.value)} : ${formatType(typeOf(graph, port.value))}`),
  ].join('\n')
}

function name(id: ValueId): string {
  return `%${id}`
}

function formatAttr(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(formatAttr).join(', ')}]`
  if (isHostTensor(value)) return formatConstant(value)
  return Object.is(value, -0) ? '-0' : String(value)
}

function isHostTensor(value: unknown): value is HostTensor {
  return typeof value === 'object' && value !== null && 'dtype' in value && 'shape' in value && 'data' in value
}

const shown = 6

// The number itself; or `all 0`; or all of a few numbers; or the first few and how many there are.
function formatConstant(value: HostTensor): string {
  const numbers = toFloat64(value.data.length > 4096 ? head(value) : value)
  const [first = 0] = numbers
  const count = value.data.length
  if (value.shape.length === 0) return format(first)
  if (count > 1 && count === numbers.length && numbers.every((x) => Object.is(x, first))) return `all ${format(first)}`
  const list = Array.from(numbers.subarray(0, shown), format).join(', ')
  return count <= shown ? `[${list}]` : `[${list}, ... ${count} elements]`
}

function head({ dtype, data }: HostTensor): HostTensor {
  return { dtype, shape: [shown], data: data.slice(0, shown) }
}

// Four digits are enough to recognise a number by.
function format(x: number): string {
  return Object.is(x, -0) ? '-0' : String(Number.isInteger(x) ? x : Number(x.toPrecision(4)))
}
