// Where the files of a published data set may be: a folder that the caller names, the cache, a folder of the system's own
// package, and at last the network, whose copy goes into the cache. Says every place when there is none.

import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError } from '@dynconv/core'
import { userCacheFolder } from '@dynconv/core/node'
import type { SourceFile } from './bytes.ts'
import { download, type DownloadProgress } from './download.node.ts'

/** Where to look for a published data set. */
export interface PlaceOptions {
  /** A folder that holds the files; looked at first. */
  readonly root?: string | undefined
  /** The cache folder; unless given, `dynconv/<data set>` in $XDG_CACHE_HOME or ~/.cache. */
  readonly cache?: string | undefined
  /** Whether to download what is in none of the folders (true unless given). */
  readonly download?: boolean | undefined
  /** Where to download from instead of the publisher: the URL in which the file names are. */
  readonly mirror?: string | undefined
  /** Called for each piece that arrives. */
  readonly progress?: ((progress: DownloadProgress) => void) | undefined
  /** Stops a download; nothing is left of it. */
  readonly signal?: AbortSignal | undefined
}

/** A published data set. */
export interface Published {
  /** Who speaks in errors. */
  readonly who: string
  /** The name of its folder in the cache. */
  readonly cacheName: string
  /** The URL in which the file names are. */
  readonly url: string
  /** Folders in which packages of operating systems put the files. */
  readonly systemFolders: readonly string[]
  /** Another way to get the files, for the error message. */
  readonly remedy: string
}

/** One published file. */
export interface PublishedFile {
  readonly name: string
  readonly md5: string
  /** Other paths, relative to a folder, that serve as well (decompressed, extracted). */
  readonly alternatives: readonly string[]
}

/**
 * The path of the first of `file`'s names in the places, in their order; downloaded when there is none.
 *
 * @throws Error that names every place and what to do
 */
export async function locate(published: Published, file: PublishedFile, options: PlaceOptions): Promise<{ readonly path: string; readonly name: string }> {
  const cache = options.cache ?? cacheFolder(published.cacheName)
  const places = [
    ...(options.root === undefined ? [] : [{ what: 'root', folder: options.root }]),
    { what: 'cache', folder: cache },
    ...published.systemFolders.map((folder) => ({ what: 'system package', folder })),
  ]
  for (const { folder } of places) {
    for (const name of [file.name, ...file.alternatives]) {
      const path = join(folder, name)
      if (await isFile(path)) return { path, name }
    }
  }
  const base = options.mirror ?? published.url
  const url = `${base.replace(/\/+$/, '')}/${file.name}`
  let failure = 'switched off (download: false)'
  let cause: unknown
  if (options.download !== false) {
    try {
      const path = join(cache, file.name)
      await download({ url, path, md5: file.md5, progress: options.progress, signal: options.signal })
      return { path, name: file.name }
    } catch (error) {
      options.signal?.throwIfAborted()
      cause = error
      failure = error instanceof Error ? error.message : String(error)
    }
  }
  const looked = places.map(({ what, folder }) => `  ${what}: ${folder}: no such file`)
  throw new Error(
    [
      `${published.who}: ${file.name} was not found. Looked in`,
      ...(options.root === undefined ? ['  root: not given'] : []),
      ...looked,
      `  download: ${failure}`,
      `Either get it from ${url} and name its folder as \`root\`, or ${published.remedy}.`,
    ].join('\n'),
    { cause },
  )
}

/** The cache folder of one data set. */
export function cacheFolder(name: string): string {
  return join(userCacheFolder(), name)
}

/** @throws FormatError when the digest of `bytes` is not `expected` (hexadecimal) */
export function checkDigest(algorithm: 'md5' | 'sha256', { file, bytes }: SourceFile, expected: string): void {
  const got = createHash(algorithm).update(bytes).digest('hex')
  if (got !== expected) {
    throw new FormatError(`${algorithm} is ${got}, expected ${expected}: damaged, or not the published file; delete it and load again`, { file, offset: 0 })
  }
}

/** A file's bytes with its path. */
export async function readSource(path: string): Promise<SourceFile> {
  return { file: path, bytes: await readFile(path) }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return false
    throw error
  }
}
