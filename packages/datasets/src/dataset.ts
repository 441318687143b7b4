// A set of labelled images in memory, as bytes, and the ways to take a part of one. Plain data: no files, no tensors
// (loader.ts makes those).

import { Random, ShapeError, ValueError } from '@dynconv/core'

/** Mean and standard deviation of each channel, of pixels divided by 255. */
export interface ChannelStatistics {
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

/** Labelled images in memory. */
export interface ImageDataset extends ChannelStatistics {
  readonly name: string
  /** The class names; a label is an index into them. */
  readonly classes: readonly string[]
  /** Pixels [count, channels, height, width], row-major, 0 to 255. */
  readonly images: Uint8Array
  /** Class indices [count]. */
  readonly labels: Uint8Array
  readonly count: number
  readonly channels: number
  readonly height: number
  readonly width: number
  /** What to normalise with, per channel: the training split's mean of pixels / 255, in the test split too. */
  readonly mean: readonly number[]
  /** The training split's standard deviation of pixels / 255, per channel. */
  readonly std: readonly number[]
}

/** Which part of a published data set. */
export type Split = 'train' | 'test'

/** What `imageDataset` needs; `statistics` are computed from `images` unless given. */
export interface ImageDatasetParts {
  readonly name: string
  readonly classes: readonly string[]
  readonly images: Uint8Array
  readonly labels: Uint8Array
  readonly channels: number
  readonly height: number
  readonly width: number
  readonly statistics?: ChannelStatistics | undefined
}

/**
 * A data set from pixels [count, channels, height, width] and labels [count], without a copy.
 *
 * @example imageDataset({ name: 'mine', classes: ['cat', 'dog'], images, labels, channels: 3, height: 32, width: 32 })
 * @throws ShapeError when the lengths do not fit each other; ValueError for a label that names no class
 */
export function imageDataset(parts: ImageDatasetParts): ImageDataset {
  const { name, classes, images, labels, channels, height, width } = parts
  for (const [what, n] of Object.entries({ channels, height, width })) {
    if (!Number.isSafeInteger(n) || n < 1) throw new ShapeError(`${name}: ${what} must be a positive integer, got ${n}`)
  }
  const count = labels.length
  const imageSize = channels * height * width
  if (count === 0) throw new ShapeError(`${name}: a data set needs at least one image`)
  if (images.length !== count * imageSize) {
    throw new ShapeError(`${name}: ${count} images of [${channels}, ${height}, ${width}] need ${count * imageSize} pixels, got ${images.length}`)
  }
  const wrong = labels.findIndex((label) => label >= classes.length)
  if (wrong >= 0) throw new ValueError(`${name}: label ${labels[wrong]} of image ${wrong} must be below the number of classes, ${classes.length}`)
  const { mean, std } = parts.statistics ?? channelStatistics([images], channels, height * width)
  checkStatistics(name, { mean, std }, channels)
  return { name, classes, images, labels, count, channels, height, width, mean, std }
}

/** @throws ValueError unless there is one finite mean and one finite, non-negative deviation for each channel */
export function checkStatistics(who: string, { mean, std }: ChannelStatistics, channels: number): void {
  if (mean.length !== channels || std.length !== channels) {
    throw new ValueError(`${who}: mean and std need ${channels} numbers each (one per channel), got ${mean.length} and ${std.length}`)
  }
  if (!mean.every(Number.isFinite) || !std.every((s) => Number.isFinite(s) && s >= 0)) {
    throw new ValueError(`${who}: mean and std must be finite and std not negative, got [${mean.join(', ')}] and [${std.join(', ')}]`)
  }
}

/**
 * Mean and standard deviation of each channel over chunks of pixels [n, channels, planeSize] (/ 255).
 *
 * Exact up to the last division: with h[v] the number of pixels of value v, both sums are sums of integers below 2^53,
 * mean = sum v h[v] / n and variance = sum v^2 h[v] / n - mean^2.
 */
export function channelStatistics(chunks: Iterable<Uint8Array>, channels: number, planeSize: number): ChannelStatistics {
  const histogram = new Float64Array(channels * 256)
  for (const pixels of chunks) {
    for (let at = 0; at < pixels.length; at += channels * planeSize) {
      for (let c = 0; c < channels; c++) {
        const from = at + c * planeSize
        for (let i = from; i < from + planeSize; i++) {
          const bin = c * 256 + (pixels[i] ?? 0)
          histogram[bin] = (histogram[bin] ?? 0) + 1
        }
      }
    }
  }
  const mean: number[] = []
  const std: number[] = []
  for (let c = 0; c < channels; c++) {
    let count = 0
    let sum = 0
    let sumOfSquares = 0
    for (let v = 0; v < 256; v++) {
      const n = histogram[c * 256 + v] ?? 0
      count += n
      sum += n * v
      sumOfSquares += n * v * v
    }
    mean.push(sum / count / 255)
    std.push(Math.sqrt(Math.max(0, sumOfSquares / count - (sum / count) ** 2)) / 255)
  }
  return { mean, std }
}

/**
 * The images at `indices`, in that order, copied; classes, mean and std stay.
 *
 * @throws ValueError for an index that is not in the set
 */
export function select(dataset: ImageDataset, indices: ArrayLike<number>): ImageDataset {
  const { channels, height, width } = dataset
  const imageSize = channels * height * width
  const images = new Uint8Array(indices.length * imageSize)
  const labels = new Uint8Array(indices.length)
  for (let i = 0; i < indices.length; i++) {
    const from = indices[i] ?? -1
    const label = Number.isInteger(from) ? dataset.labels[from] : undefined
    if (label === undefined) throw new ValueError(`select: index ${from} must be an integer from 0 to ${dataset.count - 1}`)
    images.set(dataset.images.subarray(from * imageSize, (from + 1) * imageSize), i * imageSize)
    labels[i] = label
  }
  return { ...dataset, images, labels, count: indices.length }
}

/** The first `n` images, without a copy. @throws ValueError when the set has fewer */
export function subset(dataset: ImageDataset, n: number): ImageDataset {
  checkCount('subset', dataset, n)
  const imageSize = dataset.channels * dataset.height * dataset.width
  return { ...dataset, images: dataset.images.subarray(0, n * imageSize), labels: dataset.labels.subarray(0, n), count: n }
}

/**
 * `n` images, equally many of each class (the first classes get one more when `n` does not divide), drawn by `seed` and
 * kept in the set's order.
 *
 * @throws ValueError when a class has too few
 */
export function balancedSubset(dataset: ImageDataset, n: number, seed: number): ImageDataset {
  return select(dataset, balancedIndices(dataset, n, seed))
}

/** The ascending indices that `balancedSubset` takes. */
export function balancedIndices(dataset: ImageDataset, n: number, seed: number): Uint32Array {
  checkCount('balancedSubset', dataset, n)
  const members: number[][] = dataset.classes.map(() => [])
  dataset.labels.forEach((label, i) => members[label]?.push(i))
  const perClass = Math.floor(n / members.length)
  const chosen = members.flatMap((list, label) => {
    const wanted = perClass + (label < n % members.length ? 1 : 0)
    if (list.length < wanted) {
      throw new ValueError(`balancedSubset: n=${n} needs ${wanted} images of class ${dataset.classes[label]}, ${dataset.name} has ${list.length}`)
    }
    return new Random(seed, label).shuffle(list).slice(0, wanted)
  })
  return Uint32Array.from(chosen).sort()
}

/**
 * Two parts: `n` images drawn by `seed`, and all others; each in the set's order.
 *
 * @example const [train, validation] = split(dataset, 45000, 1)
 * @throws ValueError when a part would be empty
 */
export function split(dataset: ImageDataset, n: number, seed: number): readonly [ImageDataset, ImageDataset] {
  checkCount('split', dataset, n, dataset.count - 1)
  const order = new Random(seed).shuffle(Uint32Array.from({ length: dataset.count }, (_, i) => i))
  return [select(dataset, order.slice(0, n).sort()), select(dataset, order.slice(n).sort())]
}

function checkCount(who: string, dataset: ImageDataset, n: number, most: number = dataset.count): void {
  if (!Number.isInteger(n) || n < 1 || n > most) throw new ValueError(`${who}: n must be an integer from 1 to ${most} for ${dataset.name}, got ${n}`)
}
