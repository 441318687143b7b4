import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FormatError } from '@dynconv/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { download, type DownloadProgress } from './download.node.ts'

const body = Buffer.alloc(300_000, 'dynconv')
const md5 = createHash('md5').update(body).digest('hex')

const answers: Readonly<Record<string, RequestListener>> = {
  '/good': (_, response) => {
    response.writeHead(200, { 'content-length': body.length }).end(body)
  },
  '/chunked': (_, response) => {
    response.write(body.subarray(0, 1000))
    response.end(body.subarray(1000))
  },
  '/cut': (_, response) => {
    response.writeHead(200, { 'content-length': body.length })
    response.write(body.subarray(0, 200_000), () => setTimeout(() => response.destroy(), 20))
  },
  '/slow': (_, response) => {
    response.writeHead(200, { 'content-length': body.length }).write(body.subarray(0, 1000))
  },
}

const server = createServer((request, response) => {
  const answer = answers[request.url ?? '']
  if (answer) answer(request, response)
  else response.writeHead(404).end('no such file')
})
let base = ''
let folder = ''

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-download-'))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  if (typeof address === 'string' || address === null) throw new Error('no port')
  base = `http://127.0.0.1:${address.port}`
})

afterEach(async () => {
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
  await rm(folder, { recursive: true })
})

const path = () => join(folder, 'new', 'file.gz')
const left = async () => (await readdir(folder, { recursive: true })).filter((name) => name !== 'new')

test.each(['good', 'chunked'])('keeps a complete file with the right checksum (%s)', async (name) => {
  const seen: DownloadProgress[] = []
  await download({ url: `${base}/${name}`, path: path(), md5, progress: (p) => seen.push(p) })
  expect(body.equals(await readFile(path()))).toBe(true)
  expect(await left()).toEqual([join('new', 'file.gz')])
  expect(seen.at(-1)).toEqual({ file: 'file.gz', receivedBytes: body.length, totalBytes: name === 'good' ? body.length : undefined })
  const received = seen.map((p) => p.receivedBytes)
  expect(received).toEqual(received.toSorted((a, b) => a - b))
})

test('keeps nothing when the checksum is wrong', async () => {
  const wrong = md5.replace(/^./, (c) => (c === '0' ? '1' : '0'))
  const error: unknown = await download({ url: `${base}/good`, path: path(), md5: wrong }).catch((e: unknown) => e)
  expect(error).toBeInstanceOf(FormatError)
  expect(error).toMatchObject({ message: expect.stringContaining(`300000 bytes came with md5 ${md5}, expected ${wrong}`) })
  expect(await left()).toEqual([])
})

test('keeps an older file when the new one fails', async () => {
  await writeFile(join(folder, 'old'), 'older')
  await expect(download({ url: `${base}/good`, path: join(folder, 'old'), md5: '0'.repeat(32) })).rejects.toThrow(FormatError)
  expect(await readFile(join(folder, 'old'), 'utf8')).toBe('older')
})

test('keeps nothing of a cut-off connection', async () => {
  await expect(download({ url: `${base}/cut`, path: path(), md5 })).rejects.toThrow(/\/cut: failed after \d+ of 300000 bytes/)
  expect(await left()).toEqual([])
})

test('keeps nothing when it is stopped', async () => {
  const controller = new AbortController()
  const stopped = download({ url: `${base}/slow`, path: path(), md5, signal: controller.signal, progress: () => controller.abort() })
  await expect(stopped).rejects.toThrow(/abort/)
  expect(await left()).toEqual([])
})

test('says what the server or the network answered', async () => {
  await expect(download({ url: `${base}/none`, path: path(), md5 })).rejects.toThrow(`${base}/none: the server answered 404 Not Found`)
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
  await expect(download({ url: `${base}/good`, path: path(), md5 })).rejects.toThrow(/\/good: fetch failed \(.*ECONNREFUSED/)
  expect(await left()).toEqual([])
})
