// A TensorFlow graph under construction: nodes with typed outputs, in an order in which they can run.

import type { HostTensor } from '@dynconv/core'
import { float16Value } from '@dynconv/core'
import { type AttrValue, type ElementType, elementTypes, type NodeDef, type TensorShape } from './proto.ts'

/** A node. */
export interface TfNode {
  readonly name: string
  readonly op: string
  readonly inputs: readonly TfValue[]
  readonly attrs: Readonly<Record<string, AttrValue>>
  /** What must have run before, besides the inputs. */
  readonly after: TfNode[]
}

/** An output of a node. */
export interface TfValue {
  readonly node: TfNode
  readonly index: number
  readonly dtype: ElementType
  readonly shape: readonly number[]
}

/** dtype and shape of an output. */
export interface TfType {
  readonly dtype: ElementType
  readonly shape: readonly number[]
}

/** Attribute values. */
export const attr: {
  readonly type: (dtype: ElementType) => AttrValue
  readonly int: (value: number) => AttrValue
  readonly ints: (values: readonly number[]) => AttrValue
  readonly float: (value: number) => AttrValue
  readonly bool: (value: boolean) => AttrValue
  readonly string: (value: string) => AttrValue
  readonly shape: (shape: readonly number[]) => AttrValue
} = {
  type: (dtype) => ({ type: elementTypes[dtype] }),
  int: (i) => ({ i }),
  ints: (i) => ({ list: { i } }),
  float: (f) => ({ f }),
  bool: (b) => ({ b }),
  string: (value) => ({ s: new TextEncoder().encode(value) }),
  shape: (shape) => ({ shape: shapeOf(shape) }),
}

// Constants up to this many elements are looked for among those there are.
const sharedElements = 64

/** Builds a graph. */
export class TfGraph {
  readonly #nodes: TfNode[] = []
  readonly #constants: Map<string, TfValue> = new Map()
  #constantBytes: number = 0
  #constantCount: number = 0

  /** The nodes so far. */
  get nodes(): readonly TfNode[] {
    return this.#nodes
  }

  /** What the constants hold. */
  get constants(): { readonly count: number; readonly bytes: number } {
    return { count: this.#constantCount, bytes: this.#constantBytes }
  }

  /** Appends a node with several outputs, or none. */
  op(op: string, inputs: readonly TfValue[], attrs: Readonly<Record<string, AttrValue>>, outputs: readonly TfType[], after: readonly TfNode[] = []): readonly TfValue[] {
    const node: TfNode = { name: `n${this.#nodes.length}`, op, inputs, attrs, after: [...after] }
    this.#nodes.push(node)
    return outputs.map(({ dtype, shape }, index) => ({ node, index, dtype, shape }))
  }

  /** Appends a node with one output. */
  one(op: string, inputs: readonly TfValue[], attrs: Readonly<Record<string, AttrValue>>, dtype: ElementType, shape: readonly number[], after: readonly TfNode[] = []): TfValue {
    const node: TfNode = { name: `n${this.#nodes.length}`, op, inputs, attrs, after: [...after] }
    this.#nodes.push(node)
    return { node, index: 0, dtype, shape }
  }

  /** Appends a node without outputs. */
  effect(op: string, inputs: readonly TfValue[], attrs: Readonly<Record<string, AttrValue>>, after: readonly TfNode[] = []): TfNode {
    const node: TfNode = { name: `n${this.#nodes.length}`, op, inputs, attrs, after: [...after] }
    this.#nodes.push(node)
    return node
  }

  /** A constant; float16 as float32. */
  constant({ dtype, shape, data }: HostTensor): TfValue {
    const values = dtype === 'float16' ? Float32Array.from(data, float16Value) : data
    const type = dtype === 'float16' ? 'float32' : dtype
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    const key = values.length <= sharedElements ? `${type}[${shape.join()}]${bytes.join()}` : undefined
    const known = key === undefined ? undefined : this.#constants.get(key)
    if (known) return known
    const tensor = { dtype: elementTypes[type], tensorShape: shapeOf(shape), tensorContent: bytes.slice() }
    const value = this.one('Const', [], { dtype: attr.type(type), value: { tensor } }, type, shape)
    if (key !== undefined) this.#constants.set(key, value)
    this.#constantCount++
    this.#constantBytes += bytes.byteLength
    return value
  }

  /** A vector of int32, as shapes, axes and paddings are given. */
  ints(values: readonly number[], shape: readonly number[] = [values.length]): TfValue {
    return this.constant({ dtype: 'int32', shape, data: Int32Array.from(values) })
  }

  /** A node that the caller feeds. */
  placeholder(dtype: ElementType, shape: readonly number[]): TfValue {
    return this.one('Placeholder', [], { dtype: attr.type(dtype), shape: attr.shape(shape) }, dtype, shape)
  }

  /** The messages of all nodes. */
  toProto(): readonly NodeDef[] {
    return this.#nodes.map(({ name, op, inputs, attrs, after }) => ({
      name,
      op,
      input: [...inputs.map((v) => (v.index === 0 ? v.node.name : `${v.node.name}:${v.index}`)), ...new Set(after.map((n) => `^${n.name}`))],
      attr: attrs,
    }))
  }
}

function shapeOf(shape: readonly number[]): TensorShape {
  return { dim: shape.map((size) => ({ size })) }
}
