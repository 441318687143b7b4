// The browser-safe half: readers that take bytes, data sets in memory, and the loader. What finds, downloads and opens
// files is in '@dynconv/datasets/node'.

export type { Augmentation } from './augment.ts'
export type { SourceFile } from './bytes.ts'
export { cifarDataset, readCifarArchive, readCifarRecords } from './cifar.ts'
export type { CifarChoice, CifarLabels, CifarRecords, CifarVariant } from './cifar.ts'
export { balancedIndices, balancedSubset, channelStatistics, imageDataset, select, split, subset } from './dataset.ts'
export type { ChannelStatistics, ImageDataset, ImageDatasetParts, Split } from './dataset.ts'
export { fashionClasses, fashionStatistics } from './fashion.ts'
export { encodeIdx, idxDataset, readIdx } from './idx.ts'
export type { Idx } from './idx.ts'
export { loader } from './loader.ts'
export type { Batch, Loader, LoaderOptions } from './loader.ts'
