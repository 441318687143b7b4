// CIFAR-10 and CIFAR-100 from files: the published archive, checked by its md5, or the folder that was extracted from it,
// checked by its number of records.

import { dirname, join } from 'node:path'
import { FormatError } from '@dynconv/core'
import { type CifarChoice, type CifarLabels, cifarDataset, cifarFileNames, cifarLayouts, type CifarVariant, readCifarArchive } from './cifar.ts'
import type { ImageDataset, Split } from './dataset.ts'
import { checkDigest, locate, type PlaceOptions, type Published, readSource } from './places.node.ts'

/** What a published CIFAR archive is. Exported for tests. */
export interface CifarArchive extends Published {
  readonly variant: CifarVariant
  readonly name: string
  readonly md5: string
  readonly counts: { readonly [S in Split]: number }
}

const url = 'https://www.cs.toronto.edu/~kriz'
const remedy = 'name the folder that holds its extracted .bin files as `root`'

const CIFAR10: CifarArchive = {
  who: 'cifar10',
  variant: 'cifar10',
  cacheName: 'cifar-10',
  url,
  systemFolders: [],
  remedy,
  name: 'cifar-10-binary.tar.gz',
  md5: 'c32a1d4ab5d03f1284b67883e8d87530',
  counts: { train: 50_000, test: 10_000 },
}

const CIFAR100: CifarArchive = {
  ...CIFAR10,
  who: 'cifar100',
  variant: 'cifar100',
  cacheName: 'cifar-100',
  name: 'cifar-100-binary.tar.gz',
  md5: '03b5dce01913d631647c71ecec9e9cb8',
}

/**
 * One split of CIFAR-10: images [50000 or 10000, 3, 32, 32] of ten classes. `root` may hold the binary version's archive
 * or its extracted files; else the cache is looked at, else the archive is downloaded into it (170 MB).
 *
 * @example const test = await cifar10({ split: 'test', root: 'data/cifar-10-batches-bin' })
 * @throws Error naming every place when it is nowhere; FormatError when a file is damaged
 */
export async function cifar10(options: { readonly split: Split } & PlaceOptions): Promise<ImageDataset> {
  return publishedCifar(CIFAR10, options)
}

/**
 * One split of CIFAR-100, with its 100 fine (the default) or 20 coarse classes; see `cifar10`.
 *
 * @throws Error naming every place when it is nowhere; FormatError when a file is damaged
 */
export async function cifar100(options: { readonly split: Split; readonly labels?: CifarLabels | undefined } & PlaceOptions): Promise<ImageDataset> {
  return publishedCifar(CIFAR100, options)
}

/** One split of an archive or of the folder extracted from it. Exported for tests. */
export async function publishedCifar(
  archive: CifarArchive,
  options: { readonly split: Split; readonly labels?: CifarLabels | undefined } & PlaceOptions,
): Promise<ImageDataset> {
  const { variant, name, md5, counts } = archive
  const choice: CifarChoice = { variant, split: options.split, labels: options.labels }
  const { folder, records } = cifarLayouts[variant]
  // The folder is known by its test records.
  const probe = records.test.join('')
  const found = await locate(archive, { name, md5, alternatives: [join(folder, probe), probe] }, options)
  if (found.name === name) {
    const source = await readSource(found.path)
    checkDigest('md5', source, md5)
    return readCifarArchive(source, choice)
  }
  const extracted = dirname(found.path)
  const dataset = cifarDataset(await readExtracted(extracted, variant), extracted, choice)
  if (dataset.count !== counts[options.split]) {
    throw new FormatError(`${options.split} must have ${counts[options.split]} images, found ${dataset.count}; extract ${name} again`, {
      file: extracted,
      offset: 0,
    })
  }
  return dataset
}

async function readExtracted(folder: string, variant: CifarVariant): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>()
  for (const name of cifarFileNames(variant)) {
    try {
      files.set(name, (await readSource(join(folder, name))).bytes)
    } catch (error) {
      // cifarDataset says which file is missing.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
  }
  return files
}
