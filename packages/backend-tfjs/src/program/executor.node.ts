// The executor of whole programs on TensorFlow's native library: a graph becomes one TensorFlow graph, a run one run of its
// session. Only outputs come back to JavaScript.

import { copyHostTensor, type Graph, GraphError, type HostTensor, type MemoryLedger } from '@dynconv/core'
import { probeQuirks } from '../composed/quirks.ts'
import type { Tf } from '../composed/tf.ts'
import { type Executor, isHost, type Loaded, type Resident, type RunInput } from '../executor.ts'
import { type Binding, bindingOf, Session } from './binding.node.ts'
import { buildProgram, emptyFeed, type Program } from './build.ts'
import { chooseForms } from './forms.ts'
import type { Target } from './lowering.ts'
import { type Holder, SessionState } from './state.ts'

/**
 * One TensorFlow graph for each graph.
 *
 * @param forms how dynamic convolutions are computed; the table of forms.ts unless given
 */
export async function programExecutor(tf: Tf, ledger: MemoryLedger, forms?: Target['forms']): Promise<Executor> {
  const binding = bindingOf(tf)
  const quirks = await probeQuirks(tf)
  const device = binding.isUsingGpuDevice() ? 'gpu' : 'cpu'
  const target: Target = { device, forms: forms ?? ((layer) => chooseForms(layer, device)) }
  const version = binding.TF_Version ?? 'of unknown version'
  return {
    name: 'program',
    capabilities: {
      dtypes: { float32: 'arithmetic', float16: 'storage', int32: 'arithmetic', bool: 'arithmetic' },
      device: `TensorFlow ${version} (${device === 'gpu' ? 'CUDA' : 'its kernels for the processor'}, whole programs) through TensorFlow.js ${tf.version_core}`,
    },
    supports: () => true,
    // Feeds start on the host: TensorFlow brings them to the card itself.
    upload: (value) => new HostResident(copyHostTensor(value)),
    createState: (initial) => new SessionState(initial, ledger),
    load: async (graph, state) => {
      if (state && !(state instanceof SessionState)) throw new GraphError("tfjs: the state belongs to another executor; make it with this backend's createState")
      return loadProgram(binding, graph, buildProgram(graph, quirks, target), state, ledger)
    },
    dispose: () => undefined,
  }
}

function loadProgram(binding: Binding, graph: Graph, program: Program, state: SessionState | undefined, ledger: MemoryLedger): Loaded {
  const nodes = program.graph.toProto()
  let session: Session
  try {
    session = new Session(binding, nodes)
  } catch (cause) {
    throw new GraphError(`tfjs: TensorFlow refused the program: ${messageOf(cause)}`, { cause })
  }
  const { count, bytes } = program.graph.constants
  const release = ledger.hold(count, bytes)
  const names = program.states.map((s) => s.name)
  const written = program.states.flatMap((s) => (s.written ? [s.name] : []))
  const nothing = { to: program.nothing, value: emptyFeed }
  const holder: Holder = {
    readAll: () => {
      const values = session.run([nothing], program.states.map((s) => ({ from: s.value, dtype: s.dtype, shape: s.shape })))
      return new Map(values.flatMap((value, i) => names.slice(i, i + 1).map((name) => [name, value] as const)))
    },
  }
  const bringStates = (): void => {
    if (!state || names.length === 0 || state.isCurrent(holder, names)) return
    const values = state.values(names)
    const feeds = program.states.flatMap(({ name, feed }) => {
      const value = values.get(name)
      return value ? [{ to: feed, value }] : []
    })
    session.run(feeds, [{ from: program.ready, dtype: 'int32', shape: [] }])
    state.loaded(holder, names)
  }
  return {
    notes: [`program: ${graph.nodes.length} nodes became ${nodes.length} of TensorFlow`, ...program.notes],
    run: async (inputs) => {
      bringStates()
      const feeds = program.inputs.flatMap(({ value }, i) => inputs.slice(i, i + 1).map((input) => ({ to: value, value: hostOf(input) })))
      const fetches = program.outputs.map(({ value, dtype, shape }) => ({ from: value, dtype, shape }))
      const done = { from: program.done, dtype: 'int32', shape: [] } as const
      let results: readonly HostTensor[]
      try {
        results = session.run(feeds.length ? feeds : [nothing], fetches.length ? fetches : [done])
      } catch (cause) {
        throw new Error(`tfjs: the run failed; no state was changed: ${messageOf(cause)}`, { cause })
      }
      state?.written(holder, written)
      return results.slice(0, program.outputs.length)
    },
    dispose: () => {
      state?.leave(holder)
      session.close()
      release()
    },
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}

class HostResident implements Resident {
  readonly value: HostTensor
  readonly dtype: HostTensor['dtype']
  readonly shape: HostTensor['shape']

  constructor(value: HostTensor) {
    this.value = value
    this.dtype = value.dtype
    this.shape = value.shape
  }

  read(): HostTensor {
    return copyHostTensor(this.value)
  }

  free(): void {
    // Nothing but memory of JavaScript.
  }
}

function hostOf(input: RunInput): HostTensor {
  if (isHost(input)) return input
  if (input instanceof HostResident) return input.value
  throw new GraphError('tfjs: the tensor belongs to another executor; read it and pass the host tensor')
}
