// The entry '@dynconv/core/node': files, and the folder for what can be made again. Everything else is in the main entry, which runs in browsers too.

export { measurementsFolder, userCacheFolder } from './io/cacheFolder.node.ts'
export { FileError, makeFolder, readFileBytes, writeFileAtomic, writeFileAtomicSync } from './io/files.ts'
