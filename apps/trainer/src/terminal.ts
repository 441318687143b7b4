// What a person at a terminal sees of a run: a bar with the rate and the time left, and a line for each epoch. Where
// standard error is no terminal (a log file, CI), a line every ten seconds instead of the bar.

import { SingleBar } from 'cli-progress'
import { formatPercent, formatSeconds } from './format.ts'
import type { EpochRecord, StepRecord } from './history.ts'
import type { Progress } from './run.ts'

const LINE_EVERY_SECONDS = 10
/** Weight of the newest step in the moving means of loss and rate. */
const NEW = 0.1

/** Shows a run on standard error; `name` goes before each line where there are several runs. */
export function terminalProgress(name: string = ''): Progress {
  const out = process.stderr
  const lead = name ? `${name}: ` : ''
  const bar = out.isTTY
    ? new SingleBar({ format: `${lead}epoch {epoch} {bar} {percentage} % | loss {loss} | {rate} images/s | {left} left`, stream: out, hideCursor: true, clearOnComplete: true, barsize: 24 })
    : undefined
  let total = 0
  let epochs = 0
  let loss = 0
  let seconds = 0
  let seen = 0
  let lastLine = performance.now()

  const show = (record: StepRecord): void => {
    const fields = {
      epoch: `${record.epoch}/${epochs}`,
      loss: loss.toFixed(3),
      rate: Math.round(record.samples / seconds),
      left: formatSeconds((total - record.step) * seconds),
    }
    if (bar) {
      bar.update(record.step, fields)
    } else if (performance.now() - lastLine > LINE_EVERY_SECONDS * 1000) {
      lastLine = performance.now()
      out.write(`${lead}epoch ${fields.epoch}, step ${record.step}/${total}: loss ${fields.loss}, ${fields.rate} images/s, ${fields.left} left\n`)
    }
  }

  const start = (done: number): void => bar?.start(total, done, { epoch: `-/${epochs}`, loss: '-', rate: '-', left: '-' })

  return {
    begin(plan) {
      total = plan.totalSteps
      epochs = plan.epochs
      start(plan.steps)
    },
    step(record) {
      // The first step compiles; it says nothing of the rate.
      const newest = seen++ < 2 ? 1 : NEW
      loss += newest * (record.loss - loss)
      seconds += newest * (record.seconds - seconds)
      show(record)
    },
    epoch(record) {
      bar?.stop()
      out.write(`${lead}${epochLine(record, epochs)}\n`)
      if (record.epoch < epochs) start(record.step)
    },
    end() {
      bar?.stop()
    },
  }
}

/** An epoch as one line. */
export function epochLine(e: EpochRecord, epochs: number): string {
  const mixing = Object.values(e.entropy)
  const entropy = mixing.length ? ` | routing entropy ${(mixing.reduce((a, b) => a + b, 0) / mixing.length).toFixed(3)}` : ''
  const count = `${e.epoch}/${epochs}`.padStart(2 * `${epochs}`.length + 1)
  return `epoch ${count} | train ${e.trainLoss.toFixed(4)} ${formatPercent(e.trainAccuracy)} | test ${e.testLoss.toFixed(4)} ${formatPercent(e.testAccuracy)}${entropy} | ${formatSeconds(e.seconds)}`
}

/** Shows downloads on standard error. */
export function downloadProgress(): (progress: { readonly file: string; readonly receivedBytes: number; readonly totalBytes: number | undefined }) => void {
  let last = 0
  let file = ''
  return (progress) => {
    const now = performance.now()
    const done = progress.receivedBytes === progress.totalBytes
    if (progress.file === file && now - last < (process.stderr.isTTY ? 200 : LINE_EVERY_SECONDS * 1000) && !done) return
    last = now
    file = progress.file
    const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1)
    const text = `downloading ${file}: ${megabytes(progress.receivedBytes)}${progress.totalBytes === undefined ? '' : ` of ${megabytes(progress.totalBytes)}`} MB`
    process.stderr.write(process.stderr.isTTY ? `\r${text}\u001b[K${done ? '\n' : ''}` : `${text}\n`)
  }
}
