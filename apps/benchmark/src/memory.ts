// Peak memory. Each variant runs in a process of its own (memoryChild.ts), which reads from the system how far its resident
// memory rose above what it was with the engine loaded and nothing built: once for building, compiling and the first run,
// and once more, the mark reset, for the runs after. Everything counts: weights, activations, the engine's scratch memory,
// the garbage collector's slack. The allocator is the one that users have, not the raised thresholds of the times.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Choice } from './ours.ts'
import { ordinaryEnvironment } from './process.ts'
import type { Workload } from './workloads.ts'

/** Bytes above the engine's own. */
export interface PeakMemory {
  /** Building the network, compiling it, and its first run. */
  readonly loadBytes: number
  /** The runs after. */
  readonly runBytes: number
}

/** What a child measures. */
export interface MemoryTask {
  readonly engine: string
  readonly threads: number
  readonly workload: Workload
  readonly choice: Choice
}

/** Measures in a child. @throws Error with what the child said last */
export async function ownPeakMemory(task: MemoryTask, signal?: AbortSignal, execArgv: readonly string[] = process.execArgv): Promise<PeakMemory> {
  const script = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './memoryChild.ts' : './memoryChild.js', import.meta.url))
  const child = spawn(process.execPath, [...execArgv, '--expose-gc', script, JSON.stringify(task)], { env: ordinaryEnvironment(), stdio: ['ignore', 'pipe', 'pipe'], ...(signal ? { signal } : {}) })
  let out = ''
  let errors = ''
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString()
  })
  const [code] = await once(child, 'close')
  const last = out.trim().split('\n').at(-1)
  if (code !== 0 || !last) throw new Error(`peak memory: ${errors.trim().split('\n').at(-1) || `the process ended with ${String(code)}`}`)
  return JSON.parse(last) as PeakMemory
}
