// The entry '@dynconv/core/node': files. Everything else is in the main entry, which runs in browsers too.

export { FileError, readFileBytes, writeFileAtomic } from './io/files.ts'
