// From a graph's nodes to TensorFlow's: which tensor holds which value, in which layout, and who writes each node. Values stay
// in the layout in which they were made (NHWC after a convolution) for as long as the ops that follow do not mind; they are
// brought to another one, once, where an op does. Values that only repeat others (broadcastTo) are made where they are
// needed.

import { type Graph, GraphError, isFloat, type HostTensor, type Node, type NodeOf, type OpName, producers, staticShape, typeOf, type ValueId } from '@dynconv/core'
import { kernelTable } from '../kernels/table.ts'
import { computed } from '../kernels/elementwise.ts'
import { nth, product, sameSizes } from '../kernels/shared.ts'
import type { Forms } from './forms.ts'
import type { TfValue } from './graph.ts'
import { between, isPlain, keyOf, type Layout, plain, storedShape } from './layout.ts'
import type { ProgramPrimitives } from './primitives.ts'

/** Writes a node and returns true, or leaves it to others. */
export type ProgramKernel<K extends OpName> = (node: NodeOf<K>, l: Lowering) => boolean

/** Kernels of some ops. */
export type ProgramKernels = { readonly [K in OpName]?: ProgramKernel<K> }

/** The machine that a program is written for. */
export interface Target {
  /** How dynamic convolutions are computed on it. */
  readonly forms: Forms
}

interface Form {
  readonly value: TfValue
  readonly layout: Layout
}

// Ops whose float16 results are float16 values already: they move, choose or negate.
const exactOps: ReadonlySet<OpName> = new Set<OpName>([
  'reshape', 'transpose', 'broadcastTo', 'slice', 'concat', 'gather', 'oneHot', 'select', 'min', 'max', 'neg', 'abs', 'relu', 'reduceMax', 'maxPool2d', 'stopGradient', 'customGradient',
])

/** The lowering of one graph. */
export class Lowering {
  readonly graph: Graph
  readonly p: ProgramPrimitives
  readonly target: Target
  /** Choices, for people, a line each. */
  readonly notes: string[] = []
  /** In which layouts each state was asked for, or made anew. */
  readonly wishes: Map<string, Layout> = new Map()
  /** For kernels that find again what others made. */
  readonly memo: Map<string, readonly TfValue[]> = new Map()
  readonly #kernels: ProgramKernels
  readonly #table: ReturnType<typeof kernelTable<TfValue>>
  readonly #forms: Map<ValueId, Map<string, Form>> = new Map()
  readonly #repeats: Map<ValueId, ValueId> = new Map()
  readonly #states: ReadonlyMap<ValueId, string>
  readonly #producers: ReadonlyMap<ValueId, number>

  constructor(graph: Graph, p: ProgramPrimitives, kernels: ProgramKernels, target: Target) {
    this.graph = graph
    this.p = p
    this.target = target
    this.#kernels = kernels
    this.#table = kernelTable(p)
    this.#states = new Map(graph.states.map((s) => [s.value, s.name]))
    this.#producers = producers(graph)
  }

  /** Writes every node. Inputs and states must be `set` before. */
  run(): void {
    for (const node of this.graph.nodes) {
      // Boundary: the row is the node's own.
      const kernel = this.#kernels[node.op] as ProgramKernel<OpName> | undefined
      const empty = node.outputs.every((id) => product(this.shape(id)) === 0)
      if (empty || !kernel?.(node, this)) this.#plain(node)
    }
  }

  #plain(node: Node): void {
    const kernel = this.#table[node.op] as ((attrs: unknown, inputs: readonly TfValue[], outputs: readonly HostType[]) => TfValue | readonly TfValue[]) | undefined
    if (!kernel) throw new GraphError(`tfjs: ${node.op} has neither a kernel nor a decomposition`)
    const outputs = node.outputs.map((id) => ({ dtype: typeOf(this.graph, id).dtype, shape: this.shape(id) }))
    const result = kernel(node.attrs, node.inputs.map((id) => this.get(id)), outputs)
    const list = Array.isArray(result) ? (result as readonly TfValue[]) : [result as TfValue]
    node.outputs.forEach((id, i) => {
      this.put(node, id, nth(list, i), plain(this.shape(id).length))
    })
  }

  /** The known shape of a value. */
  shape(id: ValueId): readonly number[] {
    return staticShape('tfjs', typeOf(this.graph, id).shape)
  }

  /** The node that makes a value. */
  producer(id: ValueId): Node | undefined {
    return this.graph.nodes[this.#producers.get(id) ?? -1]
  }

  /** The tensor of a value that is a constant. */
  constantOf(id: ValueId): HostTensor | undefined {
    const node = this.producer(id)
    if (node?.op === 'broadcastTo') return this.constantOf(nth(node.inputs, 0))
    return node?.op === 'constant' ? node.attrs.value : undefined
  }

  /** Gives the result of a node: float16 is kept in float32, rounded when it is made. */
  put(node: { readonly op: OpName }, id: ValueId, value: TfValue, layout: Layout): void {
    const rounds = typeOf(this.graph, id).dtype === 'float16' && !exactOps.has(node.op)
    this.set(id, rounds ? this.p.cast(this.p.cast(value, 'float16'), 'float32') : value, layout)
  }

  /** Says which tensor holds a value. */
  set(id: ValueId, value: TfValue, layout: Layout): void {
    const expected = storedShape(this.shape(id), layout)
    if (!sameSizes(expected, value.shape)) throw new GraphError(`tfjs: the tensor of %${id} is [${value.shape.join(', ')}], expected [${expected.join(', ')}]`)
    const forms = this.#forms.get(id) ?? new Map<string, Form>()
    forms.set(keyOf(layout), { value, layout })
    this.#forms.set(id, forms)
  }

  /** Says that a value repeats the elements of another. */
  repeat(id: ValueId, source: ValueId): void {
    this.#repeats.set(id, this.#repeats.get(source) ?? source)
  }

  /** The value that another repeats, or itself. */
  source(id: ValueId): ValueId {
    return this.#repeats.get(id) ?? id
  }

  /** In which layout a value was made. */
  layoutOf(id: ValueId): Layout {
    const [first] = this.#forms.get(id)?.values() ?? []
    const source = this.#repeats.get(id)
    if (!first && source !== undefined) return this.shape(source).length === this.shape(id).length ? this.layoutOf(source) : plain(this.shape(id).length)
    return first?.layout ?? plain(this.shape(id).length)
  }

  /** The tensor of a value in `layout` (plain unless given), made from another if need be. */
  get(id: ValueId, layout: Layout = plain(this.shape(id).length)): TfValue {
    const key = keyOf(layout)
    const forms = this.#forms.get(id)
    const known = forms?.get(key)
    if (known) return known.value
    const state = this.#states.get(id)
    if (state !== undefined && !isPlain(layout)) this.wishes.set(state, layout)
    const [first] = forms?.values() ?? []
    const value = first ? this.p.transpose(first.value, between(first.layout, layout)) : this.#repeated(id, layout)
    this.set(id, value, layout)
    return value
  }

  #repeated(id: ValueId, layout: Layout): TfValue {
    const source = this.#repeats.get(id)
    if (source === undefined) throw new GraphError(`tfjs: value %${id} is read before it is made`)
    return this.p.broadcast(this.operand(source, layout), storedShape(this.shape(id), layout))
  }

  /** The tensor of a value that stretches to a shape of as many axes as `layout` has: with axes of 1 in front, in that layout. */
  operand(id: ValueId, layout: Layout): TfValue {
    const shape = this.shape(id)
    if (shape.length === layout.length) return this.get(id, layout)
    if (shape.length === 0) return this.get(id)
    const full = [...layout.slice(shape.length).map(() => 1), ...shape]
    const reshaped = this.p.reshape(this.get(id), full)
    return isPlain(layout) ? reshaped : this.p.transpose(reshaped, layout)
  }

  /** The element type in which a value is computed. */
  dtype(id: ValueId): 'float32' | 'int32' | 'bool' {
    return computed(typeOf(this.graph, id).dtype)
  }

  /** Whether a value has gradients. */
  isFloat(id: ValueId): boolean {
    return isFloat(typeOf(this.graph, id).dtype)
  }

  /** Notes a choice, once. */
  note(line: string): void {
    if (!this.notes.includes(line)) this.notes.push(line)
  }
}

interface HostType {
  readonly dtype: HostTensor['dtype']
  readonly shape: readonly number[]
}
