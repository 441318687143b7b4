// Whole files, read and written so that a failure loses nothing: bytes go to a file beside the target, which takes the
// target's name only when all of them are on the disk. Not for streams, and not for browsers.
//
// The main entry of this package must load in browsers and through bundlers, so nothing here imports a Node module:
// `process.getBuiltinModule` (Node 20.16) finds them at the first call.

import { BackendUnavailableError } from '../backend/errors.ts'

/** A file that could not be read or written; the message names it and says why. */
export class FileError extends Error {
  override readonly name: string = 'FileError'
  readonly file: string
  /** The system's code: `ENOENT`, `ENOSPC`, ... */
  readonly code: string | undefined

  constructor(message: string, options: { readonly file: string; readonly code?: string | undefined; readonly cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.file = options.file
    this.code = options.code
  }
}

/** What is used of `node:fs/promises`. */
export interface FileSystem {
  open(path: string, flags: string): Promise<OpenFile>
  mkdir(path: string): Promise<unknown>
  rename(from: string, to: string): Promise<void>
  rm(path: string, options: { readonly force: true }): Promise<void>
}

/** What is used of an open file. */
export interface OpenFile {
  writeFile(data: Uint8Array | string): Promise<void>
  stat(): Promise<{ readonly size: number }>
  read(into: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>
  readFile(): Promise<Uint8Array>
  sync(): Promise<void>
  close(): Promise<void>
}

/** What is used of `node:fs`. */
interface SyncFileSystem {
  mkdirSync(path: string): unknown
  writeFileSync(path: string, data: Uint8Array | string, options: { readonly flush: true }): void
  renameSync(from: string, to: string): void
  rmSync(path: string, options: { readonly force: true }): void
}

interface NodeProcess {
  readonly pid: number
  getBuiltinModule(name: 'node:fs/promises'): FileSystem
  getBuiltinModule(name: 'node:fs'): SyncFileSystem
  getBuiltinModule(name: 'node:path'): { dirname(path: string): string }
}

let counter = 0

/**
 * Writes a whole file (a text as UTF-8), or leaves what was there: the bytes go to `path.tmp-PID-n`, are flushed to the
 * disk, and take the name `path` in one step. Folders on the way are made.
 *
 * @throws FileError when the folder cannot be written, the disk is full, ...; nothing is left behind then
 */
export async function writeFileAtomic(path: string, bytes: Uint8Array | string, files: FileSystem = nodeProcess('writeFileAtomic').getBuiltinModule('node:fs/promises')): Promise<void> {
  const { folder, beside } = placesOf(path, nodeProcess('writeFileAtomic'))
  const write = (): Promise<void> =>
    withFile(files, beside, 'w', async (file) => {
      await file.writeFile(bytes)
      await file.sync()
    })
  try {
    try {
      await write().catch(async (error: unknown) => {
        if (codeOf(error) !== 'ENOENT') throw error
        await makeFolder(folder, files)
        await write()
      })
      await files.rename(beside, path)
    } catch (error) {
      // The first failure is the one to report.
      await files.rm(beside, { force: true }).catch(() => undefined)
      throw error
    }
  } catch (cause) {
    throw fileError('write', path, cause)
  }
  // Makes the new name itself survive a power cut. Not every system can flush a folder; the file is whole either way.
  await withFile(files, folder, 'r', (file) => file.sync()).catch(() => undefined)
}

/**
 * Makes a folder and those above it, where they are missing. Not Node's `recursive: true`, which takes a read-only disk for a
 * missing folder, and never returns where none can be made (/proc, a working folder that is gone).
 *
 * @throws the system's error
 */
export async function makeFolder(folder: string, files: Pick<FileSystem, 'mkdir'> = nodeProcess('makeFolder').getBuiltinModule('node:fs/promises')): Promise<void> {
  try {
    await files.mkdir(folder)
  } catch (error) {
    const above = folderAbove(folder, error)
    if (above === undefined) return
    await makeFolder(above, files)
    await files.mkdir(folder).catch((second: unknown) => {
      if (codeOf(second) !== 'EEXIST') throw second
    })
  }
}

function makeFolderSync(folder: string, files: SyncFileSystem): void {
  try {
    files.mkdirSync(folder)
  } catch (error) {
    const above = folderAbove(folder, error)
    if (above === undefined) return
    makeFolderSync(above, files)
    try {
      files.mkdirSync(folder)
    } catch (second) {
      if (codeOf(second) !== 'EEXIST') throw second
    }
  }
}

// What must be made first where `folder` could not be; undefined where there is something of its name.
function folderAbove(folder: string, error: unknown): string | undefined {
  if (codeOf(error) === 'EEXIST') return undefined
  const above = nodeProcess('makeFolder').getBuiltinModule('node:path').dirname(folder)
  if (codeOf(error) !== 'ENOENT' || above === folder) throw error
  return above
}

/**
 * `writeFileAtomic` for code that cannot wait: it returns when the file is there. A power cut at that moment may bring the old
 * one back.
 *
 * @throws FileError, as `writeFileAtomic` does
 */
export function writeFileAtomicSync(path: string, bytes: Uint8Array | string): void {
  const node = nodeProcess('writeFileAtomicSync')
  const files = node.getBuiltinModule('node:fs')
  const { folder, beside } = placesOf(path, node)
  try {
    try {
      try {
        files.writeFileSync(beside, bytes, { flush: true })
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error
        makeFolderSync(folder, files)
        files.writeFileSync(beside, bytes, { flush: true })
      }
      files.renameSync(beside, path)
    } catch (error) {
      files.rmSync(beside, { force: true })
      throw error
    }
  } catch (cause) {
    throw fileError('write', path, cause)
  }
}

function placesOf(path: string, node: NodeProcess): { readonly folder: string; readonly beside: string } {
  return { folder: node.getBuiltinModule('node:path').dirname(path), beside: `${path}.tmp-${node.pid}-${counter++}` }
}

// Node's readFile ends at 2 GiB, its writeFile does not.
const PIECE_BYTES = 2 ** 30

/**
 * A whole file, of any size that fits memory, read in pieces of `pieceBytes`.
 *
 * @throws FileError when there is none, or it cannot be read
 */
export async function readFileBytes(path: string, pieceBytes: number = PIECE_BYTES): Promise<Uint8Array> {
  try {
    return await withFile(nodeProcess('readFileBytes').getBuiltinModule('node:fs/promises'), path, 'r', async (file) => {
      const { size } = await file.stat()
      // What has no size beforehand (a pipe) is read to its end.
      if (size === 0) return file.readFile()
      const bytes = new Uint8Array(size)
      let at = 0
      for (let more = true; more && at < size; ) {
        const { bytesRead } = await file.read(bytes, at, Math.min(pieceBytes, size - at), at)
        at += bytesRead
        more = bytesRead > 0
      }
      return bytes.subarray(0, at)
    })
  } catch (cause) {
    throw fileError('read', path, cause)
  }
}

async function withFile<T>(files: FileSystem, path: string, flags: string, use: (file: OpenFile) => Promise<T>): Promise<T> {
  const file = await files.open(path, flags)
  try {
    return await use(file)
  } finally {
    await file.close()
  }
}

const reasons: ReadonlyMap<string, string> = new Map([
  ['EACCES', 'permission denied; choose a place that you may write to, or change its permissions'],
  ['EPERM', 'permission denied; choose a place that you may write to, or change its permissions'],
  ['EROFS', 'the file system is read-only; choose another place'],
  ['ENOSPC', 'the disk is full; free some space or choose another place'],
  ['EDQUOT', 'your disk quota is used up; free some space or choose another place'],
  ['ENOENT', 'there is no such file; check the path'],
  ['ENOTDIR', 'a part of the path is a file, not a folder; check the path'],
  ['EEXIST', 'a part of the path is a file, not a folder; check the path'],
  ['EISDIR', 'it is a folder; name a file'],
  ['ENAMETOOLONG', 'the name is too long; choose a shorter one'],
  ['EMFILE', 'too many files are open'],
])

/** The system's error of reading or writing `path`, as a FileError with a reason in words. */
export function fileError(verb: 'read' | 'write', path: string, cause: unknown): Error {
  if (!(cause instanceof Error) || cause instanceof BackendUnavailableError) return cause instanceof Error ? cause : new Error(String(cause))
  const known = codeOf(cause)
  const reason = reasons.get(known ?? '') ?? cause.message
  return new FileError(`cannot ${verb} ${path}: ${reason}${known && reasons.has(known) ? ` (${known})` : ''}`, { file: path, code: known, cause })
}

function codeOf(error: unknown): string | undefined {
  const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
  return typeof code === 'string' ? code : undefined
}

function nodeProcess(who: string): NodeProcess {
  const found: unknown = Reflect.get(globalThis, 'process')
  if (typeof found === 'object' && found !== null && typeof Reflect.get(found, 'getBuiltinModule') === 'function') {
    // The boundary to Node, whose types the browser-safe half of this package does not load.
    return found as NodeProcess
  }
  throw new BackendUnavailableError(`${who}: files need Node 20.19 or newer; elsewhere use encodeSafetensors and decodeSafetensors with your own storage`)
}
