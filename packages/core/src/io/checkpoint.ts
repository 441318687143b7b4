// Checkpoints: all that a resumed training needs, in one safetensors file. Parameters and buffers (the routings' temperature
// among them) have their PyTorch names, the optimizer's state stands under `optimizer.` (sums of accumulated gradients under
// `gradient.`), and one metadata entry holds the counters as JSON. Any safetensors reader can open it.

import { FormatError, GraphError, ValueError } from '../backend/errors.ts'
import { checkState, type Module, type StateDict } from '../nn/module.ts'
import type { Training } from '../train/trainer.ts'
import { readFileBytes, writeFileAtomic } from './files.ts'
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts'

/** What a checkpoint says beside its tensors. */
export interface CheckpointInfo {
  /** The updates made so far; undefined where it was saved without a training. */
  readonly steps?: number | undefined
  /** The batches accumulated since the last update. */
  readonly pending?: number | undefined
  /** The epochs completed. */
  readonly epoch?: number | undefined
  readonly seed?: number | undefined
  /** Anything of yours that JSON can hold. */
  readonly extras?: { readonly [name: string]: unknown } | undefined
}

/** A checkpoint that has been read. */
export interface Checkpoint {
  /** The path with its extension. */
  readonly file: string
  readonly state: StateDict
  readonly info: CheckpointInfo
}

const EXTENSION = '.safetensors'
const ENTRY = 'dynconv.checkpoint'
const VERSION = 1
/** What belongs to a training, not to its module. */
const TRAINING_PREFIXES: readonly string[] = ['optimizer.', 'gradient.']

/**
 * Saves `module` (with `training`: as it is on the device, with the optimizer's state and the count of updates) as
 * `<path>.safetensors`, and returns that name. The file is either whole or the one from before.
 *
 * @example await saveCheckpoint('run/last', net, training, { epoch: 3, seed: 1 })
 * @throws FileError when the file cannot be written; ValueError for an `info` that could not be read again
 */
export async function saveCheckpoint(path: string, module: Module, training?: Training, info: Omit<CheckpointInfo, 'pending' | 'steps'> = {}): Promise<string> {
  checkPair('saveCheckpoint', module, training)
  const file = fileName(path)
  // What could not be read again is refused before anything is written.
  checkInfo(info, (problem) => {
    throw new ValueError(`saveCheckpoint: ${problem}`)
  })
  const { state, ...counts } = training ? await training.snapshot() : { state: module.state() }
  // Of `info` only what is its own: it may be what a checkpoint loaded before said, with the counts of then.
  const { epoch, seed, extras } = info
  const entry = JSON.stringify({ version: VERSION, ...counts, epoch, seed, extras })
  // 'pt' tells other readers that names and shapes are PyTorch's.
  await writeFileAtomic(file, encodeSafetensors(state, new Map([['format', 'pt'], [ENTRY, entry]])))
  return file
}

/**
 * Reads a checkpoint into `module` and, where given, `training`, which then goes on as the saved one would have. Nothing
 * changes unless all fits.
 *
 * @example const { epoch = 0 } = await loadCheckpoint('run/last', net, training)
 * @throws FileError when it cannot be read; FormatError when it is damaged; ShapeError, with the first five differences,
 * when it is of another model
 */
export async function loadCheckpoint(path: string, module: Module, training?: Training): Promise<CheckpointInfo> {
  checkPair('loadCheckpoint', module, training)
  const checkpoint = await readCheckpoint(path)
  await restoreCheckpoint(checkpoint, module, training)
  return checkpoint.info
}

/**
 * A checkpoint without a module to put it in: to learn from `info` what to build. Element types that have no counterpart here are
 * converted, as decodeSafetensors says: weights saved in float64 are rounded to float32.
 *
 * @throws FileError, FormatError
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  const file = fileName(path)
  const { tensors, metadata } = decodeSafetensors(await readFileBytes(file), file)
  return { file, state: tensors, info: readInfo(metadata.get(ENTRY), file) }
}

/** The second half of `loadCheckpoint`. @throws ShapeError, as it does */
export async function restoreCheckpoint({ file, state, info }: Checkpoint, module: Module, training?: Training): Promise<void> {
  const who = `loadCheckpoint ${file}`
  if (!training) {
    const own = module.state()
    const wanted = new Map([...state].filter(([name]) => own.has(name) || !TRAINING_PREFIXES.some((prefix) => name.startsWith(prefix))))
    checkState(who, own, wanted, true)
    module.loadState(wanted)
    return
  }
  if (info.steps === undefined) {
    throw new GraphError(`${who}: it was saved without a training, so there is no optimizer state to go on from; call loadCheckpoint(path, module) before trainer()`)
  }
  checkState(who, await training.state(), state, true)
  await training.loadState(state, info.steps, info.pending)
}

function fileName(path: string): string {
  return path.endsWith(EXTENSION) ? path : path + EXTENSION
}

function checkPair(who: string, module: Module, training: Training | undefined): void {
  if (training && training.module !== module) throw new GraphError(`${who}: the training is of another module than the one given`)
}

// A file of other origin has no entry: its tensors are all it says.
function readInfo(text: string | undefined, file: string): CheckpointInfo {
  if (text === undefined) return {}
  const fail = (problem: string, cause?: unknown): never => {
    throw new FormatError(`metadata '${ENTRY}': ${problem}`, { file, offset: 8, cause })
  }
  let entry: unknown
  try {
    entry = JSON.parse(text)
  } catch (cause) {
    return fail('is not JSON', cause)
  }
  const version = isRecord(entry) ? entry['version'] : undefined
  if (version !== VERSION) return fail(`version must be ${VERSION}, got ${String(version)}; it was written by another version of dynconv`)
  return checkInfo(entry, fail)
}

function checkInfo(entry: unknown, fail: (problem: string) => never): CheckpointInfo {
  const field = (name: string): unknown => (isRecord(entry) ? entry[name] : undefined)
  const integer = (name: string, least: number): number | undefined => {
    const value = field(name)
    if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value) && value >= least)) return value
    return fail(`${name} must be an integer${least === 0 ? ' of 0 or more' : ''}, got ${typeof value === 'number' ? value : JSON.stringify(value)}`)
  }
  const extras = field('extras')
  if (extras !== undefined && !isRecord(extras)) return fail('extras must be an object')
  return { steps: integer('steps', 0), pending: integer('pending', 0), epoch: integer('epoch', 0), seed: integer('seed', Number.MIN_SAFE_INTEGER), extras }
}

function isRecord(value: unknown): value is { readonly [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
