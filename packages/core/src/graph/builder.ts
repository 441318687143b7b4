// Builds a graph by appending nodes; checks each with its op's own `infer`. Tensors are handles into a builder.
// A trace and every pass that rewrites a graph end here: there is no other way to make a node.

import { GraphError, ShapeError } from '../backend/errors.ts'
import type { OpAttrs, OpName } from '../ops/attrs.ts'
import type { OpDef, OpTable, ValueType } from '../ops/define.ts'
import type { DType } from '../tensor/dtype.ts'
import { checkShape, formatShape, type Shape, sameShape } from '../tensor/shape.ts'
import { type Emitter, Tensor } from '../tensor/tensor.ts'
import type { Graph, Node, NodeOf, Port, StateKind, StateSlot, ValueId } from './graph.ts'

/** The backward half of a custom gradient: from the gradients of the outputs to those of the inputs. */
export type CustomRule = (grads: readonly Tensor[]) => readonly (Tensor | undefined)[]

interface StateEntry {
  readonly name: string
  readonly kind: StateKind
  readonly read: Tensor
  current: Tensor
}

/** A graph under construction. */
export class GraphBuilder implements Emitter {
  readonly ops: OpTable
  readonly values: ValueType[] = []
  readonly nodes: Node[] = []
  /** Rules of `customGradient` nodes, by number. They live as long as the builder: a finished graph no longer needs them. */
  readonly customRules: CustomRule[] = []
  readonly #tensors: Tensor[] = []
  readonly #inputs: Port[] = []
  readonly #outputs: Port[] = []
  readonly #states: Map<string, StateEntry> = new Map()

  constructor(ops: OpTable) {
    this.ops = ops
  }

  emit<K extends OpName>(op: K, attrs: OpAttrs[K], inputs: readonly Tensor[]): readonly Tensor[] {
    for (const input of inputs) {
      if (input.graph !== this) throw new GraphError(`${op}: an input belongs to another graph; a tensor lives only in the trace that made it`)
    }
    const def: OpDef<K> = this.ops[op]
    const inferred = def.infer(attrs, inputs)
    const types = Array.isArray(inferred) ? (inferred as readonly ValueType[]) : [inferred as ValueType]
    const outputs = types.map((type) => this.#value(type.dtype, type.shape))
    const node: NodeOf<K> = { op, attrs, inputs: inputs.map((t) => t.id), outputs: outputs.map((t) => t.id) }
    // Boundary: NodeOf<K> for one K is a member of the union Node; TypeScript cannot see it through the generic.
    this.nodes.push(node as unknown as Node)
    return outputs
  }

  /** The handle of a value of this graph. */
  tensor(id: ValueId): Tensor {
    const t = this.#tensors[id]
    if (!t) throw new GraphError(`graph: there is no value %${id}`)
    return t
  }

  /** A graph input. @throws GraphError for a name already taken */
  input(name: string, dtype: DType, shape: Shape): Tensor {
    if (this.#inputs.some((i) => i.name === name)) throw new GraphError(`input: the name '${name}' is already taken`)
    const t = this.#value(dtype, shape)
    this.#inputs.push({ name, value: t.id })
    return t
  }

  /** A graph output. @throws GraphError for a name already taken */
  output(name: string, value: Tensor): void {
    if (this.#outputs.some((o) => o.name === name)) throw new GraphError(`output: the name '${name}' is already taken`)
    this.#outputs.push({ name, value: value.id })
  }

  /** The current value of the state `name`: what was last written to it in this graph, or else what it held at the start. */
  readState(name: string, kind: StateKind, dtype: DType, shape: Shape): Tensor {
    return this.#state(name, kind, dtype, shape).current
  }

  /** Gives the state `name` a new value at the end of the run. @throws ShapeError when its type would change */
  writeState(name: string, kind: StateKind, dtype: DType, shape: Shape, value: Tensor): void {
    const entry = this.#state(name, kind, dtype, shape)
    if (value.dtype !== entry.read.dtype || !sameShape(value.shape, entry.read.shape)) {
      throw new ShapeError(
        `state '${name}': holds ${entry.read.dtype}${formatShape(entry.read.shape)}, cannot take ${value.dtype}${formatShape(value.shape)}`,
      )
    }
    entry.current = value
  }

  /** The finished graph, as plain data. */
  build(): Graph {
    const states: StateSlot[] = [...this.#states.values()].map(({ name, kind, read, current }) => ({
      name,
      kind,
      dtype: read.dtype,
      shape: read.shape,
      value: read.id,
      update: current === read ? undefined : current.id,
    }))
    return { values: [...this.values], nodes: [...this.nodes], inputs: [...this.#inputs], outputs: [...this.#outputs], states }
  }

  #state(name: string, kind: StateKind, dtype: DType, shape: Shape): StateEntry {
    const known = this.#states.get(name)
    if (known) return known
    const read = this.#value(dtype, shape)
    const entry = { name, kind, read, current: read }
    this.#states.set(name, entry)
    return entry
  }

  #value(dtype: DType, shape: Shape): Tensor {
    checkShape('graph', shape)
    const t = new Tensor(this, this.values.length, dtype, shape)
    this.values.push({ dtype, shape })
    this.#tensors.push(t)
    return t
  }
}
