import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { FormatError } from '@dynconv/core'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { IdxSet } from './fashion.node.ts'
import { publishedIdx } from './fashion.node.ts'
import { encodeIdx } from './idx.ts'
import { cacheFolder } from './places.node.ts'

const digest = (algorithm: string, bytes: Uint8Array) => createHash(algorithm).update(bytes).digest('hex')
const contents = {
  'images-idx3-ubyte': encodeIdx({ shape: [3, 2, 2], data: Uint8Array.from({ length: 12 }, (_, i) => 10 * i) }),
  'labels-idx1-ubyte': encodeIdx({ shape: [3], data: Uint8Array.of(1, 0, 1) }),
}
const published = Object.fromEntries(Object.entries(contents).map(([name, content]) => [`${name}.gz`, gzipSync(content, { level: 9 })]))

function fileOf(name: keyof typeof contents) {
  const archive = published[`${name}.gz`] ?? new Uint8Array(0)
  return { name: `${name}.gz`, md5: digest('md5', archive), sha256: digest('sha256', contents[name]), sizeBytes: contents[name].length }
}

let folder = ''
let requests: string[] = []
let tiny: IdxSet

const server = createServer((request, response) => {
  requests.push(request.url ?? '')
  const archive = published[(request.url ?? '').replace('/set/', '')]
  response.writeHead(archive ? 200 : 404).end(archive)
})

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-places-'))
  requests = []
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  if (typeof address === 'string' || address === null) throw new Error('no port')
  const files = { images: fileOf('images-idx3-ubyte'), labels: fileOf('labels-idx1-ubyte') }
  tiny = {
    who: 'tinySet',
    name: 'tiny',
    cacheName: 'tiny',
    url: `http://127.0.0.1:${address.port}/set`,
    systemFolders: [join(folder, 'system')],
    remedy: 'install the package tiny-set',
    classes: ['a', 'b'],
    statistics: { mean: [0.25], std: [0.5] },
    files: { train: files, test: files },
  }
  vi.stubEnv('XDG_CACHE_HOME', join(folder, 'xdg'))
})

afterEach(async () => {
  vi.unstubAllEnvs()
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
  await rm(folder, { recursive: true })
})

async function put(where: string, files: Readonly<Record<string, Uint8Array>>): Promise<void> {
  await mkdir(join(folder, where), { recursive: true })
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, where, name), bytes)
}

const load = (options: Partial<Parameters<typeof publishedIdx>[1]> = {}) => publishedIdx(tiny, { split: 'train', download: false, ...options })

test('downloads into the cache, and then needs the network no more', async () => {
  const dataset = await load({ download: true })
  expect(dataset).toMatchObject({ name: 'tiny', count: 3, channels: 1, height: 2, width: 2, classes: ['a', 'b'], mean: [0.25], std: [0.5] })
  expect([...dataset.labels]).toEqual([1, 0, 1])
  expect(requests).toEqual(['/set/images-idx3-ubyte.gz', '/set/labels-idx1-ubyte.gz'])
  expect(await load()).toEqual(dataset)
  expect(await load({ download: true })).toEqual(dataset)
  expect(requests).toHaveLength(2)
})

test('downloads from a mirror', async () => {
  const { url } = tiny
  tiny = { ...tiny, url: 'http://127.0.0.1:1' }
  expect(await load({ download: true, mirror: `${url}/` })).toMatchObject({ count: 3 })
})

test.each(['root', 'xdg/dynconv/tiny', 'system'])('finds the files in %s without the network', async (where) => {
  await put(where, published)
  expect(await load({ root: join(folder, 'root'), download: true })).toMatchObject({ count: 3 })
  expect(requests).toEqual([])
})

test('looks in root, then the cache, then the system folder', async () => {
  // A damaged file shows which one was taken.
  const damaged = { 'images-idx3-ubyte.gz': gzipSync(encodeIdx({ shape: [1], data: Uint8Array.of(0) })) }
  const root = join(folder, 'root')
  await put('system', published)
  expect(await load({ root })).toMatchObject({ count: 3 })
  await put('xdg/dynconv/tiny', damaged)
  await expect(load({ root })).rejects.toMatchObject({ file: join(folder, 'xdg/dynconv/tiny/images-idx3-ubyte.gz') })
  await put('root', published)
  expect(await load({ root })).toMatchObject({ count: 3 })
  await put('root', damaged)
  await expect(load({ root })).rejects.toMatchObject({ file: join(root, 'images-idx3-ubyte.gz') })
})

test('takes recompressed and decompressed files, for their content is the same', async () => {
  const recompressed = gzipSync(contents['images-idx3-ubyte'], { level: 0 })
  expect(digest('md5', recompressed)).not.toBe(tiny.files.train.images.md5)
  await put('root', { 'images-idx3-ubyte.gz': recompressed, 'labels-idx1-ubyte': contents['labels-idx1-ubyte'] })
  expect(await load({ root: join(folder, 'root') })).toMatchObject({ count: 3 })
})

test('refuses other content', async () => {
  const other = gunzipSync(published['images-idx3-ubyte.gz'] ?? '').map((b, i) => (i === 20 ? b ^ 1 : b))
  await put('root', { ...published, 'images-idx3-ubyte.gz': gzipSync(other) })
  const error: unknown = await load({ root: join(folder, 'root') }).catch((e: unknown) => e)
  expect(error).toBeInstanceOf(FormatError)
  expect(error).toMatchObject({ message: expect.stringMatching(/sha256 is \w{64}, expected \w{64}.*delete it/) })
  await put('root', { 'images-idx3-ubyte.gz': gzipSync(Buffer.alloc(1_000_000)) })
  await expect(load({ root: join(folder, 'root') })).rejects.toThrow('decompresses to more than the 28 bytes')
})

test('says every place and both remedies when there is nothing', async () => {
  await expect(load({ root: join(folder, 'none') })).rejects.toThrow(
    [
      'tinySet: images-idx3-ubyte.gz was not found. Looked in',
      `  root: ${join(folder, 'none')}: no such file`,
      `  cache: ${join(folder, 'xdg/dynconv/tiny')}: no such file`,
      `  system package: ${join(folder, 'system')}: no such file`,
      '  download: switched off (download: false)',
      `Either get it from ${tiny.url}/images-idx3-ubyte.gz and name its folder as \`root\`, or install the package tiny-set.`,
    ].join('\n'),
  )
  await expect(load({ cache: join(folder, 'c') })).rejects.toThrow(`  root: not given\n  cache: ${join(folder, 'c')}: no such file`)
  tiny = { ...tiny, url: tiny.url.replace('/set', '/elsewhere') }
  await expect(load({ download: true })).rejects.toThrow('images-idx3-ubyte.gz: the server answered 404 Not Found')
})

test('a stopped download is the abort, not a missing file', async () => {
  await expect(load({ download: true, signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' })
})

test('the cache folder follows the XDG specification', () => {
  expect(cacheFolder('x')).toBe(join(folder, 'xdg', 'dynconv', 'x'))
  vi.stubEnv('XDG_CACHE_HOME', 'relative')
  vi.stubEnv('HOME', folder)
  expect(cacheFolder('x')).toBe(join(folder, '.cache', 'dynconv', 'x'))
})
