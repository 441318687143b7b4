// The process that measures the peak memory of one variant (memory.ts starts it): one JSON task in, one JSON line out.

import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { startEngine } from '@dynconv/app-kit/engines'
import { randomImages } from './images.ts'
import type { MemoryTask, PeakMemory } from './memory.ts'
import { forgetNetworks } from './networks.ts'
import { ownNetwork, ownProgram } from './ours.ts'
import { inputShape } from './workloads.ts'

const RUNS = 5

try {
  console.log(JSON.stringify(await measure(JSON.parse(process.argv[2] ?? '{}') as MemoryTask)))
  // An engine may keep threads that would hold the process.
  process.exit(0)
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exit(1)
}

async function measure(task: MemoryTask): Promise<PeakMemory> {
  const { backend } = await startEngine(task.engine, task)
  const images = randomImages(inputShape(task.workload))
  await collect()
  const baseline = statusBytes('VmRSS')
  forgetPeak()
  const program = await ownProgram(ownNetwork(task.workload, task.choice), task.workload, images, backend)
  await program.work()
  const loadBytes = statusBytes('VmHWM') - baseline
  // What runs is a compiled network: the one that it was compiled from is no longer needed.
  forgetNetworks()
  await collect()
  forgetPeak()
  for (let i = 0; i < RUNS; i++) await program.work()
  const runBytes = statusBytes('VmHWM') - baseline
  program.dispose()
  await backend.dispose()
  return { loadBytes, runBytes }
}

// A second time for what the first set free, and with a rest: the memory of arrays is given back by another thread.
async function collect(): Promise<void> {
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.()
    await setTimeout(100)
  }
}

// Of proc_pid_status(5): resident now, and the most since the mark was reset.
function statusBytes(field: 'VmRSS' | 'VmHWM'): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))
  if (!found) throw new Error(`there is no ${field} in /proc/self/status`)
  return Number(found[1]) * 1024
}

// Of proc_pid_clear_refs(5): 5 sets the mark to what is resident now.
function forgetPeak(): void {
  writeFileSync('/proc/self/clear_refs', '5')
}
