// A compiled graph: a session and the names of what goes in and out.

import { checkInputs, type DeviceTensor, type Executable, type Graph, type HostTensor, Lifetime, type MemoryLedger, Queue, staticShape, toFloat64, typeOf, zeros } from '@dynconv/core'
import type { Derived } from './derived.ts'
import type { ProgramInfo } from './program.ts'
import type { LoadedModel, Tensors } from './intoMemory.ts'
import type { Engine, OrtTensor } from './session.ts'
import type { OnnxState } from './state.ts'
import { OnnxTensor, toOrt } from './tensors.ts'

/** States that are constants of a model. */
export interface FoldedStates {
  /** All of them, also those from which constants were derived. */
  readonly names: readonly string[]
  /** How often they had been replaced by then. */
  readonly changes: number
  readonly tensors: number
  readonly bytes: number
  /** Loads the model that is fed its states instead. */
  readonly unfold: () => Promise<LoadedModel>
}

/** What an executable is made of. */
export interface ExecutableParts {
  readonly engine: Engine
  readonly model: LoadedModel
  /** Where `model` has its states as constants: what it takes when one of them was replaced. */
  readonly folded: FoldedStates | undefined
  readonly program: ProgramInfo
  /** What is computed from the states alone, if anything. */
  readonly derived: Derived | undefined
  readonly graph: Graph
  readonly state: OnnxState | undefined
  /** The scalar output that must be finite for states to change. */
  readonly guard: string | undefined
  readonly ledger: MemoryLedger
  readonly onDispose: (executable: OnnxExecutable) => void
}

/** The backend's executable. */
export class OnnxExecutable implements Executable {
  readonly graph: Graph
  readonly #parts: Omit<ExecutableParts, 'model' | 'folded'>
  readonly #queue: Queue = new Queue()
  readonly #life: Lifetime
  #model: LoadedModel
  #folded: (FoldedStates & { readonly forget: () => void }) | undefined
  #runs: number = 0
  #fastestMs: number = Number.POSITIVE_INFINITY

  constructor({ model, folded, ...parts }: ExecutableParts) {
    this.graph = parts.graph
    this.#parts = parts
    this.#model = model
    this.#folded = folded && { ...folded, forget: parts.ledger.hold(folded.tensors, folded.bytes) }
    const release = parts.ledger.hold(parts.program.constants.count, parts.program.constants.bytes)
    this.#life = new Lifetime('onnx: this executable', async () => {
      release()
      this.#folded?.forget()
      parts.onDispose(this)
      await parts.derived?.release()
      await this.#model.release()
    })
  }

  run(inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly HostTensor[]> {
    return this.#life.use(() => {
      const values = checkInputs('onnx', this.graph, inputs, (t) => t instanceof OnnxTensor).map((t) => ('data' in t ? t : t.value))
      const run = (): Promise<readonly HostTensor[]> => this.#run(values)
      // Programs that share a state take turns; others only wait for themselves.
      return this.#parts.state?.exclusive(run) ?? this.#queue.run(run)
    })
  }

  async #run(values: readonly HostTensor[]): Promise<readonly HostTensor[]> {
    const { engine, program, derived, state, guard } = this.#parts
    if (this.#folded && state?.changes(this.#folded.names) !== this.#folded.changes) await this.#unfold(this.#folded)
    const feeds: Record<string, OrtTensor> = derived && state && !this.#folded ? { ...(await derived.of(state)) } : {}
    program.inputs.forEach((name, i) => {
      const value = values[i]
      if (value) feeds[name] = toOrt(engine, value)
    })
    for (const s of program.states) {
      if (state && !this.#folded) feeds[s.input] = toOrt(engine, state.take(s.name, s.layout, true))
    }
    const results: Record<string, OrtTensor> = {}
    const outputs = this.graph.outputs.map(({ name, value }, i) => {
      const { dtype, shape } = typeOf(this.graph, value)
      const output = zeros(staticShape(`onnx: output '${name}'`, shape), dtype)
      results[program.outputs[i] ?? ''] = toOrt(engine, output)
      return output
    })
    const changed = program.states.flatMap(({ name, layout, next }) => (next === undefined ? [] : [{ name, layout, next }]))
    for (const { name, next } of changed) {
      if (state) results[next] = toOrt(engine, state.room(name))
    }
    const start = performance.now()
    await runModel(this.#model, feeds, results)
    this.#runs++
    this.#fastestMs = Math.min(this.#fastestMs, performance.now() - start)
    const watched = outputs[this.graph.outputs.findIndex(({ name }) => name === guard)]
    if (watched && !toFloat64(watched).every(Number.isFinite)) return outputs
    // Only now, when everything is there: a failing run changes no state.
    state?.commit(changed)
    return outputs
  }

  async #unfold({ forget, unfold }: FoldedStates & { readonly forget: () => void }): Promise<void> {
    const constant = this.#model
    this.#model = await unfold()
    this.#folded = undefined
    forget()
    await constant.release()
  }

  explain(): string {
    const measured = this.#runs === 0 ? [] : [`measured: ${this.#runs} runs, the fastest took ${this.#fastestMs.toPrecision(3)} ms`]
    return [...this.#parts.program.notes, ...measured].join('\n')
  }

  dispose(): void {
    void this.end()
  }

  /** The same; resolves when the session is gone. */
  end(): Promise<void> {
    return this.#life.end()
  }
}

async function runModel(model: LoadedModel, feeds: Tensors, results: Tensors): Promise<void> {
  try {
    await model.run(feeds, results)
  } catch (cause) {
    throw new Error(`onnx: the run failed; no state was changed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}
