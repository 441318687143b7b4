import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { channelStatistics } from './dataset.ts'
import { embeddedFashion, embeddedFiles, embeddedFolder } from './embedded.node.ts'
import { fashionStatistics } from './fashion.ts'

interface Entry {
  readonly shape: readonly number[]
  readonly bytes: number
  readonly sha256: string
  readonly contentSha256: string
}

const manifest = JSON.parse(readFileSync(join(embeddedFolder, 'manifest.json'), 'utf8')) as { readonly files: Readonly<Record<string, Entry>> }
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

test('the files are those of the manifest', () => {
  const names = Object.values(embeddedFiles).flatMap((pair) => [pair.images, pair.labels])
  expect(Object.keys(manifest.files).sort()).toEqual(names.sort())
  for (const [name, entry] of Object.entries(manifest.files)) {
    const bytes = readFileSync(join(embeddedFolder, name))
    expect([name, bytes.length, sha256(bytes), sha256(gunzipSync(bytes))]).toEqual([name, entry.bytes, entry.sha256, entry.contentSha256])
  }
})

test('the folder stays small and has its licence', () => {
  const total = readdirSync(embeddedFolder).reduce((n, name) => n + statSync(join(embeddedFolder, name)).size, 0)
  expect(total).toBeLessThan(3.2e6)
  expect(readFileSync(join(embeddedFolder, 'LICENSE'), 'utf8')).toContain('Copyright 2017, Zalando SE')
})

test('has 600 and 100 images of each class, none of them twice', async () => {
  const { train, test } = await embeddedFashion()
  for (const [dataset, perClass] of [[train, 600], [test, 100]] as const) {
    expect(dataset).toMatchObject({ channels: 1, height: 28, width: 28, count: 10 * perClass })
    expect(dataset.classes).toHaveLength(10)
    const counts = dataset.classes.map((_, label) => dataset.labels.filter((l) => l === label).length)
    expect(counts).toEqual(new Array(10).fill(perClass))
  }
  const images = [train, test].flatMap((d) => Array.from({ length: d.count }, (_, i) => sha256(d.images.subarray(i * 784, (i + 1) * 784))))
  expect(new Set(images).size).toBe(7000)
})

test('looks like the whole set', async () => {
  const { train, test } = await embeddedFashion()
  const own = channelStatistics([train.images], 1, 784)
  expect([train.mean, train.std]).toEqual([own.mean, own.std])
  expect([test.mean, test.std]).toEqual([train.mean, train.std])
  expect(Math.abs(train.mean[0]! - fashionStatistics.mean[0]!)).toBeLessThan(0.005)
  expect(Math.abs(train.std[0]! - fashionStatistics.std[0]!)).toBeLessThan(0.005)
})
