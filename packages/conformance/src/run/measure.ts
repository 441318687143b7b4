// How long a program takes, and what it weighs.

import type { Backend } from '@dynconv/core'
import type { Program } from '../expect/program.ts'
import { withCensus, withProgram } from './execute.ts'

/** What was measured; what does not apply is left out. */
export interface Figures {
  /** The median of the runs after the first. */
  readonly medianMilliseconds?: number
  readonly runs?: number
  /** From the graph to an executable. */
  readonly compileMilliseconds?: number
  /** Alive between runs: states, constants, what the program keeps. */
  readonly liveBytes?: number
  /** The most that was alive at once. */
  readonly peakBytes?: number
}

const budgetMilliseconds = 200
const mostRuns = 25

/** Runs `program` a while. */
export async function measureTime(backend: Backend, program: Program): Promise<Figures> {
  const start = performance.now()
  return withProgram(backend, program, true, async (executable) => {
    const compileMilliseconds = performance.now() - start
    const inputs = program.runs[0] ?? []
    await executable.run(inputs)
    const times: number[] = []
    while (times.length < 3 || (times.length < mostRuns && times.reduce((a, b) => a + b, 0) < budgetMilliseconds)) {
      const before = performance.now()
      await executable.run(inputs)
      times.push(performance.now() - before)
      if (times.reduce((a, b) => a + b, 0) > 5 * budgetMilliseconds) break
    }
    const sorted = times.toSorted((a, b) => a - b)
    return { medianMilliseconds: sorted[Math.floor(sorted.length / 2)] ?? Number.NaN, runs: times.length, compileMilliseconds }
  })
}

/** Weighs `program` on an engine of its own; notes in `problems` where memory grows from run to run, or stays behind. */
export async function measureMemory(create: () => Promise<Backend>, program: Program, problems: string[]): Promise<Figures> {
  const backend = await create()
  const figures: { liveBytes: number; peakBytes: number } = { liveBytes: 0, peakBytes: 0 }
  try {
    await withCensus(backend, problems, () =>
      withProgram(backend, program, true, async (executable) => {
        const inputs = program.runs[0] ?? []
        await executable.run(inputs)
        const { liveBytes } = backend.memory()
        await executable.run(inputs)
        const after = backend.memory()
        if (after.liveBytes !== liveBytes) problems.push(`memory: ${liveBytes} bytes are alive after one run, ${after.liveBytes} after two`)
        if (after.peakBytes < after.liveBytes) problems.push(`memory: the peak of ${after.peakBytes} bytes is below the ${after.liveBytes} that are alive`)
        Object.assign(figures, { liveBytes: after.liveBytes, peakBytes: after.peakBytes })
      }),
    )
  } finally {
    await backend.dispose()
  }
  return figures
}
