// The run on a real adapter in Node. It must be started in an environment in which there is one (main.ts does).

import { referenceBackend } from '@dynconv/core'
import { webgpu } from '../src/index.ts'
import { everything, formatOutcome, runPart } from './suite.ts'
import { losses, lossesDiffer } from './training.ts'

const say = (line: string): boolean => process.stdout.write(`${line}\n`)
const backend = await webgpu()
say(backend.capabilities.device)
let failed = 0
let passed = 0

const [ours, reference] = [await losses(backend, 12), await losses(referenceBackend(), 12)]
const difference = lossesDiffer(ours, reference)
say(difference ?? `training: 12 steps of a dynamic network from loss ${ours[0]?.toFixed(4)} to ${ours.at(-1)?.toFixed(4)}, as the reference`)
if (difference !== undefined || !((ours.at(-1) ?? Infinity) < (ours[0] ?? 0) * 0.7)) failed++
else passed++
await backend.dispose()

for (const part of everything) {
  const outcome = await runPart(part)
  say(formatOutcome(outcome))
  passed += outcome.passed
  failed += outcome.failed + (outcome.problems.length > outcome.failed ? 1 : 0)
  if (outcome.passed === 0) failed++
}
say(`webgpu in Node: ${passed} passed, ${failed} failed`)
// Dawn's threads would keep the process for a while.
process.exit(failed > 0 ? 1 : 0)
