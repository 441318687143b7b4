// Ctrl-C: the first asks the run to finish its step, save and stop; a second one ends the process at once. SIGTERM, which
// systems send before they take a machine away, counts as Ctrl-C.

import { constants } from 'node:os'
import { setImmediate } from 'node:timers/promises'

/** Whether somebody wants the run to stop. */
export interface Interrupt {
  /** Lets signals in (the engine's runs block the event loop), then tells whether one came. */
  poll(): Promise<boolean>
}

/** Nobody ever does. */
export const uninterrupted: Interrupt = { poll: () => Promise.resolve(false) }

/** Signals to this process. */
export interface SignalInterrupt extends Interrupt, Disposable {
  /** What the process exits with once it has stopped, as shells count it: 130 after Ctrl-C. */
  readonly exitCode: number
}

// One press may arrive twice: from the terminal, and passed on by the command that started this process.
const SAME_PRESS_MS = 300

/** Listens for SIGINT and SIGTERM until disposed. `announce` is called at the first. */
export function listenForInterrupt(announce: () => void): SignalInterrupt {
  let since: number | undefined
  let exitCode = 0
  const listener = (signal: 'SIGINT' | 'SIGTERM'): void => {
    const now = performance.now()
    if (since === undefined) {
      since = now
      exitCode = 128 + constants.signals[signal]
      announce()
    } else if (now - since > SAME_PRESS_MS) {
      process.exit(exitCode)
    }
  }
  process.on('SIGINT', listener)
  process.on('SIGTERM', listener)
  return {
    get exitCode() {
      return exitCode
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
