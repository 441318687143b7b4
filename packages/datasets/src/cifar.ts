// The binary versions of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): records of one label byte (CIFAR-100: coarse, then
// fine) and 3072 pixels, planar red, green, blue, 32 x 32 each, row-major. Class names come from the text files beside
// them. Works on bytes, so in browsers too; cifar.node.ts finds and checks the files.

import { FormatError } from '@dynconv/core'
import { unpackTar } from 'modern-tar'
import { checkLabels, concatBytes, type SourceFile } from './bytes.ts'
import { channelStatistics, type ImageDataset, imageDataset, type Split } from './dataset.ts'
import { gunzipStream } from './gzip.ts'

/** One of the two published sets. */
export type CifarVariant = 'cifar10' | 'cifar100'

/** Which labels of CIFAR-100: 100 fine or 20 coarse classes. */
export type CifarLabels = 'fine' | 'coarse'

/** What to take out of a CIFAR folder or archive; CIFAR-10 has only fine labels, the default. */
export interface CifarChoice {
  readonly variant: CifarVariant
  readonly split: Split
  readonly labels?: CifarLabels | undefined
}

/** Records of one binary file; `coarse` is there for CIFAR-100 only. */
export interface CifarRecords {
  /** [count, 3, 32, 32] */
  readonly images: Uint8Array
  readonly fine: Uint8Array
  readonly coarse?: Uint8Array
}

interface ClassList {
  readonly file: string
  readonly count: number
}

interface Layout {
  readonly folder: string
  readonly records: { readonly [S in Split]: readonly string[] }
  /** The labels of a record, in their order. */
  readonly labels: readonly CifarLabels[]
  readonly classes: { readonly [L in CifarLabels]?: ClassList }
}

/** Folder and file names as published. */
export const cifarLayouts: { readonly [V in CifarVariant]: Layout } = {
  cifar10: {
    folder: 'cifar-10-batches-bin',
    records: {
      train: ['data_batch_1.bin', 'data_batch_2.bin', 'data_batch_3.bin', 'data_batch_4.bin', 'data_batch_5.bin'],
      test: ['test_batch.bin'],
    },
    labels: ['fine'],
    classes: { fine: { file: 'batches.meta.txt', count: 10 } },
  },
  cifar100: {
    folder: 'cifar-100-binary',
    records: { train: ['train.bin'], test: ['test.bin'] },
    labels: ['coarse', 'fine'],
    classes: { coarse: { file: 'coarse_label_names.txt', count: 20 }, fine: { file: 'fine_label_names.txt', count: 100 } },
  },
}

const SIDE = 32
const CHANNELS = 3
const IMAGE_BYTES = CHANNELS * SIDE * SIDE
// The published archives decompress to about 185 MB.
const MAX_ARCHIVE_BYTES = 2 ** 29

/** The names of all files that a data set of this variant is read from. */
export function cifarFileNames(variant: CifarVariant): readonly string[] {
  const { records, classes } = cifarLayouts[variant]
  return [...records.train, ...records.test, ...Object.values(classes).map((c) => c.file)]
}

/**
 * Reads the records of one binary file.
 *
 * @throws FormatError when the length is not a whole number of records, or a label is out of range
 */
export function readCifarRecords({ file, bytes }: SourceFile, variant: CifarVariant): CifarRecords {
  const { labels: kinds, classes } = cifarLayouts[variant]
  const recordBytes = kinds.length + IMAGE_BYTES
  const count = Math.floor(bytes.length / recordBytes)
  if (count === 0 || bytes.length !== count * recordBytes) {
    const message = `${variant} records have ${recordBytes} bytes each; the file's ${bytes.length} bytes are ${count} records and ${bytes.length - count * recordBytes} bytes`
    throw new FormatError(message, { file, offset: count * recordBytes })
  }
  const images = new Uint8Array(count * IMAGE_BYTES)
  for (let i = 0; i < count; i++) {
    images.set(bytes.subarray(i * recordBytes + kinds.length, (i + 1) * recordBytes), i * IMAGE_BYTES)
  }
  const column = (kind: CifarLabels): Uint8Array => {
    const at = kinds.indexOf(kind)
    const labels = Uint8Array.from({ length: count }, (_, i) => bytes[i * recordBytes + at] ?? 0)
    checkLabels(labels, classes[kind]?.count ?? 0, (i) => ({ file, offset: i * recordBytes + at }))
    return labels
  }
  return kinds.includes('coarse') ? { images, fine: column('fine'), coarse: column('coarse') } : { images, fine: column('fine') }
}

/**
 * A data set from the extracted files, by name (`data_batch_1.bin`, ...); `source` is the folder's name for errors. All
 * training files are needed for the test split too: mean and std are the training split's.
 *
 * @throws FormatError when a file is missing or damaged
 */
export function cifarDataset(files: ReadonlyMap<string, Uint8Array>, source: string, choice: CifarChoice): ImageDataset {
  const { variant } = choice
  const layout = cifarLayouts[variant]
  const kind = choice.labels ?? 'fine'
  const classList = layout.classes[kind]
  if (classList === undefined) throw new FormatError(`${variant} has no ${kind} labels, only ${layout.labels.join(' and ')}`, { file: source, offset: 0 })
  const need = (name: string): SourceFile => {
    const bytes = files.get(name)
    if (bytes === undefined) throw new FormatError(`${name} is missing; ${variant} has ${cifarFileNames(variant).join(', ')}`, { file: source, offset: 0 })
    return { file: `${source}/${name}`, bytes }
  }
  const classes = readClassNames(need(classList.file), classList.count)
  const read = (name: string): CifarRecords => readCifarRecords(need(name), variant)
  // One file at a time, unless its records are wanted: the test split keeps no training image.
  const wanted = layout.records[choice.split].map(read)
  const training = choice.split === 'train' ? wanted.map((r) => r.images) : lazily(layout.records.train, (name) => read(name).images)
  const statistics = channelStatistics(training, CHANNELS, SIDE * SIDE)
  return imageDataset({
    name: variant,
    classes,
    images: concatBytes(wanted.map((r) => r.images)),
    labels: concatBytes(wanted.map((r) => r[kind] ?? r.fine)),
    channels: CHANNELS,
    height: SIDE,
    width: SIDE,
    statistics,
  })
}

/**
 * A data set from the published `.tar.gz` archive.
 *
 * @throws FormatError when the archive is damaged or lacks a file
 */
export async function readCifarArchive(archive: SourceFile, choice: CifarChoice): Promise<ImageDataset> {
  return cifarDataset(await unpackCifar(archive, choice.variant), archive.file, choice)
}

async function unpackCifar({ file, bytes }: SourceFile, variant: CifarVariant): Promise<ReadonlyMap<string, Uint8Array>> {
  const wanted = new Set(cifarFileNames(variant))
  try {
    const entries = await unpackTar(gunzipStream(bytes, file, MAX_ARCHIVE_BYTES), {
      strict: true,
      filter: (header) => wanted.has(baseName(header.name)),
    })
    return new Map(entries.flatMap(({ header, data }) => (data === undefined ? [] : [[baseName(header.name), data]])))
  } catch (cause) {
    if (cause instanceof FormatError) throw cause
    throw new FormatError(`not a readable tar archive: ${cause instanceof Error ? cause.message : String(cause)}`, { file, offset: 0, cause })
  }
}

function readClassNames({ file, bytes }: SourceFile, count: number): readonly string[] {
  const names = new TextDecoder()
    .decode(bytes)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  if (names.length !== count) throw new FormatError(`expected ${count} class names, one a line, got ${names.length}`, { file, offset: bytes.length })
  return names
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function* lazily<A, B>(list: readonly A[], make: (a: A) => B): Generator<B> {
  for (const a of list) yield make(a)
}
