// A run's folder: the names of its files, whether it may be written, and what its checkpoints say of the run.

import { access, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Checkpoint, readCheckpoint, ValueError } from '@dynconv/core'
import { FileError, writeFileAtomic } from '@dynconv/core/node'
import { changeable, checkConfig, fieldNames, flag, type RunConfig } from './config.ts'
import type { DataFacts } from './data.ts'

/** The paths of a run's files, checkpoints without their extension. */
export function filesOf(out: string): { readonly last: string; readonly best: string; readonly metrics: string; readonly report: string } {
  return { last: join(out, 'last'), best: join(out, 'best'), metrics: join(out, 'metrics.jsonl'), report: join(out, 'report.html') }
}

/**
 * Makes sure, before anything expensive, that `out` can be written, and that no earlier run is there unless it may be.
 *
 * @throws FileError when it cannot be written; ValueError when it holds a run
 */
export async function prepareFolder(out: string, mayHoldRun: boolean): Promise<void> {
  const probe = join(out, '.dynconv-writable')
  await writeFileAtomic(probe, '')
  await rm(probe)
  const { last } = filesOf(out)
  const found = await access(`${last}.safetensors`).then(() => true, () => false)
  if (found && !mayHoldRun) throw new ValueError(`${out} already holds a run; add --resume to go on with it, --overwrite to replace it, or choose another --out`)
}

/** A run's last checkpoint and its configuration, with what `given` changes. @throws ValueError for a change that would make it another run */
export async function resumePoint(out: string, given: { readonly [name: string]: unknown }): Promise<{ readonly from: Checkpoint; readonly config: RunConfig }> {
  const { last } = filesOf(out)
  const from = await readCheckpoint(last).catch((cause: unknown) => {
    if (cause instanceof FileError && cause.code === 'ENOENT') throw new ValueError(`--resume: ${out} holds no run to go on with (${cause.file} is not there)`, { cause })
    throw cause
  })
  const stored = configOf(from)
  for (const name of fieldNames) {
    if (given[name] !== undefined && given[name] !== stored[name] && !changeable.includes(name)) {
      throw new ValueError(`--resume: ${flag(name)} is ${JSON.stringify(stored[name]) ?? 'not set'} in ${out} and cannot become ${JSON.stringify(given[name])}; leave it out, or start anew in another --out`)
    }
  }
  const config = checkConfig({ ...stored, ...Object.fromEntries(changeable.flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]]))) })
  return { from, config }
}

/** The configuration that a checkpoint carries. @throws ValueError when it is not of a run of this program */
export function configOf({ file, info }: Checkpoint): RunConfig {
  const config = info.extras?.['config']
  if (typeof config !== 'object' || config === null) throw new ValueError(`${file}: it holds no configuration; only checkpoints of this program do`)
  return checkConfig({ ...config })
}

/** What a checkpoint says of the data it was trained on. @throws ValueError when it says nothing */
export function factsIn({ file, info }: Checkpoint): DataFacts {
  const facts = info.extras?.['data']
  if (isFacts(facts)) return facts
  throw new ValueError(`${file}: it does not say what data it was trained on; only checkpoints of this program do`)
}

function isFacts(value: unknown): value is DataFacts {
  const field = (name: string): unknown => (typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined)
  const numbers = (name: string): boolean => {
    const list = field(name)
    return Array.isArray(list) && list.every(Number.isFinite)
  }
  return Array.isArray(field('classes')) && ['channels', 'height', 'width'].every((name) => Number.isSafeInteger(field(name))) && numbers('mean') && numbers('std')
}

/** The epoch with the best test accuracy so far; 0 before the first. */
export interface Best {
  readonly epoch: number
  readonly accuracy: number
}

/** What a checkpoint says of the best epoch. */
export function bestIn({ info }: Checkpoint): Best {
  const best: unknown = info.extras?.['best']
  const field = (name: string): unknown => (typeof best === 'object' && best !== null ? Reflect.get(best, name) : undefined)
  const epoch = field('epoch')
  const accuracy = field('accuracy')
  return typeof epoch === 'number' && typeof accuracy === 'number' ? { epoch, accuracy } : { epoch: 0, accuracy: -1 }
}

