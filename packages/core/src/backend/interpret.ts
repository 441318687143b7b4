// Runs a graph op by op over a table of functions: the simplest way to a backend. A new engine may start with about
// fifteen kernels; ops that it lacks are decomposed once, when the graph is compiled. Values are freed exactly after
// their last use. It knows nothing of state stores, uploads or memory accounting: see kernelBackend.ts.

import { GraphError, UnsupportedOpError } from './errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { type Graph, lastUses, type Node, typeOf, type ValueId } from '../graph/graph.ts'
import type { OpAttrs, OpName } from '../ops/attrs.ts'
import { ops } from '../ops/table.ts'
import { copyNode } from '../passes/rewrite.ts'
import { decompose } from '../passes/decompose.ts'
import type { DType } from '../tensor/dtype.ts'
import { type StaticShape, staticShape } from '../tensor/shape.ts'

/** dtype and shape of a value, all sizes known. */
export interface StaticType {
  readonly dtype: DType
  readonly shape: StaticShape
}

/** What a kernel gives: its output, or a list of them (a tensor of an engine is thus never an array). */
export type KernelResult<T extends object> = T | readonly T[] | Promise<T | readonly T[]>

/** An op on an engine's tensors. It may return one of its inputs; it must not change or free them. */
export type Kernel<T extends object, K extends OpName> = (attrs: OpAttrs[K], inputs: readonly T[], outputs: readonly StaticType[]) => KernelResult<T>

/** The ops that an engine runs, as functions on its tensors. */
export type KernelTable<T extends object> = { readonly [K in OpName]?: Kernel<T, K> }

/** Whether an engine runs a very node. */
export type Supports = (node: Node, graph: Graph) => true | { readonly reason: string }

/** How to interpret. */
export interface InterpretOptions<T extends object> {
  /** Who speaks in errors. */
  readonly backend: string
  /** Refuses instances that a kernel of the table cannot run; they are decomposed where that is possible. */
  readonly supports?: Supports | undefined
  /** Called with every new tensor that a kernel returns. */
  readonly made?: ((t: T, type: StaticType) => void) | undefined
  /** Called once for every tensor that nothing needs any more. */
  readonly free?: ((t: T) => void) | undefined
}

/** What a run gives. */
export interface Interpretation<T> {
  /** In the graph's order. */
  readonly outputs: readonly T[]
  /** The new values of the states that the graph writes. */
  readonly updates: ReadonlyMap<string, T>
  /** Those tensors of the two above that are the caller's to free. The others are its own inputs and states, or constants. */
  readonly owned: ReadonlySet<T>
}

/** A graph that is ready to run on a table of kernels. */
export interface Interpreter<T extends object> {
  /** What is run: the graph after decomposition. */
  readonly graph: Graph
  /** Runs once. Inputs and states stay the caller's. When a kernel throws, everything made so far is freed. */
  run(inputs: readonly T[], states?: ReadonlyMap<string, T>): Promise<Interpretation<T>>
  /** Frees the constants, which are made once and kept between runs. Not while a run is going on. */
  dispose(): void
}

interface Step<T extends object> {
  readonly node: Node
  readonly call: (inputs: readonly T[]) => KernelResult<T>
  readonly types: readonly StaticType[]
  /** Values that nothing reads after this step. */
  readonly dead: readonly ValueId[]
}

/**
 * Prepares `graph`, whose sizes are all known, for running on `kernels`.
 *
 * @example
 * const f = interpret(graph, { constant: ..., add: (_, [a, b]) => engine.add(a, b) }, { backend: 'mine', free: (t) => t.release() })
 * const { outputs } = await f.run([x])
 * @throws UnsupportedOpError for an op that has neither a kernel nor a decomposition; ShapeError for an unknown size
 */
export function interpret<T extends object>(graph: Graph, kernels: KernelTable<T>, options: InterpretOptions<T>): Interpreter<T> {
  const { backend } = options
  const program = decompose(graph, (node, whole) => reasonAgainst(node, whole, kernels, options.supports) === undefined)
  for (const node of program.nodes) {
    const reason = reasonAgainst(node, program, kernels, options.supports)
    if (reason !== undefined) throw new UnsupportedOpError({ backend, op: node.op, reason })
  }
  const steps = plan(program, kernels, backend)
  const constants = steps.filter(({ node }) => node.op === 'constant')
  const rest = steps.filter(({ node }) => node.op !== 'constant')
  let kept: ReadonlyMap<ValueId, T> | undefined
  let making: Promise<ReadonlyMap<ValueId, T>> | undefined

  // Made by the first run; runs that start meanwhile wait for it.
  const keptConstants = async (): Promise<ReadonlyMap<ValueId, T>> => {
    if (kept) return kept
    making ??= new Run<T>(options, []).all(constants)
    try {
      kept = await making
      return kept
    } finally {
      making = undefined
    }
  }

  return {
    graph: program,
    async run(inputs, states = new Map()) {
      const run = new Run<T>(options, [...(await keptConstants()), ...givenValues(program, backend, inputs, states)])
      await run.all(rest)
      return {
        outputs: program.outputs.map((port) => run.get(port.value)),
        updates: new Map(program.states.flatMap((s) => (s.update === undefined ? [] : [[s.name, run.get(s.update)] as const]))),
        owned: run.owned,
      }
    },
    dispose() {
      for (const t of new Set(kept?.values())) options.free?.(t)
      kept = undefined
    },
  }
}

/**
 * Why an engine with `kernels` cannot run `node`, neither itself nor decomposed; true when it can.
 *
 * @example supportOf(node, graph, kernels)
 */
export function supportOf<T extends object>(node: Node, graph: Graph, kernels: KernelTable<T>, supports?: Supports): true | { readonly reason: string } {
  try {
    interpret(alone(node, graph), kernels, { backend: '', supports })
    return true
  } catch (error) {
    if (error instanceof UnsupportedOpError) return { reason: error.op === node.op ? error.reason : `it needs ${error.op}: ${error.reason}` }
    return { reason: error instanceof Error ? error.message : String(error) }
  }
}

// A graph of that node only.
function alone(node: Node, graph: Graph): Graph {
  const builder = new GraphBuilder(ops)
  const inputs = node.inputs.map((id, i) => builder.input(`input${i}`, typeOf(graph, id).dtype, typeOf(graph, id).shape))
  copyNode(builder, node, inputs).forEach((t, i) => builder.output(`output${i}`, t))
  return builder.build()
}

function reasonAgainst<T extends object>(node: Node, graph: Graph, kernels: KernelTable<T>, supports: Supports | undefined): string | undefined {
  if (!Object.hasOwn(kernels, node.op)) return 'there is no kernel for it, and it does not decompose into simpler ops'
  const answer = supports?.(node, graph) ?? true
  return answer === true ? undefined : answer.reason
}

function plan<T extends object>(graph: Graph, kernels: KernelTable<T>, backend: string): readonly Step<T>[] {
  const last = lastUses(graph)
  return graph.nodes.map((node, i) => {
    const types = node.outputs.map((id) => ({ dtype: typeOf(graph, id).dtype, shape: staticShape(`${backend}: ${node.op}`, typeOf(graph, id).shape) }))
    const read = [...new Set(node.inputs)].filter((id) => last.get(id) === i)
    const unread = node.outputs.filter((id) => !last.has(id))
    // Boundary: the table's row is for the node's own op; TypeScript cannot relate the two through the union.
    const kernel = kernels[node.op] as Kernel<T, OpName>
    return { node, types, dead: [...read, ...unread], call: (inputs) => kernel(node.attrs, inputs, types) }
  })
}

function givenValues<T>(graph: Graph, backend: string, inputs: readonly T[], states: ReadonlyMap<string, T>): readonly (readonly [ValueId, T])[] {
  if (inputs.length !== graph.inputs.length) throw new GraphError(`${backend}: the graph has ${graph.inputs.length} inputs, got ${inputs.length}`)
  const given = graph.states.map((s) => {
    const t = states.get(s.name)
    if (t === undefined) throw new GraphError(`${backend}: state '${s.name}' was not given`)
    return [s.value, t] as const
  })
  return [...graph.inputs.flatMap((port, i) => inputs.slice(i, i + 1).map((t) => [port.value, t] as const)), ...given]
}

// The values of one run, with how many of them each tensor stands for: a kernel may hand its input on.
class Run<T extends object> {
  readonly #options: InterpretOptions<T>
  readonly #values: Map<ValueId, T>
  readonly #borrowed: ReadonlySet<T>
  readonly #holders: Map<T, number> = new Map()

  constructor(options: InterpretOptions<T>, given: readonly (readonly [ValueId, T])[]) {
    this.#options = options
    this.#values = new Map(given)
    this.#borrowed = new Set(given.map(([, t]) => t))
  }

  /** The tensors that this run made and has not freed. */
  get owned(): ReadonlySet<T> {
    return new Set(this.#holders.keys())
  }

  get(id: ValueId): T {
    const t = this.#values.get(id)
    if (t === undefined) throw new GraphError(`${this.#options.backend}: value %${id} is read before it is made`)
    return t
  }

  async all(steps: readonly Step<T>[]): Promise<ReadonlyMap<ValueId, T>> {
    try {
      for (const step of steps) {
        // Kernels that answer at once need no turn of the event loop.
        const waiting = this.#step(step)
        if (waiting) await waiting
      }
      return this.#values
    } catch (error) {
      for (const t of this.#holders.keys()) this.#options.free?.(t)
      this.#holders.clear()
      throw error
    }
  }

  #step(step: Step<T>): Promise<void> | undefined {
    const result = step.call(step.node.inputs.map((id) => this.get(id)))
    if (result instanceof Promise) return result.then((done) => this.#finish(step, done))
    this.#finish(step, result)
    return undefined
  }

  #finish({ node, types, dead }: Step<T>, result: T | readonly T[]): void {
    const outputs = Array.isArray(result) ? (result as readonly T[]) : [result as T]
    outputs.forEach((t, i) => this.#hold(t, types[i] ?? types[0]))
    if (outputs.length !== node.outputs.length) {
      throw new GraphError(`${this.#options.backend}: the kernel of ${node.op} returned ${outputs.length} tensors, expected ${node.outputs.length}`)
    }
    node.outputs.forEach((id, i) => {
      const t = outputs[i]
      if (t !== undefined) this.#values.set(id, t)
    })
    for (const id of dead) this.#release(id)
  }

  #hold(t: T, type: StaticType | undefined): void {
    if (this.#borrowed.has(t)) return
    const count = this.#holders.get(t) ?? 0
    if (count === 0 && type) this.#options.made?.(t, type)
    this.#holders.set(t, count + 1)
  }

  #release(id: ValueId): void {
    const t = this.#values.get(id)
    this.#values.delete(id)
    const count = t && this.#holders.get(t)
    if (!t || count === undefined) return
    if (count > 1) {
      this.#holders.set(t, count - 1)
    } else {
      this.#holders.delete(t)
      this.#options.free?.(t)
    }
  }
}
