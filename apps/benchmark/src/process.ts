// What a measuring process needs of the system: the allocator as both sides get it, and Ctrl-C that ends the run in order.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { platform } from 'node:os'

/** glibc's allocator as both sides get it: large blocks are kept instead of being returned and faulted in again. */
const tunables = 'glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864'

/** The environment of a measuring process, or undefined when this process already has it (or has no glibc). */
export function measuringEnvironment(): NodeJS.ProcessEnv | undefined {
  if (platform() !== 'linux' || process.env.GLIBC_TUNABLES === tunables) return undefined
  return { ...process.env, GLIBC_TUNABLES: tunables }
}

/** The environment of a process whose memory is measured: the allocator as a user has it. */
export function ordinaryEnvironment(): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: given, ...rest } = process.env
  return given === undefined || given === tunables ? rest : { ...rest, GLIBC_TUNABLES: given }
}

const signals = ['SIGINT', 'SIGTERM'] as const

/**
 * Does the same command again in a process with the measuring environment (glibc reads its tunables when a process starts),
 * and gives its exit code; undefined when this process will do.
 */
export async function inMeasuringEnvironment(): Promise<number | undefined> {
  const environment = measuringEnvironment()
  if (!environment) return undefined
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { env: environment, stdio: 'inherit' })
  // The other process ends the run in order; this one waits for it.
  const forward = (signal: NodeJS.Signals): boolean => child.kill(signal)
  for (const signal of signals) process.on(signal, forward)
  try {
    await once(child, 'exit')
  } finally {
    for (const signal of signals) process.off(signal, forward)
  }
  return child.exitCode ?? 1
}

/** The user (or the system) wants the run to end. */
export class InterruptedError extends Error {
  override readonly name: string = 'InterruptedError'
  readonly exitCode: number

  constructor(signal: (typeof signals)[number]) {
    super('interrupted; nothing was written')
    this.exitCode = signal === 'SIGINT' ? 130 : 143
  }
}

/** Runs `work` with a signal that Ctrl-C aborts. @throws InterruptedError when it was aborted, whatever broke on the way */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const stop = (signal: NodeJS.Signals): void => controller.abort(new InterruptedError(signal === 'SIGTERM' ? signal : 'SIGINT'))
  for (const signal of signals) process.on(signal, stop)
  try {
    return await work(controller.signal)
  } catch (error) {
    controller.signal.throwIfAborted()
    throw error
  } finally {
    for (const signal of signals) process.off(signal, stop)
  }
}
