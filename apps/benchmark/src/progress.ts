// What a person at a terminal sees while measuring: a bar. Where standard error is no terminal (a log file, CI), a line for each
// piece of work instead.

import { SingleBar } from 'cli-progress'

/** A bar for one thing after another. */
export interface Progress {
  readonly show: (what: string, done: number, total: number) => void
  readonly stop: () => void
}

/** A bar on standard error. */
export function progressBar(): Progress {
  const out = process.stderr
  const bar = out.isTTY
    ? new SingleBar({ format: '{bar} {percentage} % | {what} | {eta_formatted} left', hideCursor: true, clearOnComplete: true, barsize: 24, stream: out })
    : undefined
  let current = ''
  return {
    show(what, done, total) {
      if (what !== current) {
        bar?.stop()
        bar?.start(total, done, { what })
        if (!bar) out.write(`${what}\n`)
      }
      current = what
      bar?.update(done, { what })
    },
    stop: () => bar?.stop(),
  }
}
