// Batches for training and evaluation: order, normalisation and augmentation. Everything random depends on (seed, epoch,
// position in the epoch) only, never on the batch size or on what was read before, so a resumed run sees the same numbers.

import { type HostTensor, hostTensor, Random, ValueError } from '@dynconv/core'
import { type Augmentation, augmenter } from './augment.ts'
import { type ChannelStatistics, checkStatistics, type ImageDataset } from './dataset.ts'

/** How a data set is read. */
export interface LoaderOptions {
  /** Samples in a batch; the last one may have fewer. */
  readonly batchSize: number
  /** The seed of the order, or false (the default): the set's own order. */
  readonly shuffle?: number | false | undefined
  /** The epoch, from 0: each has its own order and augmentation. */
  readonly epoch?: number | undefined
  /** Leaves out a last batch with fewer samples. */
  readonly dropLast?: boolean | undefined
  readonly augment?: Augmentation | undefined
  /**
   * true (the default): (pixel / 255 - mean) / std with the set's own mean and std; or with the ones given here; false:
   * pixel / 255. A channel whose std is 0 is only shifted.
   */
  readonly normalise?: boolean | ChannelStatistics | undefined
}

/** One batch; its memory is its own. */
export interface Batch {
  /** [B, C, H, W] */
  readonly images: HostTensor<'float32'>
  /** [B] */
  readonly labels: HostTensor<'int32'>
}

/** One epoch's batches; may be iterated more than once, with the same result. */
export interface Loader extends Iterable<Batch> {
  /** The number of batches of an epoch. */
  readonly batches: number
  /** The number of samples in them. */
  readonly samples: number
  /** One batch, without making those before it. @throws ValueError when there is no such batch */
  batch(index: number): Batch
  /** The batches from number `first` on, to go on in the middle of an epoch. */
  from(first: number): Iterable<Batch>
}

/**
 * The batches of one epoch.
 *
 * @example
 * for (const { images, labels } of loader(train, { batchSize: 128, shuffle: seed, epoch, augment: { flip: true } })) {
 *   await training.step(images, labels)
 * }
 * @throws ValueError for an option outside its domain
 */
export function loader(dataset: ImageDataset, options: LoaderOptions): Loader {
  const { batchSize, shuffle = false, epoch = 0, dropLast = false, augment } = options
  checkInteger('batchSize', batchSize, 1)
  checkInteger('epoch', epoch, 0)
  if (shuffle !== false) checkInteger('shuffle', shuffle, 0)
  if (augment?.seed !== undefined) checkInteger('augment.seed', augment.seed, 0)
  const { count, channels, height, width } = dataset
  const batches = dropLast ? Math.floor(count / batchSize) : Math.ceil(count / batchSize)
  if (batches === 0) throw new ValueError(`loader: batchSize=${batchSize} with dropLast leaves no batch of the ${count} samples of ${dataset.name}`)
  const samples = dropLast ? batches * batchSize : count
  const imageSize = channels * height * width
  const planeSize = height * width
  const table = pixelTable(dataset, options.normalise ?? true)
  const augmented = augment === undefined ? undefined : augmenter(augment, dataset)
  const augmentSeed = augment?.seed ?? (shuffle === false ? 0 : shuffle)
  const order = Uint32Array.from({ length: count }, (_, i) => i)
  if (shuffle !== false) new Random(shuffle, ORDER, epoch).shuffle(order)

  const write = (target: Float32Array, at: number, position: number, index: number): void => {
    const from = index * imageSize
    if (augmented !== undefined) {
      const placement = augmented.draw(new Random(augmentSeed, AUGMENTATION, epoch, position))
      augmented.write(target, at, dataset.images, from, table, placement)
      return
    }
    for (let c = 0, i = 0; c < channels; c++) {
      const lookup = c * 256
      for (const end = i + planeSize; i < end; i++) target[at + i] = table[lookup + (dataset.images[from + i] ?? 0)] ?? 0
    }
  }

  const batch = (index: number): Batch => {
    if (!Number.isInteger(index) || index < 0 || index >= batches) throw new ValueError(`loader: batch must be from 0 to ${batches - 1}, got ${index}`)
    const first = index * batchSize
    const size = Math.min(batchSize, samples - first)
    const images = new Float32Array(size * imageSize)
    const labels = new Int32Array(size)
    for (let i = 0; i < size; i++) {
      const sample = order[first + i] ?? 0
      labels[i] = dataset.labels[sample] ?? 0
      write(images, i * imageSize, first + i, sample)
    }
    return { images: hostTensor('float32', [size, channels, height, width], images), labels: hostTensor('int32', [size], labels) }
  }

  function* from(first: number): Generator<Batch> {
    for (let i = first; i < batches; i++) yield batch(i)
  }

  return { batches, samples, batch, from, [Symbol.iterator]: () => from(0) }
}

// Independent streams of one seed.
const ORDER = 0
const AUGMENTATION = 1

// table[c * 256 + v] is what a pixel of value v in channel c becomes.
function pixelTable(dataset: ImageDataset, normalise: boolean | ChannelStatistics): Float32Array {
  const { channels } = dataset
  const statistics = normalise === true ? dataset : normalise
  if (statistics) checkStatistics('loader: normalise', statistics, channels)
  return Float32Array.from({ length: channels * 256 }, (_, i) => {
    const value = (i % 256) / 255
    if (!statistics) return value
    const channel = Math.floor(i / 256)
    const std = statistics.std[channel] ?? 0
    return (value - (statistics.mean[channel] ?? 0)) / (std === 0 ? 1 : std)
  })
}

function checkInteger(what: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) throw new ValueError(`loader: ${what} must be an integer of at least ${least}, got ${value}`)
}
