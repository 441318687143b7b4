// What lowering an op works with: the program so far, the fusion of elementwise ops, and operands in the form that a kernel
// needs.

import { type DType, type Graph, GraphError, isStatic, sizeOf, type StaticShape, type StaticType, typeOf, useCounts, type ValueId, type Node } from '@dynconv/core'
import { type Expression, identity } from '../kernels/elementwise.ts'
import type { Kernel, Target } from '../wgsl/kernel.ts'
import { isDense, type Layout } from '../wgsl/views.ts'
import { encode } from '../encode.ts'
import type { Preferences } from './choose.ts'
import { Fusion, isLazy, isScalar, type Lazy, type Operand, release, type Root } from './fuse.ts'
import { maxFaults, type Fault, type PlanBuffer, ProgramBuilder, type StatePlace, type Value } from './program.ts'
import { dispatchTogether } from './together.ts'

/** How to lower. */
export interface LowerOptions extends Preferences {
  readonly memoryBudgetBytes?: number | undefined
  /** Where a state stands; unless given, that is not known. */
  readonly placeOf?: ((state: string) => StatePlace | undefined) | undefined
}

const defaultBudgetBytes = 64 * 2 ** 20

/** Lowers into one program. */
export class Context {
  readonly target: Target
  readonly builder: ProgramBuilder
  /** What was chosen, for people. */
  readonly notes: Set<string> = new Set()
  readonly preferences: Preferences
  /** What a kernel gradient may hold of the samples' kernels at a time, unless the plan says how many. */
  readonly memoryBudgetBytes: number
  readonly #derived: Map<PlanBuffer, Map<string, Value>> = new Map()
  readonly #fusion: Fusion
  readonly #graph: Graph
  readonly #placeOf: (state: string) => StatePlace | undefined
  readonly #uses: ReadonlyMap<ValueId, number>
  readonly #operands: Map<ValueId, Operand> = new Map()
  readonly #denseCopies: Map<Value, Value> = new Map()
  #held: Lazy[] = []

  constructor(graph: Graph, target: Target, { memoryBudgetBytes = defaultBudgetBytes, placeOf = () => undefined, ...preferences }: LowerOptions = {}) {
    this.target = target
    this.preferences = preferences
    this.memoryBudgetBytes = memoryBudgetBytes
    this.builder = new ProgramBuilder(target, new Set(graph.states.flatMap((s) => (s.update === undefined ? [] : [s.name]))))
    this.#fusion = new Fusion(this.builder)
    this.#graph = graph
    this.#placeOf = placeOf
    this.#uses = useCounts(graph)
  }

  /** Lowers a node by `lower`. */
  node(node: Pick<Node, 'op' | 'inputs' | 'outputs'>, lower: (inputs: readonly Operand[], outputs: readonly StaticType[]) => Operand | readonly Operand[]): void {
    this.#fusion.nextNode()
    const inputs = node.inputs.map((id) => this.operand(id))
    const types = node.outputs.map((id) => this.typeOf(id))
    this.#held = []
    const result = lower(inputs, types)
    const results = Array.isArray(result) ? (result as readonly Operand[]) : [result as Operand]
    // Until now what nothing had read counted as read once, so that nothing was lost on the way.
    for (const lazy of this.#held) release(lazy)
    node.outputs.forEach((id, i) => {
      const operand = results[i]
      if (!operand) throw new GraphError(`webgpu: ${node.op} gave no output ${i}`)
      this.define(id, operand)
    })
    for (const id of node.inputs) this.release(id)
  }

  /** The value of a graph is this operand. */
  define(id: ValueId, operand: Operand): void {
    if (isLazy(operand)) operand.uses += this.#uses.get(id) ?? 0
    this.#operands.set(id, operand)
  }

  /** One read of a value fewer is to come. */
  release(id: ValueId): void {
    const operand = this.#operands.get(id)
    if (operand && isLazy(operand)) operand.uses -= 1
  }

  operand(id: ValueId): Operand {
    const operand = this.#operands.get(id)
    if (!operand) throw new GraphError(`webgpu: value %${id} is read before it is made`)
    return operand
  }

  typeOf(id: ValueId): StaticType {
    const { dtype, shape } = typeOf(this.#graph, id)
    if (!isStatic(shape)) throw new GraphError(`webgpu: the shape [${shape.join(', ')}] has unknown sizes; specialise the graph first`)
    return { dtype, shape }
  }

  /** An elementwise op. */
  elementwise(name: string, expression: Expression, operands: readonly Operand[], dtype: DType, shape: StaticShape): Lazy {
    const lazy = this.#fusion.add(name, expression, operands, dtype, shape, true)
    this.#held.push(lazy)
    return lazy
  }

  /** The result of a kernel with one output; what is done to its elements afterwards may become a part of it (`Root`). */
  rooted(name: string, { dtype, shape }: StaticType, inputs: readonly Value[], kernel: Root['kernel'], alike: boolean = false): Operand {
    if (sizeOf(shape) === 0) return this.tensor(dtype, shape)
    const lazy = this.#fusion.addRoot(name, { inputs, kernel, alike }, dtype, shape)
    this.#held.push(lazy)
    return lazy
  }

  /** An operand in memory, in any layout. */
  read(operand: Operand): Value {
    if (isScalar(operand)) {
      const { dtype, shape, scalar } = operand
      const data = encode({ dtype, shape: [1], numbers: [scalar] }, this.target)
      const { buffer } = this.builder.tensor(dtype, [1], { kind: 'constant', data })
      return { buffer, dtype, layout: { shape, strides: shape.map(() => 0), offset: 0 } }
    }
    return this.#fusion.read(operand)
  }

  /** An operand in memory, row-major. */
  dense(operand: Operand): Value {
    const value = this.read(operand)
    if (isDense(value.layout)) return value
    const known = this.#denseCopies.get(value)
    if (known) return known
    const copy = this.#fusion.read(this.#fusion.add('copy', identity, [value], value.dtype, value.layout.shape, true))
    this.#denseCopies.set(value, copy)
    return copy
  }

  /** The same elements seen otherwise. */
  view(value: Value, layout: Layout): Value {
    return { ...value, layout }
  }

  /** A new dense tensor. */
  tensor(dtype: DType, shape: StaticShape): Value {
    return this.builder.tensor(dtype, shape)
  }

  /** Runs a kernel on tensors, bound in order. */
  dispatch(kernel: Kernel, ...values: readonly (Value | PlanBuffer)[]): void {
    this.builder.dispatch(kernel, values.map((v) => ('buffer' in v ? v.buffer : v)))
  }

  /** A result that a kernel with one output gives. Nothing runs for an empty one. */
  result({ dtype, shape }: StaticType, inputs: readonly Value[], make: () => Kernel): Value {
    const output = this.tensor(dtype, shape)
    if (sizeOf(shape) > 0) this.dispatch(make(), ...inputs, output)
    return output
  }

  /** What `make` gives for a dense tensor, made once for each `name`. */
  once(name: string, from: Value, make: () => Value): Value {
    const known = this.#derived.get(from.buffer) ?? new Map<string, Value>()
    this.#derived.set(from.buffer, known)
    const key = `${name} of ${from.layout.shape.join()}`
    const value = known.get(key) ?? make()
    known.set(key, value)
    return value
  }

  /** Whether a tensor is the same in every run, as far as the program itself goes (fixed.ts). */
  isFixed({ buffer }: Value): boolean {
    return this.builder.isFixed(buffer)
  }

  fault(fault: Fault): { readonly buffer: PlanBuffer; readonly index: number } {
    if (this.builder.faults.length >= maxFaults) throw new GraphError(`webgpu: a program may hold ${maxFaults} gathers and scatters, this graph has more`)
    return this.builder.fault(fault)
  }

  /** Makes what is not made yet. From now on operands are only read. */
  flush(takers: ReadonlyMap<Operand, string>): void {
    const states = { placeOf: this.#placeOf, takerOf: (result: Lazy) => takers.get(result) }
    this.#fusion.flush((open) => dispatchTogether(this.builder, open, states))
  }
}

/** Numbers known now as an operand: where all are the same, one number. */
export function constantOperand(context: Context, { dtype, shape }: StaticType, numbers: Float64Array): Operand {
  const scalar = numbers[0] ?? 0
  if (numbers.length > 0 && numbers.every((x) => Object.is(x, scalar))) return { scalar, dtype, shape }
  return context.builder.tensor(dtype, shape, { kind: 'constant', data: encode({ dtype, shape, numbers }, context.target) })
}
