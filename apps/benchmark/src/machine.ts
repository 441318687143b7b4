// What a measurement ran on.

import { availableParallelism, cpus, platform, totalmem } from 'node:os'

/** The machine and the versions, for the head of a report. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly platform: string
  readonly node: string
  /** Our engines, each with what runs it. */
  readonly engines: readonly string[]
  readonly peers: readonly string[]
  readonly date: string
}

/** This machine. */
export function describeMachine(engines: readonly string[], peers: readonly string[]): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${platform()} ${process.arch}`,
    node: process.version,
    engines,
    peers,
    date: new Date().toISOString(),
  }
}
