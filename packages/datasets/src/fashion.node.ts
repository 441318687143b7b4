// Fashion-MNIST from files. What is checked is the content of each file after decompression, so that the publisher's
// archives, a distribution's recompressed ones and decompressed files all serve; downloads must match the published md5.

import type { SourceFile } from './bytes.ts'
import type { ChannelStatistics, ImageDataset, Split } from './dataset.ts'
import { fashionClasses, fashionStatistics } from './fashion.ts'
import { gunzip, isGzip } from './gzip.ts'
import { idxDataset } from './idx.ts'
import { checkDigest, locate, type PlaceOptions, type Published, readSource } from './places.node.ts'

interface IdxFile {
  readonly name: string
  /** Of the compressed file, as published. */
  readonly md5: string
  /** Of the decompressed file. */
  readonly sha256: string
  /** Of the decompressed file. */
  readonly sizeBytes: number
}

/** A published pair of IDX files for each split. Exported for tests. */
export interface IdxSet extends Published {
  readonly name: string
  readonly classes: readonly string[]
  readonly statistics: ChannelStatistics
  readonly files: { readonly [S in Split]: { readonly images: IdxFile; readonly labels: IdxFile } }
}

const FASHION_MNIST: IdxSet = {
  who: 'fashionMnist',
  name: 'fashion-mnist',
  cacheName: 'fashion-mnist',
  url: 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',
  systemFolders: ['/usr/share/datasets/fashion-mnist'],
  remedy: 'install the package dataset-fashion-mnist (Debian, Ubuntu: apt-get install dataset-fashion-mnist)',
  classes: fashionClasses,
  statistics: fashionStatistics,
  files: {
    train: {
      images: {
        name: 'train-images-idx3-ubyte.gz',
        md5: '8d4fb7e6c68d591d4c3dfef9ec88bf0d',
        sha256: 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
        sizeBytes: 16 + 60_000 * 784,
      },
      labels: {
        name: 'train-labels-idx1-ubyte.gz',
        md5: '25c81989df183df01b3e8a0aad5dffbe',
        sha256: 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
        sizeBytes: 8 + 60_000,
      },
    },
    test: {
      images: {
        name: 't10k-images-idx3-ubyte.gz',
        md5: 'bef4ecab320f06d8554ea6380940ec79',
        sha256: '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
        sizeBytes: 16 + 10_000 * 784,
      },
      labels: {
        name: 't10k-labels-idx1-ubyte.gz',
        md5: 'bb300cfdad3c16e7a12a480ee83cd310',
        sha256: '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
        sizeBytes: 8 + 10_000,
      },
    },
  },
}

/**
 * One split of Fashion-MNIST: images [60000 or 10000, 1, 28, 28] of ten classes. Looks in `root`, in the cache, where
 * Debian's package dataset-fashion-mnist puts it, then downloads into the cache (31 MB for both splits).
 *
 * @example const train = await fashionMnist({ split: 'train' })
 * @throws Error naming every place when it is nowhere; FormatError when a file is damaged
 */
export async function fashionMnist(options: { readonly split: Split } & PlaceOptions): Promise<ImageDataset> {
  return publishedIdx(FASHION_MNIST, options)
}

/** One split of an IDX set. Exported for tests. */
export async function publishedIdx(set: IdxSet, options: { readonly split: Split } & PlaceOptions): Promise<ImageDataset> {
  const { images, labels } = set.files[options.split]
  const load = async (file: IdxFile): Promise<SourceFile> => {
    const alternatives = [file.name.replace(/\.gz$/, '')]
    const { path } = await locate(set, { name: file.name, md5: file.md5, alternatives }, options)
    const source = await readSource(path)
    const content = isGzip(source.bytes) ? { file: path, bytes: await gunzip(source.bytes, path, file.sizeBytes) } : source
    checkDigest('sha256', content, file.sha256)
    return content
  }
  const { name, classes, statistics } = set
  // One after the other: together they would interleave their progress.
  const imagesSource = await load(images)
  return idxDataset({ name, classes, statistics, images: imagesSource, labels: await load(labels) })
}
