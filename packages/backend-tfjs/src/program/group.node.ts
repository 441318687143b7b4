// Sessions, and which programs share one. Each program starts in a session of its own: TensorFlow plans a program at its first
// run in a session, which takes as long as several steps, and what was planned is lost with the session. But states that one
// session has written reach another through the host. So programs join in one session, planned anew, when handing states over
// has cost as much time as that planning will: at worst twice the time that knowing the future would have needed.

import { GraphError, type HostTensor, type MemoryLedger } from '@dynconv/core'
import { passesGuard, type Source } from '../executor.ts'
import { type Binding, Session } from './binding.node.ts'
import { type Bundle, buildBundle, emptyFeed, type Program } from './build.ts'
import type { Target } from './lowering.ts'
import type { ProgramQuirks } from './primitives.ts'
import type { Holder, SessionState } from './state.ts'

/** What programs are written for and run on. */
export interface Platform {
  readonly binding: Binding
  readonly quirks: ProgramQuirks
  readonly target: Target
  readonly ledger: MemoryLedger
  /** Whether sessions join that spent so many seconds on handing states over, and on planning. */
  readonly joins: (handedOver: number, planned: number) => boolean
}

/** The rule of the head of this file. */
export function joinsWhenPaid(handedOver: number, planned: number): boolean {
  return handedOver > planned
}

/** A program, in whichever session it is. */
export class Member {
  readonly source: Source
  readonly state: SessionState | undefined
  readonly #platform: Platform
  #group: Group

  /** @throws GraphError when TensorFlow refuses the program */
  constructor(platform: Platform, source: Source, state: SessionState | undefined) {
    this.#platform = platform
    this.source = source
    this.state = state
    this.#group = new Group(platform, [this], state)
  }

  /** What was chosen, a line each. */
  get notes(): readonly string[] {
    const { bundle } = this.#group
    return [`program: ${this.source.graph.nodes.length} nodes became ${bundle.graph.nodes.length} of TensorFlow`, ...this.#program().notes]
  }

  /** One step: its outputs; states have changed when it is over, or, when it throws, have not. */
  run(inputs: readonly HostTensor[]): readonly HostTensor[] {
    this.#settle()
    return this.#group.step(this.#program(), this.source, inputs)
  }

  /** Leaves its session. */
  dispose(): void {
    this.#group.remove(this)
  }

  #program(): Program {
    return this.#group.programOf(this)
  }

  // Its session has all that it reads.
  #settle(): void {
    const { states } = this.#program()
    if (!this.state || states.length === 0) return
    const owners = this.state.owners(this.#group, states).filter((owner) => owner instanceof Group)
    if (owners.length > 0) {
      const all = [this.#group, ...owners]
      const planned = all.reduce((sum, group) => sum + group.plannedSeconds, 0)
      if (this.#platform.joins(this.#group.handedOverSeconds, planned)) {
        const members = all.flatMap((group) => group.members)
        const joined = new Group(this.#platform, members, this.state)
        for (const group of all) group.close()
        for (const member of members) member.#group = joined
      }
    }
    this.#group.take(states, owners.length > 0)
  }
}

// One session.
class Group implements Holder {
  readonly bundle: Bundle
  readonly #members: readonly Member[]
  readonly #left: Set<Member>
  readonly #state: SessionState | undefined
  readonly #session: Session
  readonly #release: () => void
  readonly #stepped: Set<Program> = new Set()
  /** What loading and first runs took. */
  plannedSeconds: number
  /** What values took that came from other sessions. */
  handedOverSeconds: number = 0

  constructor({ binding, quirks, target, ledger }: Platform, members: readonly Member[], state: SessionState | undefined) {
    this.#members = members
    this.#left = new Set(members)
    this.#state = state
    this.bundle = buildBundle(members.map((m) => m.source), quirks, target)
    const start = performance.now()
    try {
      this.#session = new Session(binding, this.bundle.graph.toProto())
    } catch (cause) {
      throw new GraphError(`tfjs: TensorFlow refused the program: ${messageOf(cause)}`, { cause })
    }
    this.plannedSeconds = secondsSince(start)
    const { count, bytes } = this.bundle.graph.constants
    this.#release = ledger.hold(count, bytes)
  }

  get members(): readonly Member[] {
    return [...this.#left]
  }

  programOf(member: Member): Program {
    const program = this.bundle.programs[this.#members.indexOf(member)]
    if (!program) throw new GraphError('tfjs: the program is not in this session')
    return program
  }

  step(program: Program, source: Source, inputs: readonly HostTensor[]): readonly HostTensor[] {
    const { nothing } = this.bundle
    const feeds = program.inputs.flatMap(({ value }, i) => inputs.slice(i, i + 1).map((input) => ({ to: value, value: input })))
    const fetches = program.outputs.map(({ value, dtype, shape }) => ({ from: value, dtype, shape }))
    const start = performance.now()
    let results: readonly HostTensor[]
    try {
      results = this.#session.run(feeds.length ? feeds : [{ to: nothing, value: emptyFeed }], fetches.length ? fetches : [{ from: program.done, dtype: 'int32', shape: [] }])
    } catch (cause) {
      throw new Error(`tfjs: the run failed; no state was changed: ${messageOf(cause)}`, { cause })
    }
    if (!this.#stepped.has(program)) this.plannedSeconds += secondsSince(start)
    this.#stepped.add(program)
    const outputs = results.slice(0, program.outputs.length)
    if (passesGuard(source, outputs)) this.#state?.written(this, program.written)
    return outputs
  }

  /** Gives its variables the values of `names`. */
  take(names: readonly string[], fromOthers: boolean): void {
    const state = this.#state
    const lacking = new Set(state?.lacking(this, names))
    if (!state || lacking.size === 0) return
    const start = performance.now()
    const values = state.values([...lacking])
    const taken = this.bundle.states.flatMap((s) => {
      const value = lacking.has(s.name) ? values.get(s.name) : undefined
      return value ? [{ ...s, value }] : []
    })
    this.#session.run(taken.map(({ feed, value }) => ({ to: feed, value })), taken.map(({ ready }) => ({ from: ready, dtype: 'int32', shape: [] })))
    state.loaded(this, [...lacking])
    if (fromOthers) this.handedOverSeconds += secondsSince(start)
  }

  readAll(): ReadonlyMap<string, HostTensor> {
    const { states, nothing } = this.bundle
    const values = this.#session.run([{ to: nothing, value: emptyFeed }], states.map((s) => ({ from: s.value, dtype: s.dtype, shape: s.shape })))
    return new Map(values.flatMap((value, i) => states.slice(i, i + 1).map((s) => [s.name, value] as const)))
  }

  remove(member: Member): void {
    this.#left.delete(member)
    if (this.#left.size === 0) this.close()
  }

  close(): void {
    this.#state?.leave(this)
    this.#session.close()
    this.#release()
  }
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
