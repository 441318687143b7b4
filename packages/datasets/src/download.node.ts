// Downloads one file with its checksum: streamed beside its place and renamed only when complete and right, so that a
// cut-off or wrong download leaves nothing.

import { createHash } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { FormatError } from '@dynconv/core'
import { makeFolder } from '@dynconv/core/node'

/** How far a download is. */
export interface DownloadProgress {
  readonly file: string
  readonly receivedBytes: number
  /** Undefined when the server does not say. */
  readonly totalBytes: number | undefined
}

/** One file to download. */
export interface DownloadOptions {
  readonly url: string
  readonly path: string
  /** The published checksum, hexadecimal. */
  readonly md5: string
  readonly progress?: ((progress: DownloadProgress) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

let downloads = 0

/**
 * Downloads `url` to `path`; creates the folder.
 *
 * @throws Error when the server or the disk fails, FormatError when the checksum is wrong; nothing is left then
 */
export async function download({ url, path, md5, progress, signal }: DownloadOptions): Promise<void> {
  const response = await fetch(url, { signal: signal ?? null, headers: { 'accept-encoding': 'identity' } }).catch((cause: unknown) => {
    throw new Error(`${url}: ${reason(cause)}`, { cause })
  })
  if (!response.ok || response.body === null) {
    await response.body?.cancel()
    throw new Error(`${url}: the server answered ${response.status} ${response.statusText}`.trimEnd())
  }
  const length = response.headers.get('content-length')
  const totalBytes = length !== null && /^\d+$/.test(length) ? Number(length) : undefined
  await makeFolder(dirname(path))
  // The counter keeps two downloads of one process apart.
  const temporary = `${path}.tmp-${process.pid}-${downloads++}`
  try {
    const hash = createHash('md5')
    let receivedBytes = 0
    const file = await open(temporary, 'w')
    try {
      for await (const chunk of response.body) {
        hash.update(chunk)
        await file.writeFile(chunk)
        receivedBytes += chunk.length
        progress?.({ file: basename(path), receivedBytes, totalBytes })
      }
      await file.sync()
    } catch (cause) {
      throw new Error(`${url}: failed after ${receivedBytes} of ${totalBytes ?? 'unknown'} bytes: ${reason(cause)}`, { cause })
    } finally {
      await file.close()
    }
    const got = hash.digest('hex')
    if (got !== md5) {
      throw new FormatError(`${receivedBytes} bytes came with md5 ${got}, expected ${md5}: not the published file; nothing was kept`, {
        file: url,
        offset: 0,
      })
    }
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}

// The message of an error and of what caused it (`fetch failed` alone says little).
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : `${error.message} (${reason(error.cause)})`
}
