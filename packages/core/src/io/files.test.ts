import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fs from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FileError, type FileSystem, readFileBytes, writeFileAtomic, writeFileAtomicSync } from './files.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-files-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

async function refusal(action: Promise<unknown>): Promise<FileError> {
  const error: unknown = await action.then(() => undefined, (e: unknown) => e)
  expect(error).toBeInstanceOf(FileError)
  return error as FileError
}

test.each<[string, (path: string, bytes: Uint8Array | string) => Promise<void> | void]>([
  ['waiting', writeFileAtomic],
  ['at once', writeFileAtomicSync],
])('writes and reads whole files, making folders: %s', async (_, write) => {
  const path = join(folder, 'a', 'b', 'x.bin')
  await write(path, Uint8Array.of(1, 2, 3))
  expect([...(await readFileBytes(path))]).toEqual([1, 2, 3])
  await write(path, 'für')
  expect(await readFile(path, 'utf8')).toBe('für')
  expect(await readdir(join(folder, 'a', 'b'))).toEqual(['x.bin'])
})

test('a file is read whole, in pieces', async () => {
  const path = join(folder, 'x.bin')
  for (const size of [0, 1, 4, 10]) {
    const bytes = Uint8Array.from({ length: size }, (_, i) => i + 1)
    await writeFile(path, bytes)
    expect([...(await readFileBytes(path, 4))]).toEqual([...bytes])
  }
})

test('several writes of one file at once leave one of them, whole', async () => {
  const path = join(folder, 'x')
  const texts = Array.from({ length: 8 }, (_, i) => String(i).repeat(100_000))
  await Promise.all(texts.map((text) => writeFileAtomic(path, text)))
  expect(texts).toContain(await readFile(path, 'utf8'))
  expect(await readdir(folder)).toEqual(['x'])
})

test('a disk that fills up keeps the old file and leaves nothing beside it', async () => {
  const path = join(folder, 'x')
  await writeFile(path, 'old')
  const full: FileSystem = {
    ...fs,
    async open(name, flags) {
      const file = await fs.open(name, flags)
      return {
        async writeFile(data) {
          await file.writeFile(data.slice(0, 1))
          throw Object.assign(new Error('write'), { code: 'ENOSPC' })
        },
        stat: () => file.stat(),
        read: (...where) => file.read(...where),
        readFile: () => file.readFile(),
        sync: () => file.sync(),
        close: () => file.close(),
      }
    },
  }
  const error = await refusal(writeFileAtomic(path, 'new', full))
  expect(error.message).toBe(`cannot write ${path}: the disk is full; free some space or choose another place (ENOSPC)`)
  expect(error.code).toBe('ENOSPC')
  expect(await readFile(path, 'utf8')).toBe('old')
  expect(await readdir(folder)).toEqual(['x'])
})

test('a failed flush or rename counts as a failed write', async () => {
  const path = join(folder, 'x')
  const readOnly: FileSystem = { ...fs, rename: () => Promise.reject(Object.assign(new Error('rename'), { code: 'EROFS' })) }
  expect((await refusal(writeFileAtomic(path, 'new', readOnly))).message).toContain('the file system is read-only')
  expect(await readdir(folder)).toEqual([])
})

test('a folder that cannot be one, and a file that is a folder, are named', async () => {
  await writeFile(join(folder, 'file'), '')
  const inside = join(folder, 'file', 'x')
  expect((await refusal(writeFileAtomic(inside, ''))).message).toContain(`cannot write ${inside}: a part of the path is a file, not a folder`)
  await mkdir(join(folder, 'sub'))
  expect((await refusal(writeFileAtomic(join(folder, 'sub'), ''))).message).toContain('it is a folder')
  expect(() => writeFileAtomicSync(inside, '')).toThrow(`cannot write ${inside}: a part of the path is a file, not a folder`)
  expect(() => writeFileAtomicSync(join(folder, 'sub'), '')).toThrow(FileError)
  expect((await readdir(folder)).sort()).toEqual(['file', 'sub'])
})

test('where no folder can be made, the reason is given, whatever is above', async () => {
  const fails = (code: string): FileSystem => ({ ...fs, mkdir: (path) => Promise.reject(Object.assign(new Error(`mkdir ${path}`), { code })) })
  const path = join(folder, 'a', 'b', 'x')
  expect((await refusal(writeFileAtomic(path, '', fails('EROFS')))).message).toContain('the file system is read-only')
  expect((await refusal(writeFileAtomic(path, '', fails('ENOENT')))).message).toContain('there is no such file; check the path (ENOENT)')
})

test.runIf(process.platform === 'linux')('a place where the system makes no folders is refused, at once', async () => {
  expect((await refusal(writeFileAtomic('/proc/dynconv/a/x', ''))).message).toContain('cannot write /proc/dynconv/a/x: there is no such file')
  expect(() => writeFileAtomicSync('/proc/dynconv/a/x', '')).toThrow(FileError)
})

test('a file that is not there is named', async () => {
  const path = join(folder, 'none')
  const error = await refusal(readFileBytes(path))
  expect(error.message).toBe(`cannot read ${path}: there is no such file; check the path (ENOENT)`)
  expect(error.file).toBe(path)
})
