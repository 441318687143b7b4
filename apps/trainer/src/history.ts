// A run's metrics.jsonl: one JSON object a line, one for each step and one for each epoch, in the order in which they
// happened. A resumed run drops what came after its checkpoint, so that the file always tells one history.

import { appendFileSync } from 'node:fs'
import { FileError, readFileBytes, writeFileAtomic } from '@dynconv/core/node'

/** A training step. */
export interface StepRecord {
  readonly type: 'step'
  /** Counted from 1. */
  readonly epoch: number
  /** Updates made, this one included. */
  readonly step: number
  /** The mean over the batch. */
  readonly loss: number
  /** Right answers in the batch. */
  readonly correct: number
  readonly samples: number
  /** The rate of this update. */
  readonly lr: number
  /** Of this step, the making of the batch included; the first one compiles the program. */
  readonly seconds: number
}

/** A whole epoch. */
export interface EpochRecord {
  readonly type: 'epoch'
  /** Epochs completed, this one included. */
  readonly epoch: number
  /** Updates made. */
  readonly step: number
  readonly trainLoss: number
  /** Fraction of right answers while training, on augmented images. */
  readonly trainAccuracy: number
  readonly testLoss: number
  readonly testAccuracy: number
  readonly temperature: number
  /** Of each dynamic layer's mixture: mean entropy over test images, as a fraction of the largest possible (log K). */
  readonly entropy: { readonly [layer: string]: number }
  /** Of the steps. */
  readonly seconds: number
  /** Of the evaluation. */
  readonly testSeconds: number
}

/** A line of metrics.jsonl. */
export type MetricsRecord = StepRecord | EpochRecord

/** The history of a run, in memory and in its file. */
export class History {
  readonly file: string
  readonly #steps: StepRecord[] = []
  readonly #epochs: EpochRecord[] = []

  constructor(file: string, records: readonly MetricsRecord[] = []) {
    this.file = file
    for (const record of records) this.#keep(record)
  }

  get steps(): readonly StepRecord[] {
    return this.#steps
  }

  get epochs(): readonly EpochRecord[] {
    return this.#epochs
  }

  /** The steps of one epoch, counted from 1. */
  stepsOf(epoch: number): readonly StepRecord[] {
    return this.#steps.filter((s) => s.epoch === epoch)
  }

  /** Adds a line. It is with the system when this returns, so that a killed process loses nothing. @throws FileError */
  add(record: MetricsRecord): void {
    try {
      appendFileSync(this.file, `${JSON.stringify(record)}\n`)
    } catch (cause) {
      throw new FileError(`cannot write ${this.file}: ${cause instanceof Error ? cause.message : String(cause)}`, { file: this.file, cause })
    }
    this.#keep(record)
  }

  #keep(record: MetricsRecord): void {
    if (record.type === 'step') this.#steps.push(record)
    else this.#epochs.push(record)
  }
}

/** A new, empty history. @throws FileError when it cannot be written */
export async function startHistory(file: string): Promise<History> {
  await writeFileAtomic(file, '')
  return new History(file)
}

/** The history up to `steps` updates and `epochs` epochs; what came later is dropped from the file too. @throws FileError */
export async function resumeHistory(file: string, steps: number, epochs: number): Promise<History> {
  const records = (await readHistory(file)).filter((r) => (r.type === 'step' ? r.step <= steps : r.epoch <= epochs))
  await writeFileAtomic(file, records.map((r) => `${JSON.stringify(r)}\n`).join(''))
  return new History(file, records)
}

/** The records of a metrics.jsonl. A last line that was cut off is left out. @throws FileError, or Error for another damage */
export async function readHistory(file: string): Promise<readonly MetricsRecord[]> {
  const lines = new TextDecoder().decode(await readFileBytes(file)).split('\n')
  const cut = lines.pop()
  const whole = cut === '' || cut === undefined ? lines : [...lines, cut]
  return whole.flatMap((line, i) => {
    try {
      const record: unknown = JSON.parse(line)
      if (isRecord(record)) return [record]
    } catch (cause) {
      if (i === whole.length - 1) return []
      throw new Error(`${file}: line ${i + 1} is not JSON; restore the file, or delete it and start anew`, { cause })
    }
    throw new Error(`${file}: line ${i + 1} is no record of a step or an epoch`)
  })
}

/** The median over epochs, which the first one’s compilation does not touch. */
export function secondsPerEpoch(epochs: readonly EpochRecord[]): number {
  const sorted = epochs.map((e) => e.seconds).sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2
}

function isRecord(value: unknown): value is MetricsRecord {
  const field = (name: string): unknown => (typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined)
  return (field('type') === 'step' || field('type') === 'epoch') && Number.isSafeInteger(field('step')) && Number.isSafeInteger(field('epoch'))
}
