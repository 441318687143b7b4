// The data sets that a run can name.

import { join } from 'node:path'
import { balancedSubset, type ImageDataset } from '@dynconv/datasets'
import { cifar10, cifar100, type DownloadProgress, embeddedFashion, fashionMnist, imageFolder } from '@dynconv/datasets/node'
import type { DatasetName, RunConfig } from './config.ts'

/** Images to train with and images to test with. */
export interface Data {
  readonly train: ImageDataset
  readonly test: ImageDataset
}

/** What a network and its users must know of the data it was trained on; every checkpoint carries it. */
export interface DataFacts {
  readonly classes: readonly string[]
  readonly channels: number
  readonly height: number
  readonly width: number
  /** What pixels / 255 are normalised with, per channel. */
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

type Options = Pick<RunConfig, 'data' | 'size'> & { readonly progress: (progress: DownloadProgress) => void }

const loaders: { readonly [D in DatasetName]: (options: Options) => Promise<Data> } = {
  'fashion-mnist': (options) => published(fashionMnist, options),
  'fashion-small': () => embeddedFashion(),
  cifar10: (options) => published(cifar10, options),
  cifar100: (options) => published(cifar100, options),
  folder: async ({ data = '.', size }) => {
    const train = await imageFolder(join(data, 'train'), { height: size, width: size })
    const { classes } = train
    return { train, test: await imageFolder(join(data, 'test'), { height: size, width: size, classes, statistics: train }) }
  },
}

interface Place {
  readonly split: 'train' | 'test'
  readonly root?: string
  readonly progress: (progress: DownloadProgress) => void
}

async function published(load: (options: Place) => Promise<ImageDataset>, { data, progress }: Options): Promise<Data> {
  const place = { progress, ...(data === undefined ? {} : { root: data }) }
  try {
    // One after the other: a download's progress is of one file.
    const train = await load({ ...place, split: 'train' })
    return { train, test: await load({ ...place, split: 'test' }) }
  } catch (error) {
    if (!(error instanceof Error) || !error.message.includes('`root`')) throw error
    throw new Error(error.message.replaceAll('as `root`', 'with --data'), { cause: error })
  }
}

/** Loads what `config` names, downloading it where the data set allows. @throws Error that says where it looked */
export async function loadData(config: RunConfig, progress: (progress: DownloadProgress) => void = () => undefined): Promise<Data> {
  const { train, test } = await loaders[config.dataset]({ data: config.data, size: config.size, progress })
  const part = (set: ImageDataset, n: number | undefined): ImageDataset => (n === undefined ? set : balancedSubset(set, n, config.seed))
  return { train: part(train, config.trainSamples), test: part(test, config.testSamples) }
}

/** The facts of a data set. */
export function factsOf({ classes, channels, height, width, mean, std }: ImageDataset): DataFacts {
  return { classes, channels, height, width, mean, std }
}
