// The executor that calls `tf` op by op, on any TensorFlow.js engine, over core's `interpret`: values are freed exactly after
// their last use.

import { bytesPerElement, fromNumbers, type Graph, GraphError, type HostTensor, interpret, type Interpreter, type Kernel, type KernelTable, type MemoryLedger, type Node, type OpName, sizeOf, type StateInit, type StaticShape, staticShape, type StaticType, supportOf, typeOf } from '@dynconv/core'
import { type Executor, isHost, type Loaded, passesGuard, type Resident, type RunInput, type Source } from '../executor.ts'
import { kernelTable } from '../kernels/table.ts'
import { TfjsState } from '../state.ts'
import { composedPrimitives } from './primitives.ts'
import { probeQuirks } from './quirks.ts'
import { type Tf, type TfTensor, toTf, use } from './tf.ts'

/** Op by op on an engine of `tf` that is up. */
export async function composedExecutor(tf: Tf, engine: string, ledger: MemoryLedger): Promise<Executor> {
  const kernels = tidied(tf, engine, kernelTable(composedPrimitives(tf, await probeQuirks(tf, engine))))
  const supports = (node: Node, graph: Graph): true | { readonly reason: string } => float16Reason([...node.inputs, ...node.outputs], graph) ?? true
  return {
    name: 'composed',
    capabilities: {
      dtypes: { float32: 'arithmetic', float16: 'none', int32: 'arithmetic', bool: 'arithmetic' },
      device: `TensorFlow.js ${tf.version_core} (${engine}, op by op)`,
    },
    supports: (node, graph) => supportOf(node, graph, kernels, supports),
    upload: (value) => new TensorResident(toTf(tf, value), value),
    createState: (initial) => new TensorState(tf, initial, ledger),
    load: async (source, state) => {
      const { graph } = source
      if (state && !(state instanceof TensorState)) throw new GraphError("tfjs: the state belongs to another executor; make it with this backend's createState")
      const held = new Map<TfTensor, () => void>()
      const free = (t: TfTensor): void => {
        held.get(t)?.()
        held.delete(t)
        t.dispose()
      }
      const disown = (t: TfTensor): void => {
        held.get(t)?.()
        held.delete(t)
      }
      const program = interpret<TfTensor>(graph, kernels, {
        backend: 'tfjs',
        supports,
        made: (t, { dtype, shape }) => held.set(t, ledger.hold(1, sizeOf(shape) * bytesPerElement(dtype))),
        free,
      })
      const left = new Set(program.graph.nodes.map((n) => n.op))
      const gone = [...new Set(graph.nodes.map((n) => n.op))].filter((op) => !left.has(op)).sort()
      return {
        notes: [
          `composed: ${program.graph.nodes.length} nodes, one at a time on ${engine}`,
          ...(gone.length ? [`decomposed: ${gone.join(', ')}`] : []),
          ...convNotes(program.graph),
        ],
        run: (inputs) => runOnce(tf, { source, program, state, free, disown }, inputs),
        dispose: () => program.dispose(),
      } satisfies Loaded
    },
    dispose: () => undefined,
  }
}

/** Why a graph with float16 among `ids` does not run here. */
function float16Reason(ids: readonly number[], graph: Graph): { readonly reason: string } | undefined {
  return ids.some((id) => typeOf(graph, id).dtype === 'float16') ? { reason: 'TensorFlow.js has no float16 tensors; use float32, or the executor program' } : undefined
}

// Every kernel on this very engine, whatever others made `tf` switch to since; what it makes on the way is freed at its end.
function tidied(tf: Tf, engine: string, table: KernelTable<TfTensor>): KernelTable<TfTensor> {
  const rows = Object.entries(table).map(([op, kernel]) => {
    // Boundary: `fromEntries` cannot say that each row keeps the kernel of its own op.
    const run = kernel as Kernel<TfTensor, OpName>
    const wrapped: Kernel<TfTensor, OpName> = (attrs, inputs, outputs) => {
      use(tf, engine)
      return tf.tidy(() => run(attrs, inputs, outputs) as TfTensor | TfTensor[])
    }
    return [op, wrapped]
  })
  return Object.fromEntries(rows) as KernelTable<TfTensor>
}

// How each kind of convolution is computed, with how often.
function convNotes(graph: Graph): readonly string[] {
  const counts = new Map<string, number>()
  for (const node of graph.nodes) {
    if (node.op !== 'conv2d' && node.op !== 'conv2dInputGrad' && node.op !== 'conv2dFilterGrad') continue
    const { groups, dilation, stride } = node.attrs
    const plain = groups === 1 && (node.op === 'conv2d' ? dilation.every((d) => d === 1) || stride.every((s) => s === 1) : dilation.every((d) => d === 1))
    const line = `${node.op}${groups > 1 ? ' with groups' : ''}: ${plain ? "the engine's own kernel where it has one" : 'columns and products of matrices (depthwise: depthwiseConv2d)'}`
    counts.set(line, (counts.get(line) ?? 0) + 1)
  }
  return [...counts].map(([line, count]) => `${count} x ${line}`)
}

interface Running {
  readonly source: Source
  readonly program: Interpreter<TfTensor>
  readonly state: TensorState | undefined
  readonly free: (t: TfTensor) => void
  /** Takes a tensor out of the run's account. */
  readonly disown: (t: TfTensor) => void
}

async function runOnce(tf: Tf, { source, program, state, free, disown }: Running, inputs: readonly RunInput[]): Promise<readonly HostTensor[]> {
  const uploaded: TfTensor[] = []
  try {
    const bound = inputs.map((input) => {
      if (!isHost(input)) return tensorOf(input)
      const t = toTf(tf, input)
      uploaded.push(t)
      return t
    })
    const { outputs, updates, owned } = await program.run(bound, state?.tensors ?? new Map()).catch((cause: unknown) => {
      throw new Error(`tfjs: the run failed; no state was changed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    })
    const left = new Set(owned)
    try {
      const results: HostTensor[] = []
      for (const [i, t] of outputs.entries()) {
        const { dtype, shape } = typeOf(source.graph, source.graph.outputs[i]?.value ?? -1)
        results.push(await download(t, dtype, staticShape('tfjs', shape)))
      }
      if (!passesGuard(source, results)) return results
      // A new value that is not this run's own (an input, another state), or that two states take, is shared by a clone.
      const next = [...updates].map(([name, t]): readonly [string, TfTensor] => {
        if (!left.delete(t)) return [name, t.clone()]
        disown(t)
        return [name, t]
      })
      state?.commit(next)
      return results
    } finally {
      for (const t of left) free(t)
    }
  } finally {
    for (const t of uploaded) t.dispose()
  }
}

async function download(t: TfTensor, dtype: HostTensor['dtype'], shape: StaticShape): Promise<HostTensor> {
  // A cast on the cpu engine leaves the numbers in the array that they were in.
  return fromNumbers(dtype, shape, await t.data())
}

class TensorResident implements Resident {
  readonly tensor: TfTensor
  readonly dtype: HostTensor['dtype']
  readonly shape: StaticShape

  constructor(tensor: TfTensor, { dtype, shape }: HostTensor) {
    this.tensor = tensor
    this.dtype = dtype
    this.shape = shape
  }

  read(): Promise<HostTensor> {
    return download(this.tensor, this.dtype, this.shape)
  }

  free(): void {
    this.tensor.dispose()
  }
}

function tensorOf(input: Resident): TfTensor {
  if (input instanceof TensorResident) return input.tensor
  throw new GraphError('tfjs: the tensor belongs to another executor; read it and pass the host tensor')
}

/** States as tensors of `tf`. */
class TensorState extends TfjsState {
  readonly #tf: Tf
  readonly #tensors: Map<string, TfTensor> = new Map()

  constructor(tf: Tf, initial: readonly StateInit[], ledger: MemoryLedger) {
    super(initial, ledger)
    this.#tf = tf
    for (const { name, data } of initial) this.#tensors.set(name, toTf(tf, data))
  }

  get tensors(): ReadonlyMap<string, TfTensor> {
    return this.#tensors
  }

  /** Replaces states after a run. */
  commit(next: readonly (readonly [name: string, value: TfTensor])[]): void {
    for (const [name, value] of next) {
      this.#tensors.get(name)?.dispose()
      this.#tensors.set(name, value)
    }
  }

  protected fetch(name: string, { dtype, shape }: StaticType): Promise<HostTensor> {
    const value = this.#tensors.get(name)
    if (!value) throw new GraphError(`tfjs: state '${name}' has no value`)
    return download(value, dtype, shape)
  }

  protected put(name: string, value: HostTensor): void {
    this.#tensors.get(name)?.dispose()
    this.#tensors.set(name, toTf(this.#tf, value))
  }

  protected clear(): void {
    for (const t of this.#tensors.values()) t.dispose()
    this.#tensors.clear()
  }
}
