// The small part of Fashion-MNIST that comes with this package, for a first training run without a download. Its files are
// written by tools/src/embedFashion.ts; data/fashion-mnist/manifest.json says what they hold.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { SourceFile } from './bytes.ts'
import type { ChannelStatistics, ImageDataset, Split } from './dataset.ts'
import { fashionClasses } from './fashion.ts'
import { idxDataset } from './idx.ts'
import { readSource } from './places.node.ts'

/** The folder of the embedded files; the sources and the built files are both one folder below the package. */
export const embeddedFolder: string = fileURLToPath(new URL('../data/fashion-mnist/', import.meta.url))

/** The names of the embedded files, without their folder. */
export const embeddedFiles: { readonly [S in Split]: { readonly images: string; readonly labels: string } } = {
  train: { images: 'train-images-idx3-ubyte.gz', labels: 'train-labels-idx1-ubyte.gz' },
  test: { images: 't10k-images-idx3-ubyte.gz', labels: 't10k-labels-idx1-ubyte.gz' },
}

/**
 * The part of Fashion-MNIST that comes with this package: 6,000 training and 1,000 test images [1, 28, 28], equally many
 * of each of the ten classes. Both carry the mean and std of the 6,000.
 *
 * @example const { train, test } = await embeddedFashion()
 */
export async function embeddedFashion(): Promise<{ readonly train: ImageDataset; readonly test: ImageDataset }> {
  const load = async (split: Split, statistics?: ChannelStatistics): Promise<ImageDataset> => {
    const [images, labels] = await Promise.all([embedded(embeddedFiles[split].images), embedded(embeddedFiles[split].labels)])
    return idxDataset({ name: 'fashion-mnist-7000', classes: fashionClasses, images, labels, statistics })
  }
  const train = await load('train')
  return { train, test: await load('test', train) }
}

async function embedded(name: string): Promise<SourceFile> {
  return readSource(join(embeddedFolder, name))
}
