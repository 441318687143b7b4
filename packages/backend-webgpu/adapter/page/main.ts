// The page that browser.ts opens: trains, reads back and runs a share of the suite, and leaves what it saw in `result`.

import { tensor, trace } from '@dynconv/core'
import { webgpu } from '../../src/index.ts'
import { type Outcome, runPart, share } from '../suite.ts'
import { losses } from '../training.ts'

/** What the page saw. */
export interface PageResult {
  readonly device: string
  readonly losses: readonly number[]
  readonly readBack: readonly number[]
  readonly liveTensors: number
  readonly outcomes: readonly Outcome[]
}

async function run(): Promise<PageResult> {
  const backend = await webgpu()
  const list = await losses(backend, 12)
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
  for (const part of share) outcomes.push(await runPart(part))
  return { device, losses: list, readBack: [...(y?.data ?? [])], liveTensors, outcomes }
}

declare global {
  var result: Promise<PageResult>
}

globalThis.result = run()
