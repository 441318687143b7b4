// Ctrl-C: the first asks the run to finish its step, save and stop; a second one ends the process at once.

import { setImmediate } from 'node:timers/promises'

/** Whether somebody wants the run to stop. */
export interface Interrupt {
  readonly requested: boolean
  /** Lets signals in: the engine's runs block the event loop. */
  poll(): Promise<boolean>
}

/** Nobody ever does. */
export const uninterrupted: Interrupt = { requested: false, poll: () => Promise.resolve(false) }

/** A process's exit code after SIGINT, as shells count it. */
export const INTERRUPTED = 130

// One press may arrive twice: from the terminal, and passed on by the command that started this process.
const SAME_PRESS_MS = 300

/** Listens for SIGINT and SIGTERM until disposed. `announce` is called at the first. */
export function listenForInterrupt(announce: () => void): Interrupt & Disposable {
  let since: number | undefined
  const listener = (): void => {
    const now = performance.now()
    if (since === undefined) {
      since = now
      announce()
    } else if (now - since > SAME_PRESS_MS) {
      process.exit(INTERRUPTED)
    }
  }
  process.on('SIGINT', listener)
  process.on('SIGTERM', listener)
  return {
    get requested() {
      return since !== undefined
    },
    async poll() {
      await setImmediate()
      return since !== undefined
    },
    [Symbol.dispose]() {
      process.off('SIGINT', listener)
      process.off('SIGTERM', listener)
    },
  }
}
