import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { FormatError, ValueError } from '@dynconv/core'
import sharp from 'sharp'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { imageFolder } from './imageFolder.node.ts'

let root = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'dynconv-images-'))
})
afterEach(async () => {
  vi.doUnmock('sharp')
  await rm(root, { recursive: true })
})

type Kind = 'png' | 'jpeg'

async function put(path: string, pixels: readonly number[], size: { width: number; height: number; channels: 1 | 3 | 4 }, kind: Kind = 'png'): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), await sharp(Uint8Array.from(pixels), { raw: size }).toFormat(kind).toBuffer())
}

const rgb = (width: number, height: number, [r, g, b]: readonly [number, number, number]) => Array.from({ length: width * height }, () => [r, g, b]).flat()
const two = { width: 2, height: 1, channels: 3 } as const

test('reads one folder per class, in the order of names, as planes', async () => {
  await put('b/z.png', [1, 2, 3, 4, 5, 6], two)
  await put('b/deeper/a.png', [11, 12, 13, 14, 15, 16], two)
  await put('a/1.PNG', [21, 22, 23, 24, 25, 26], two)
  await writeFile(join(root, 'a', 'notes.txt'), 'not an image')
  await writeFile(join(root, 'README'), 'not a class')
  await mkdir(join(root, '.hidden'))
  const seen: number[] = []
  const dataset = await imageFolder(root, { height: 1, width: 2, progress: ({ done, total }) => seen.push(done / total) })
  expect(dataset).toMatchObject({ name: root, count: 3, channels: 3, height: 1, width: 2, classes: ['a', 'b'] })
  expect([...dataset.labels]).toEqual([0, 1, 1])
  expect([...dataset.images]).toEqual([21, 24, 22, 25, 23, 26, 11, 14, 12, 15, 13, 16, 1, 4, 2, 5, 3, 6])
  expect(seen).toEqual([1 / 3, 2 / 3, 1])
})

test('cover cuts off what stands over, fill stretches', async () => {
  // Columns black, white, grey, black: at this height cover keeps the two in the middle as they are.
  const row = [0, 255, 128, 0].flatMap((v) => [v, v, v])
  await put('a/wide.png', [...row, ...row], { width: 4, height: 2, channels: 3 })
  const cover = await imageFolder(root, { height: 2, width: 2, channels: 1 })
  expect([...cover.images]).toEqual([255, 128, 255, 128])
  const fill = await imageFolder(root, { height: 2, width: 2, channels: 1, fit: 'fill' })
  const [left = -1, right = -1] = fill.images
  expect([left > 64 && left < 192, right > 32 && right < 96, left > right]).toEqual([true, true, true])
})

test('reads JPEG, grey images and transparent ones', async () => {
  await put('a/1.jpg', rgb(16, 16, [200, 100, 50]), { width: 16, height: 16, channels: 3 }, 'jpeg')
  await put('a/2.png', new Array(256).fill(77), { width: 16, height: 16, channels: 1 })
  await put('a/3.png', Array.from({ length: 256 }, () => [255, 255, 255, 0]).flat(), { width: 16, height: 16, channels: 4 })
  const { images } = await imageFolder(root, { height: 16, width: 16 })
  const pixel = (image: number) => [0, 1, 2].map((c) => images[image * 768 + c * 256 + 40] ?? -1)
  pixel(0).forEach((v, c) => expect(Math.abs(v - [200, 100, 50][c]!)).toBeLessThan(4))
  expect(pixel(1)).toEqual([77, 77, 77])
  expect(pixel(2)).toEqual([0, 0, 0])
})

test('reads in grey', async () => {
  await put('a/1.png', rgb(4, 4, [90, 90, 90]), { width: 4, height: 4, channels: 3 })
  const dataset = await imageFolder(root, { height: 4, width: 4, channels: 1 })
  expect(dataset).toMatchObject({ channels: 1, count: 1 })
  expect([...dataset.images]).toEqual(new Array(16).fill(90))
})

test('takes the classes and statistics of another folder', async () => {
  await put('b/1.png', [1, 2, 3, 4, 5, 6], two)
  const options = { height: 1, width: 2, statistics: { mean: [0, 0, 0], std: [1, 1, 1] } }
  const dataset = await imageFolder(root, { ...options, classes: ['a', 'b', 'c'] })
  expect([...dataset.labels]).toEqual([1])
  expect(dataset).toMatchObject({ classes: ['a', 'b', 'c'], mean: [0, 0, 0] })
  await expect(imageFolder(root, { ...options, classes: ['a'] })).rejects.toThrow(`folder b of ${root} is not one of the classes a`)
})

test('refuses a damaged image, by name', async () => {
  await put('a/1.png', rgb(64, 64, [1, 2, 3]), { width: 64, height: 64, channels: 3 })
  const jpeg = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } }).jpeg().toBuffer()
  for (const bytes of [jpeg.subarray(0, jpeg.length / 2), Buffer.from('no image'), Buffer.alloc(0)]) {
    await writeFile(join(root, 'a', '2.jpg'), bytes)
    const error: unknown = await imageFolder(root, { height: 8, width: 8 }).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(FormatError)
    expect(error).toMatchObject({ file: join(root, 'a', '2.jpg'), message: expect.stringContaining('cannot be decoded') })
  }
})

test('refuses a folder that is not one of classes', async () => {
  await expect(imageFolder(root, { height: 8, width: 8 })).rejects.toThrow(`${root} holds no folder; expected one per class`)
  await mkdir(join(root, 'empty'))
  await expect(imageFolder(root, { height: 8, width: 8 })).rejects.toThrow(ValueError)
  await expect(imageFolder(root, { height: 8, width: 8, classes: ['empty'] })).rejects.toThrow('at least one image')
  await expect(imageFolder(join(root, 'none'), { height: 8, width: 8 })).rejects.toThrow(/ENOENT.*none/)
})

test('says which command installs the decoder', async () => {
  await put('a/1.png', [1, 2, 3, 4, 5, 6], two)
  vi.doMock('sharp', () => {
    throw new Error('not there')
  })
  await expect(imageFolder(root, { height: 1, width: 2 })).rejects.toThrow('install it: npm install sharp')
})
