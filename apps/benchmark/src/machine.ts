// What a measurement ran on.

import { availableParallelism, cpus, platform, totalmem } from 'node:os'

/** The machine and the versions, for the head of a report. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly platform: string
  readonly node: string
  readonly backend: string
  readonly peer: string
  readonly date: string
}

/** This machine. */
export function describeMachine(backend: string, peer: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${platform()} ${process.arch}`,
    node: process.version,
    backend,
    peer,
    date: new Date().toISOString(),
  }
}

/** glibc's allocator as both sides get it: large blocks are kept instead of being returned and faulted in again. */
const tunables = 'glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864'

/** The environment of a measuring process, or undefined when this process already has it (or has no glibc). */
export function measuringEnvironment(): NodeJS.ProcessEnv | undefined {
  if (platform() !== 'linux' || process.env.GLIBC_TUNABLES === tunables) return undefined
  return { ...process.env, GLIBC_TUNABLES: tunables }
}
