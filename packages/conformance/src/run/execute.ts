// Runs a program on an engine, and says what is wrong: with the results, with a second run of the same, with what lies
// beside the inputs, and with what is left in memory.

import { type Backend, copyHostTensor, type Executable, type Graph, type HostTensor, type MemoryReport, prepare, type StateStore } from '@dynconv/core'
import { compare, formatDifference } from '../expect/compare.ts'
import type { Expectation } from '../expect/expectation.ts'
import type { Program } from '../expect/program.ts'
import { GuardedInput, sameBits } from './guards.ts'

/** How to run. */
export interface ExecuteOptions {
  /** Whether core's passes come first. */
  readonly prepared: boolean
  /** Whether a second run may differ within the tolerance. */
  readonly mayVary: boolean
  /** What the engine's own sentinels say after the run. */
  readonly checkGuards?: (() => readonly string[] | Promise<readonly string[]>) | undefined
}

/** The graph that the engine gets. */
export function graphFor(program: Program, backend: Backend, prepared: boolean): Graph {
  return prepared ? prepare(program.graph, backend).graph : program.graph
}

/**
 * Runs `program` and compares with `expected`; gives what is wrong, a text each.
 *
 * @throws what the engine throws, UnsupportedOpError among it
 */
export async function execute(backend: Backend, program: Program, expected: Expectation, options: ExecuteOptions): Promise<readonly string[]> {
  const problems: string[] = []
  await withCensus(backend, problems, () =>
    withProgram(backend, program, options.prepared, async (executable, store) => {
      problems.push(...(await runTwice(executable, store, program, expected, options.mayVary)))
    }),
  )
  problems.push(...((await options.checkGuards?.()) ?? []))
  return problems
}

/** Compiles `program`, with its states, for `body`; disposes all of it afterwards. */
export async function withProgram<T>(backend: Backend, program: Program, prepared: boolean, body: (executable: Executable, store: StateStore | undefined) => Promise<T>): Promise<T> {
  const store = program.states.length ? await backend.createState(program.states) : undefined
  try {
    const executable = await backend.compile(graphFor(program, backend, prepared), store ? { state: store } : {})
    try {
      return await body(executable, store)
    } finally {
      executable.dispose()
    }
  } finally {
    store?.dispose()
  }
}

/** Runs `body` and notes when it leaves something alive. */
export async function withCensus(backend: Backend, problems: string[], body: () => Promise<void>): Promise<void> {
  const before = backend.memory()
  try {
    await body()
  } finally {
    let after = backend.memory()
    if (!sameLive(before, after)) {
      // An engine may free what it freed only at the next turn.
      await new Promise((resolve) => setTimeout(resolve, 0))
      after = backend.memory()
    }
    if (!sameLive(before, after)) {
      const tensors = after.liveTensors - before.liveTensors
      problems.push(`leak: after everything was disposed, ${tensors} tensors (${after.liveBytes - before.liveBytes} bytes) more are alive than before`)
    }
  }
}

function sameLive(a: MemoryReport, b: MemoryReport): boolean {
  return a.liveTensors === b.liveTensors && a.liveBytes === b.liveBytes
}

interface Pass {
  /** As the engine gave them. */
  readonly outputs: readonly (readonly HostTensor[])[]
  /** Copies, made at once. */
  readonly copies: readonly (readonly HostTensor[])[]
  readonly states: readonly (readonly [name: string, value: HostTensor])[]
}

// First on other numbers, so that whatever is left of them would be seen; then twice on those that count.
async function runTwice(executable: Executable, store: StateStore | undefined, program: Program, expected: Expectation, mayVary: boolean): Promise<readonly string[]> {
  const inputs = program.runs.map((run) => run.map((t) => new GuardedInput(t)))
  const tensors = inputs.map((run) => run.map((g) => g.tensor))
  if (tensors.length === 1) await pass(executable, undefined, program, tensors.map((run) => run.map(reversed)))
  const first = await pass(executable, store, program, tensors)
  const second = await pass(executable, store, program, tensors)

  const problems: string[] = []
  expected.runs.forEach((wanted, r) => {
    const got = first.copies[r] ?? []
    if (got.length !== wanted.length) problems.push(`run ${r}: ${got.length} outputs instead of ${wanted.length}`)
    wanted.forEach((w, i) => {
      const difference = compare(got[i], w)
      if (difference) problems.push(formatDifference(difference))
    })
  })
  for (const w of expected.states) {
    const difference = compare(first.states.find(([name]) => w.name === `state ${name}`)?.[1], w)
    if (difference) problems.push(formatDifference(difference))
  }
  if (!mayVary) problems.push(...varying(first, second))
  first.outputs.forEach((run, r) =>
    run.forEach((t, i) => {
      const copy = first.copies[r]?.[i]
      if (copy && !sameBits(t, copy)) problems.push(`output ${i} of run ${r} changed when the program ran again: it is not the caller's own memory`)
    }),
  )
  inputs.flat().forEach((g, i) => {
    const problem = g.check()
    if (problem !== undefined) problems.push(`input ${i}: ${problem}`)
  })
  return problems
}

async function pass(executable: Executable, store: StateStore | undefined, program: Program, runs: readonly (readonly HostTensor[])[]): Promise<Pass> {
  for (const s of store ? program.states : []) await store?.write(s.name, s.data)
  const outputs: (readonly HostTensor[])[] = []
  const copies: (readonly HostTensor[])[] = []
  for (const inputs of runs) {
    const result = await executable.run(inputs)
    outputs.push(result)
    copies.push(result.map((t) => copyHostTensor(t)))
  }
  const states: (readonly [string, HostTensor])[] = []
  for (const s of store ? program.states : []) if (store) states.push([s.name, await store.read(s.name)])
  return { outputs, copies, states }
}

function varying(first: Pass, second: Pass): readonly string[] {
  const problems: string[] = []
  first.copies.forEach((run, r) =>
    run.forEach((t, i) => {
      const again = second.copies[r]?.[i]
      if (!again || !sameBits(t, again)) problems.push(`output ${i} of run ${r} is another one when the same is run again`)
    }),
  )
  first.states.forEach(([name, t], i) => {
    const again = second.states[i]?.[1]
    if (!again || !sameBits(t, again)) problems.push(`state ${name} is another one when the same is run again`)
  })
  return problems
}

// The same numbers in another order: still in every op's domain.
function reversed(t: HostTensor): HostTensor {
  const copy = copyHostTensor(t)
  copy.data.reverse()
  return copy
}
