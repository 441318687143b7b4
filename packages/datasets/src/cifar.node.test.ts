import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { FormatError } from '@dynconv/core'
import { packTar } from 'modern-tar'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type CifarArchive, publishedCifar } from './cifar.node.ts'

const record = (coarse: number, fine: number, value: number) => Uint8Array.from({ length: 3074 }, (_, i) => [coarse, fine][i] ?? value)
const text = (count: number, name: string) => Buffer.from(Array.from({ length: count }, (_, i) => `${name}${i}\n`).join(''))
const files: Readonly<Record<string, Uint8Array>> = {
  'train.bin': Buffer.concat([record(1, 2, 100), record(3, 4, 200), record(5, 6, 0)]),
  'test.bin': Buffer.concat([record(19, 99, 7), record(0, 0, 9)]),
  'coarse_label_names.txt': text(20, 'coarse'),
  'fine_label_names.txt': text(100, 'fine'),
}
const packed = gzipSync(await packTar(Object.entries(files).map(([name, body]) => ({ header: { name: `cifar-100-binary/${name}`, size: body.length }, body }))))

const server = createServer((_, response) => response.end(packed))
let folder = ''
let tiny: CifarArchive

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-cifar-'))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  if (typeof address === 'string' || address === null) throw new Error('no port')
  tiny = {
    who: 'cifar100',
    variant: 'cifar100',
    cacheName: 'cifar-100',
    url: `http://127.0.0.1:${address.port}`,
    systemFolders: [],
    remedy: 'look elsewhere',
    name: 'cifar-100-binary.tar.gz',
    md5: createHash('md5').update(packed).digest('hex'),
    counts: { train: 3, test: 2 },
  }
})

afterEach(async () => {
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
  await rm(folder, { recursive: true })
})

async function extract(where: string): Promise<void> {
  await mkdir(join(folder, where), { recursive: true })
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, where, name), bytes)
}

const load = (options: Partial<Parameters<typeof publishedCifar>[1]> = {}) =>
  publishedCifar(tiny, { split: 'test', root: folder, cache: join(folder, 'cache'), download: false, ...options })

test('downloads the archive into the cache and reads it', async () => {
  const dataset = await load({ download: true })
  expect(dataset).toMatchObject({ name: 'cifar100', count: 2, channels: 3, height: 32, width: 32 })
  expect([...dataset.labels]).toEqual([99, 0])
  expect(dataset.mean).toEqual([1, 1, 1].map(() => expect.closeTo(100 / 255, 12)))
  expect(await readdir(join(folder, 'cache'))).toEqual(['cifar-100-binary.tar.gz'])
  expect([...(await load({ labels: 'coarse' })).labels]).toEqual([19, 0])
  expect(await load({ split: 'train' })).toMatchObject({ count: 3, mean: dataset.mean, std: dataset.std })
})

test.each(['.', 'cifar-100-binary'])('reads the extracted files in root/%s', async (where) => {
  await extract(where)
  expect([...(await load()).labels]).toEqual([99, 0])
  expect([...(await load({ split: 'train', labels: 'coarse' })).labels]).toEqual([1, 3, 5])
})

test('refuses an archive with another checksum', async () => {
  await writeFile(join(folder, tiny.name), gzipSync('something else'))
  const error: unknown = await load().catch((e: unknown) => e)
  expect(error).toBeInstanceOf(FormatError)
  expect(error).toMatchObject({ file: join(folder, tiny.name), message: expect.stringContaining(`expected ${tiny.md5}`) })
})

test('refuses a folder whose files are incomplete', async () => {
  await extract('.')
  await writeFile(join(folder, 'test.bin'), record(1, 2, 3))
  await expect(load()).rejects.toThrow('test must have 2 images, found 1; extract cifar-100-binary.tar.gz again')
  await rm(join(folder, 'train.bin'))
  await expect(load()).rejects.toThrow('train.bin is missing')
})

test('says where it looked', async () => {
  await expect(load()).rejects.toThrow(/cifar100: cifar-100-binary.tar.gz was not found[^]*download: switched off/)
})
