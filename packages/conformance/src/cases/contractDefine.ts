// What a case of the contract is, and how it collects what is wrong.

import { type Backend, type HostTensor, type StateInit, type StateStore, toFloat64 } from '@dynconv/core'

/** Something that a backend must keep to. */
export interface ContractCase {
  readonly id: string
  /** Does what the case is about, and gives what is wrong, a text each; `create` starts the engine once more. */
  readonly check: (backend: Backend, create: () => Promise<Backend>) => Promise<readonly string[]>
}

/** The elements; none of what is missing. */
export function numbers(t: HostTensor | undefined): readonly number[] {
  return t ? [...toFloat64(t)] : []
}

/** Collects what is wrong. */
export class Findings {
  readonly problems: string[] = []

  same(what: string, got: readonly number[], wanted: readonly number[]): void {
    const equal = got.length === wanted.length && got.every((v, i) => v === wanted[i])
    if (!equal) this.problems.push(`${what}: got [${got.join(', ')}], expected [${wanted.join(', ')}]`)
  }

  that(what: string, holds: boolean): void {
    if (!holds) this.problems.push(what)
  }

  /** Nothing must be wrong with something. */
  none(what: string, problem: string | undefined): void {
    if (problem !== undefined) this.problems.push(`${what}: ${problem}`)
  }

  /** `body` must reject with an error of class `expected`, whose message holds each of `named`. */
  async refuses(what: string, expected: new (...args: never[]) => Error, body: () => Promise<unknown>, ...named: readonly string[]): Promise<void> {
    try {
      await body()
      this.problems.push(`${what}: nothing was thrown, expected ${expected.name}`)
    } catch (error) {
      if (error instanceof expected) {
        for (const text of named) this.that(`${what}: the message says nothing of ${text}: ${error.message}`, error.message.includes(text))
        return
      }
      this.problems.push(`${what}: got ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}, expected ${expected.name}`)
    }
  }
}

/** A case from what it does. */
export function contract(name: string, body: (backend: Backend, found: Findings, create: () => Promise<Backend>) => Promise<void>): ContractCase {
  return {
    id: `contract[${name}]`,
    check: async (backend, create) => {
      const found = new Findings()
      await body(backend, found, create)
      return found.problems
    },
  }
}

/** Runs `body` on states, which are disposed whatever it finds. */
export async function withStore(backend: Backend, initial: readonly StateInit[], body: (store: StateStore) => Promise<void>): Promise<void> {
  const store = await backend.createState(initial)
  try {
    await body(store)
  } finally {
    store.dispose()
  }
}
