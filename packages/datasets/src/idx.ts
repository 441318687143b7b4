// The IDX format of MNIST and its kin: two zero bytes, a type byte, the rank, each dimension as a big-endian uint32, then
// the data, row-major. (Described on the MNIST page of LeCun, Cortes and Burges.) Only unsigned bytes, type 0x08, are read:
// image sets hold nothing else.

import { FormatError, ShapeError } from '@dynconv/core'
import { checkLabels, hex, type SourceFile } from './bytes.ts'
import { type ChannelStatistics, type ImageDataset, imageDataset } from './dataset.ts'
import { gunzip, isGzip } from './gzip.ts'

/** An array of unsigned bytes. */
export interface Idx {
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

const UNSIGNED_BYTE = 0x08
// More than any IDX set has, little enough to hold in memory: a small gzip file may claim to be anything.
const MAX_BYTES = 2 ** 31

/**
 * Reads an IDX file of unsigned bytes, gzip-compressed or plain.
 *
 * @throws FormatError when the magic number is wrong, or the header promises more or less than what follows
 */
export async function readIdx({ file, bytes }: SourceFile): Promise<Idx> {
  return parseIdx({ file, bytes: isGzip(bytes) ? await gunzip(bytes, file, MAX_BYTES) : bytes })
}

function parseIdx({ file, bytes }: SourceFile): Idx {
  const fail = (message: string, offset: number): never => {
    throw new FormatError(message, { file, offset })
  }
  if (bytes.length < 4) fail(`an IDX file begins with 4 bytes of magic number, this one has ${bytes.length}`, bytes.length)
  if (bytes[0] !== 0 || bytes[1] !== 0) fail(`not an IDX file: expected the bytes 00 00, got ${hex(bytes.subarray(0, 2))}`, 0)
  if (bytes[2] !== UNSIGNED_BYTE) fail(`IDX type must be 08 (unsigned byte), got ${hex(bytes.subarray(2, 3))}`, 2)
  const rank = bytes[3] ?? 0
  if (rank === 0) fail('IDX rank must be at least 1, got 0', 3)
  const header = 4 + 4 * rank
  if (bytes.length < header) fail(`IDX rank ${rank} needs a header of ${header} bytes, the file ends after ${bytes.length}`, bytes.length)

  const view = new DataView(bytes.buffer, bytes.byteOffset, header)
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i))
  const empty = shape.indexOf(0)
  if (empty >= 0) fail(`IDX dimension ${empty} is 0`, 4 + 4 * empty)
  // A product of absurd sizes may round, but then it is far from any real length.
  const promised = shape.reduce((a, b) => a * b, 1)
  const present = bytes.length - header
  if (present < promised) fail(`header promises ${shape.join(' x ')} = ${promised} bytes of data, only ${present} follow`, bytes.length)
  if (present > promised) fail(`${present - promised} bytes follow the ${shape.join(' x ')} = ${promised} that the header promises`, header + promised)
  return { shape, data: bytes.subarray(header) }
}

/** The bytes of an (uncompressed) IDX file. @throws ShapeError when `data` does not fill `shape` */
export function encodeIdx({ shape, data }: Idx): Uint8Array {
  const size = shape.reduce((a, b) => a * b, 1)
  if (size !== data.length) throw new ShapeError(`encodeIdx: shape [${shape.join(', ')}] needs ${size} bytes, got ${data.length}`)
  const header = 4 + 4 * shape.length
  const bytes = new Uint8Array(header + data.length)
  bytes.set([0, 0, UNSIGNED_BYTE, shape.length])
  const view = new DataView(bytes.buffer)
  shape.forEach((d, i) => view.setUint32(4 + 4 * i, d))
  bytes.set(data, header)
  return bytes
}

/**
 * A data set from an IDX file of images ([count, height, width], or [count, channels, height, width]) and one of labels
 * ([count]). Mean and std are those of these images unless `statistics` says otherwise.
 *
 * @throws FormatError when a file is damaged, the counts differ, or a label names no class
 */
export async function idxDataset(source: {
  readonly name: string
  readonly classes: readonly string[]
  readonly images: SourceFile
  readonly labels: SourceFile
  readonly statistics?: ChannelStatistics | undefined
}): Promise<ImageDataset> {
  const images = await readIdx(source.images)
  const labels = await readIdx(source.labels)
  const rank = images.shape.length
  if (rank !== 3 && rank !== 4) {
    throw new FormatError(`images must have rank 3 or 4, got shape [${images.shape.join(', ')}]`, { file: source.images.file, offset: 3 })
  }
  if (labels.shape.length !== 1) {
    throw new FormatError(`labels must have rank 1, got shape [${labels.shape.join(', ')}]`, { file: source.labels.file, offset: 3 })
  }
  const [count = 0, channels = 1, height = 1, width = 1] = rank === 4 ? images.shape : [images.shape[0], 1, ...images.shape.slice(1)]
  if (labels.data.length !== count) {
    throw new FormatError(`holds ${labels.data.length} labels, but ${source.images.file} holds ${count} images`, { file: source.labels.file, offset: 4 })
  }
  checkLabels(labels.data, source.classes.length, (i) => ({ file: source.labels.file, offset: 8 + i }))
  const { name, classes, statistics } = source
  return imageDataset({ name, classes, images: images.data, labels: labels.data, channels, height, width, statistics })
}
