// Values that a program computes from its states alone: kept until one of those states is replaced (prologue.ts).

import { GraphError, type HostTensor, hostTensor, type MemoryLedger } from '@dynconv/core'
import type { ProgramState } from './program.ts'
import type { Engine, OrtTensor, Session } from './session.ts'
import type { OnnxState } from './state.ts'
import { toOrt } from './tensors.ts'

/** What derived values are made of. */
export interface DerivedParts {
  readonly engine: Engine
  /** Loads the model that computes them. */
  readonly load: () => Promise<Session>
  /** The states that it reads. */
  readonly states: readonly ProgramState[]
  /** Its outputs. */
  readonly values: readonly string[]
  readonly ledger: MemoryLedger
}

/** The derived values of one program. Every call must have the turn of the state's queue, or be the last. */
export class Derived {
  readonly #parts: DerivedParts
  #versions: readonly number[] | undefined
  #values: ReadonlyMap<string, HostTensor> = new Map()
  #feeds: Readonly<Record<string, OrtTensor>> = {}
  #runs: number = 0
  #session: Session | undefined
  #forget: () => void = () => undefined

  constructor(parts: DerivedParts) {
    this.#parts = parts
  }

  /** The values that are held. */
  get values(): ReadonlyMap<string, HostTensor> {
    return this.#values
  }

  /** The values that belong to what `state` holds now. */
  async of(state: OnnxState): Promise<Readonly<Record<string, OrtTensor>>> {
    const { engine, states, values, ledger } = this.#parts
    const versions = states.map((s) => state.version(s.name))
    if (this.#versions && versions.every((v, i) => v === this.#versions?.[i])) return this.#feeds
    const session = this.#session ?? (await this.#parts.load())
    const results = await session.run(Object.fromEntries(states.map((s) => [s.input, toOrt(engine, state.take(s.name, s.layout, true))])))
    // A program for inference needs it once; one that alternates with training steps will come back.
    if (++this.#runs > 1) this.#session = session
    else await session.release()
    const entries = values.map((name) => {
      const value = results[name]
      if (!(value?.data instanceof Float32Array)) throw new GraphError(`onnx: the engine gave no float32 '${name}'`)
      return [name, hostTensor('float32', value.dims, value.data)] as const
    })
    this.#values = new Map(entries)
    this.#feeds = Object.fromEntries(entries.map(([name, value]) => [name, toOrt(engine, value)]))
    this.#versions = versions
    this.#forget()
    this.#forget = ledger.hold(entries.length, entries.reduce((sum, [, { data }]) => sum + data.byteLength, 0))
    return this.#feeds
  }

  /** Frees everything, when it is the program's turn. What is asked for later is computed anew. */
  async release(): Promise<void> {
    this.#forget()
    this.#values = new Map()
    this.#feeds = {}
    this.#versions = undefined
    const session = this.#session
    this.#session = undefined
    await session?.release()
  }
}
