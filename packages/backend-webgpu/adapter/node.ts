// The run on a real adapter in Node. It must be started in an environment in which there is one (main.ts does).

import { webgpu } from '../src/index.ts'
import { everything, formatOutcome, runPart } from './suite.ts'
import { hasLearned, losses, lossesDiffer } from './training.ts'
import { referenceLosses, trainingData } from './trainingData.ts'

const say = (line: string): boolean => process.stdout.write(`${line}\n`)
const backend = await webgpu()
say(backend.capabilities.device)
let failed = 0
let passed = 0

const data = await trainingData()
const start = performance.now()
const ours = await losses(backend, data)
const seconds = (performance.now() - start) / 1000
const difference = lossesDiffer(ours, await referenceLosses(data))
say(difference ?? `the quickstart's network: losses ${ours.map((l) => l.toFixed(4)).join(', ')}, as ONNX Runtime's (${seconds.toFixed(0)} s)`)
const { liveTensors } = backend.memory()
say(`${liveTensors} tensors left alive`)
if (difference !== undefined || !hasLearned(ours) || liveTensors > 0) failed++
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
