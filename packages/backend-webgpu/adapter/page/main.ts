// The page that browser.ts opens: trains, reads back and runs the suite or a share of it, and leaves what it saw in `result`.

import { tensor, trace } from '@dynconv/core'
import { webgpu } from '../../src/index.ts'
import { formatOutcome, type Outcome, runPart, share, whole } from '../suite.ts'
import { losses, type TrainingData } from '../training.ts'

/** What the page is given. */
export interface PageInput {
  readonly data: TrainingData
  readonly all: boolean
}

/** What the page saw. */
export interface PageResult {
  readonly device: string
  readonly losses: readonly number[]
  readonly trainingSeconds: number
  readonly readBack: readonly number[]
  readonly liveTensors: number
  readonly outcomes: readonly Outcome[]
}

async function run({ data, all }: PageInput): Promise<PageResult> {
  const backend = await webgpu()
  const start = performance.now()
  const list = await losses(backend, data)
  const trainingSeconds = (performance.now() - start) / 1000
  const { graph } = trace((x) => x.mul(2).add(1), { inputs: [{ shape: [4] }] })
  const executable = await backend.compile(graph)
  const x = await backend.upload(tensor([1, 2, 3, 4]))
  const [y] = await executable.run([x])
  x.dispose()
  executable.dispose()
  const { liveTensors } = backend.memory()
  const device = backend.capabilities.device
  await backend.dispose()
  const outcomes: Outcome[] = []
  for (const part of all ? whole : share) {
    const outcome = await runPart(part)
    // oxlint-disable-next-line no-console -- the page's way to say how far it is
    console.log(formatOutcome(outcome))
    outcomes.push(outcome)
  }
  return { device, losses: list, trainingSeconds, readBack: [...(y?.data ?? [])], liveTensors, outcomes }
}

declare global {
  var input: PageInput
  var result: Promise<PageResult>
}

globalThis.result = run(globalThis.input)
