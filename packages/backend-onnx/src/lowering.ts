// From a graph's nodes to ONNX nodes: which ONNX value holds which value of the graph, in which memory layout, and who
// lowers each node: a layout policy first, then the table of plain (NCHW) kernels, or else the op's own decomposition.
//
// float16 is a storage type here: every float16 value is computed in float32 and rounded to float16 when it is made, so
// kernels see float32, int32 and bool only.

import {
  type DType,
  fromNumbers,
  type Graph,
  GraphBuilder,
  GraphError,
  type HostTensor,
  hostTensor,
  type Node,
  type NodeOf,
  type OpDef,
  type OpName,
  ops,
  producers,
  type Shape,
  sizeOf,
  type StaticShape,
  staticShape,
  toFloat64,
  typeOf,
  type ValueId,
  useCounts,
} from '@dynconv/core'
import { neededNodes } from './liveness.ts'
import type { ModelBuilder } from './model.ts'
import { elementTypes } from './proto/onnx.ts'

/**
 * How a value lies in memory. The ONNX tensor has the logical shape in every layout.
 * - plain: row-major.
 * - blocked: images [N, C, H, W] as [N, C/b, H, W, b].
 * - kernel: conv weights [.., O, I/g, kh, kw] as [.., O/b, I/b, kh, kw, b of I, b of O] (depthwise: [.., C/b, kh, kw, b]).
 */
export type Layout = 'plain' | 'blocked' | 'kernel'

/** Chooses layouts and lowers the nodes that use them. */
export interface LayoutPolicy {
  /** How a state is stored between runs. */
  stateLayout(name: string): Layout
  /** Lowers the node and returns true, or leaves it to the plain kernels and returns false. */
  lower(node: Node, lowering: Lowering): boolean
  /** `name` (the value `id` in layout `from`) in layout `to`. */
  convert(lowering: Lowering, id: ValueId, name: string, from: Layout, to: Layout): string
}

/** Lowers one op: the names of its results, in order (one name where there is one). */
export type Kernel<K extends OpName> = (node: NodeOf<K>, lowering: Lowering) => string | readonly string[]

/** A kernel for every op; 'decompose' where the op's own decomposition is as fast. */
export type KernelTable = { readonly [K in OpName]: Kernel<K> | 'decompose' }

/** What a lowering starts from. */
export interface LoweringOptions {
  readonly graph: Graph
  readonly model: ModelBuilder
  readonly kernels: KernelTable
  /** Everything plain unless given. */
  readonly policy?: LayoutPolicy | undefined
  /** Only ops of the ONNX standard, for a file that other engines read; else the engine's own may be used where faster. */
  readonly standard?: boolean | undefined
}

/** dtype and known shape. */
export interface StaticType {
  readonly dtype: DType
  readonly shape: StaticShape
}

// Ops whose float16 results are float16 values already: they move, choose or negate.
const exactOps: ReadonlySet<OpName> = new Set<OpName>([
  ...(['reshape', 'transpose', 'broadcastTo', 'slice', 'concat', 'gather', 'oneHot'] as const),
  ...(['select', 'min', 'max', 'neg', 'abs', 'relu', 'reduceMax', 'maxPool2d'] as const),
  ...(['stopGradient', 'customGradient'] as const),
])

/** The lowering of one graph into one model. */
export class Lowering {
  readonly model: ModelBuilder
  readonly graph: Graph
  /** Choices, for people, a line each. */
  readonly notes: string[] = []
  /** Whether only ops of the ONNX standard may be used. */
  readonly standard: boolean
  readonly #kernels: KernelTable
  readonly #policy: LayoutPolicy | undefined
  readonly #names: Map<ValueId, Map<Layout, string>> = new Map()
  readonly #producers: ReadonlyMap<ValueId, number>
  readonly #uses: ReadonlyMap<ValueId, number>
  readonly #dims: Map<string, string> = new Map()

  constructor(options: LoweringOptions) {
    this.model = options.model
    this.graph = options.graph
    this.#kernels = options.kernels
    this.#policy = options.policy
    this.standard = options.standard ?? false
    this.#producers = producers(options.graph)
    this.#uses = useCounts(options.graph)
  }

  /** Lowers every node that `values` need (all outputs and states unless given). Inputs and states must be `bind`ed before. */
  run(values?: Iterable<ValueId>): void {
    const needed = neededNodes(this.graph, values)
    this.graph.nodes.forEach((node, i) => {
      if (!needed.has(i) || this.#policy?.lower(node, this)) return
      this.lowerPlain(node)
    })
  }

  /** Lowers a node by the plain kernels, whatever the policy says. */
  lowerPlain(node: Node): void {
    const kernel = this.#kernels[node.op] as Kernel<OpName> | 'decompose'
    // Empty results need no computation, and many of the engine's kernels refuse to make them.
    const empty = node.outputs.every((id) => this.isEmpty(id))
    const result = empty ? node.outputs.map((id) => this.filled(id, 0)) : kernel === 'decompose' ? this.decompose(node) : kernel(node, this)
    const names = typeof result === 'string' ? [result] : result
    if (names.length !== node.outputs.length) throw new GraphError(`onnx: the kernel of ${node.op} gave ${names.length} results, expected ${node.outputs.length}`)
    node.outputs.forEach((id, i) => {
      const name = names[i] ?? ''
      if (exactOps.has(node.op)) this.#put(id, name, 'plain')
      else this.set(id, name)
    })
  }

  /** Lowers a node as its op's decomposition: a small graph of its own, in the same model. Gives the names of its results. */
  decompose(node: Node): readonly string[] {
    const def = ops[node.op] as OpDef<OpName>
    if (!def.decompose) throw new GraphError(`onnx: ${node.op} has neither a kernel nor a decomposition`)
    const builder = new GraphBuilder(ops)
    const bound: [ValueId, string][] = []
    const inputs = node.inputs.map((id, i) => {
      const constant = this.constantOf(id)
      const { dtype, shape } = typeOf(this.graph, id)
      if (constant) {
        const [value] = builder.emit('constant', { value: constant }, [])
        if (value) return value.broadcastTo(shape)
      }
      const input = builder.input(`input${i}`, dtype, shape)
      bound.push([input.id, this.get(id)])
      return input
    })
    const outputs = def.decompose(node.attrs, inputs)
    outputs.forEach((t, i) => {
      builder.output(`output${i}`, t)
    })
    const inner = new Lowering({ graph: builder.build(), model: this.model, kernels: this.#kernels, standard: this.standard })
    for (const [id, name] of bound) inner.#put(id, name, 'plain')
    inner.run()
    return outputs.map((t) => inner.get(t.id))
  }

  /** dtype and shape of a value. @throws ShapeError where a size is only a name */
  type(id: ValueId): StaticType {
    const { dtype, shape } = typeOf(this.graph, id)
    return { dtype, shape: staticShape('onnx', shape) }
  }

  /** The shape of a value, names for unknown sizes. */
  shape(id: ValueId): Shape {
    return typeOf(this.graph, id).shape
  }

  /** The element type of a value. */
  dtype(id: ValueId): DType {
    return typeOf(this.graph, id).dtype
  }

  /** The name of a value in `layout`; converts it (once) where it exists in another one only. */
  get(id: ValueId, layout: Layout = 'plain'): string {
    const names = this.#names.get(id)
    if (!names) throw new GraphError(`onnx: value %${id} is used before it is made`)
    const known = names.get(layout)
    if (known !== undefined) return known
    for (const [from, name] of names) {
      if (!this.#policy) break
      const converted = this.#policy.convert(this, id, name, from, layout)
      names.set(layout, converted)
      return converted
    }
    throw new GraphError(`onnx: value %${id} cannot be had in layout ${layout}`)
  }

  /** The names of several values, plain. */
  getAll(ids: readonly ValueId[]): readonly string[] {
    return ids.map((id) => this.get(id))
  }

  /** Whether a value is there in `layout` without a conversion. */
  has(id: ValueId, layout: Layout): boolean {
    return this.#names.get(id)?.has(layout) ?? false
  }

  /** Says which ONNX value holds `id` in `layout`. A float16 value is rounded to float16 here. */
  set(id: ValueId, name: string, layout: Layout = 'plain'): void {
    this.#put(id, this.dtype(id) === 'float16' ? this.widen(this.narrow(name)) : name, layout)
  }

  /** Says which input of the model holds `id`, in its storage type. */
  bind(id: ValueId, name: string, layout: Layout = 'plain'): void {
    this.#put(id, this.dtype(id) === 'float16' ? this.widen(name) : name, layout)
  }

  /** The name of a value in its storage type: an output of the model. */
  stored(id: ValueId, layout: Layout = 'plain'): string {
    const name = this.get(id, layout)
    return this.dtype(id) === 'float16' ? this.narrow(name) : name
  }

  /** float32 rounded to ONNX's float16. */
  narrow(name: string): string {
    return this.model.op('Cast', [name], { to: elementTypes.float16 })
  }

  /** ONNX's float16 as float32. */
  widen(name: string): string {
    return this.model.op('Cast', [name], { to: elementTypes.float32 })
  }

  #put(id: ValueId, name: string, layout: Layout): void {
    const names = this.#names.get(id) ?? new Map<Layout, string>()
    names.set(layout, name)
    this.#names.set(id, names)
  }

  /** How many nodes, outputs and state updates read a value. */
  uses(id: ValueId): number {
    return this.#uses.get(id) ?? 0
  }

  /** The node that makes a value; none makes an input or a state. */
  producer(id: ValueId): Node | undefined {
    const i = this.#producers.get(id)
    return i === undefined ? undefined : this.graph.nodes[i]
  }

  /** The constant that a value is, or was before it was broadcast. */
  constantOf(id: ValueId): HostTensor | undefined {
    const node = this.producer(id)
    if (node?.op === 'constant') return node.attrs.value
    if (node?.op === 'broadcastTo') return node.inputs[0] === undefined ? undefined : this.constantOf(node.inputs[0])
    return undefined
  }

  /** The number that every element of a value is, where that is known. */
  scalarOf(id: ValueId): number | undefined {
    const constant = this.constantOf(id)
    return constant?.data.length === 1 ? toFloat64(constant)[0] : undefined
  }

  /** A constant as kernels see it: float16 as float32. */
  constant(value: HostTensor): string {
    return this.model.constant(value.dtype === 'float16' ? hostTensor('float32', value.shape, Float32Array.from(toFloat64(value))) : value)
  }

  /** An int64 vector [1] with the size that `dim` names, known when the model runs. */
  dim(dim: string): string {
    const known = this.#dims.get(dim)
    if (known !== undefined) return known
    for (const [id, names] of this.#names) {
      const axis = this.shape(id).indexOf(dim)
      const name = names.get('plain')
      if (axis < 0 || name === undefined) continue
      const size = this.model.op('Shape', [name], { start: axis, end: axis + 1 })
      this.#dims.set(dim, size)
      return size
    }
    throw new GraphError(`onnx: no value has the size '${dim}'`)
  }

  /** A shape as an int64 vector. */
  shapeVector(shape: Shape): string {
    if (shape.every((d) => typeof d === 'number')) return this.model.ints(shape)
    return this.model.concat(shape.map((d) => (typeof d === 'number' ? this.model.ints([d]) : this.dim(d))), 0)
  }

  /** `x` in another shape, whatever of it is known. */
  reshape(x: string, shape: Shape): string {
    const free = shape.filter((d) => typeof d === 'string').length
    if (free === 0 || (free === 1 && !shape.includes(0))) return this.model.reshape(x, shape)
    return this.model.op('Reshape', [x, this.shapeVector(shape)], { allowzero: 1 })
  }

  /** `x` repeated to `shape`. */
  expand(x: string, from: Shape, shape: Shape): string {
    const lead = shape.length - from.length
    // ONNX's Expand leaves an axis alone where the shape says 1: so a free size that is there already need not be known.
    return this.model.op('Expand', [x, this.shapeVector(shape.map((d, i) => (i >= lead && from[i - lead] === d ? 1 : d)))])
  }

  /** Whether a value is known to have no elements. */
  isEmpty(id: ValueId): boolean {
    return this.shape(id).includes(0)
  }

  /** A tensor of the type of value `id`, filled with `value`. */
  filled(id: ValueId, value: number): string {
    const { dtype, shape } = this.type(id)
    const one = this.scalar(value, dtype)
    return sizeOf(shape) === 0 ? this.constant(fromNumbers(dtype, shape, [])) : this.expand(one, [], shape)
  }

  /** A scalar constant as kernels see it. */
  scalar(value: number, dtype: DType = 'float32'): string {
    return this.constant(fromNumbers(dtype, [], [value]))
  }

  /** Adds a line to `explain()`. */
  note(line: string): void {
    this.notes.push(line)
  }
}
