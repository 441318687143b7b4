// Common subexpression elimination: of nodes with the same op, the same attributes and the same inputs one is enough.
// Constants are compared by content, bit by bit (so 0 and -0 differ). Sums and products are compared in either order:
// IEEE 754 addition and multiplication commute.

import type { Graph, Node } from '../graph/graph.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { copyNode, rewrite } from './rewrite.ts'

/** The graph in which no two nodes compute the same thing. */
export function cse(graph: Graph): Graph {
  const known = new Map<string, readonly Tensor[]>()
  const contents = new ContentIds()
  return rewrite(graph, (node, inputs, { builder }) => {
    const key = nodeKey(node, inputs, contents)
    const before = known.get(key)
    if (before) return before
    const outputs = copyNode(builder, node, inputs)
    known.set(key, outputs)
    return outputs
  })
}

function nodeKey(node: Node, inputs: readonly Tensor[], contents: ContentIds): string {
  if (node.op === 'constant') return `constant ${contents.idOf(node.attrs.value)}`
  const ids = inputs.map((t) => t.id)
  if (node.op === 'add' || node.op === 'mul') ids.sort((a, b) => a - b)
  return `${node.op} ${ids.join(',')} ${attrsKey(node.attrs)}`
}

/** Attributes as text: equal texts for equal attributes, whatever the order of their keys. NaN, infinities and -0 are told apart. */
export function attrsKey(value: unknown): string {
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value)
  if (Array.isArray(value)) return `[${value.map(attrsKey).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${entries.map(([k, v]) => `${k}:${attrsKey(v)}`).join(',')}}`
  }
  return JSON.stringify(value) ?? 'undefined'
}

// Numbers for host tensors, equal for equal type and bytes.
class ContentIds {
  readonly #buckets: Map<string, { readonly value: HostTensor; readonly id: number }[]> = new Map()
  #count = 0

  idOf(value: HostTensor): number {
    const bytes = bytesOf(value)
    const key = `${value.dtype}[${value.shape.join(',')}]${hash(bytes)}`
    const bucket = this.#buckets.get(key) ?? []
    const found = bucket.find((entry) => equalBytes(bytesOf(entry.value), bytes))
    if (found) return found.id
    const id = this.#count++
    bucket.push({ value, id })
    this.#buckets.set(key, bucket)
    return id
  }
}

function bytesOf({ data }: HostTensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

// FNV-1a, 32 bits.
function hash(bytes: Uint8Array): number {
  let h = 0x811c9dc5
  for (const b of bytes) h = Math.imul(h ^ b, 0x01000193)
  return h >>> 0
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}
