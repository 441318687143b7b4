import { gzipSync } from 'node:zlib'
import { FormatError, ShapeError } from '@dynconv/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeIdx, idxDataset, readIdx } from './idx.ts'

// Two images of 2 x 3 pixels, written out by hand.
const images = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 250, 251, 252, 253, 254, 255)
const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 1, 0)

const source = (bytes: Uint8Array, file = 'x.idx') => ({ file, bytes })
const changed = (bytes: Uint8Array, at: number, value: number) => bytes.map((b, i) => (i === at ? value : b))
const pair = (i: Uint8Array, l: Uint8Array, classes = ['a', 'b']) =>
  idxDataset({ name: 'tiny', classes, images: source(i, 'images'), labels: source(l, 'labels') })

async function formatError(promise: Promise<unknown>): Promise<FormatError> {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  )
  expect(error).toBeInstanceOf(FormatError)
  return error as FormatError
}

test('reads an IDX file, plain and compressed', async () => {
  for (const bytes of [images, gzipSync(images), Uint8Array.from([9, 9, ...images]).subarray(2)]) {
    const { shape, data } = await readIdx(source(bytes))
    expect(shape).toEqual([2, 2, 3])
    expect([...data]).toEqual([1, 2, 3, 4, 5, 6, 250, 251, 252, 253, 254, 255])
  }
})

test('writes the bytes that it reads', async () => {
  expect(encodeIdx(await readIdx(source(images)))).toEqual(images)
  expect(encodeIdx(await readIdx(source(labels)))).toEqual(labels)
  expect(() => encodeIdx({ shape: [2, 2], data: new Uint8Array(5) })).toThrow(ShapeError)
})

test.each([
  ['an empty file', new Uint8Array(0), 0, 'magic number'],
  ['three bytes', images.subarray(0, 3), 3, 'this one has 3'],
  ['another magic number', changed(images, 1, 7), 0, 'expected the bytes 00 00, got 00 07'],
  ['signed bytes', changed(images, 2, 9), 2, 'type must be 08 (unsigned byte), got 09'],
  ['rank 0', changed(images, 3, 0), 3, 'rank'],
  ['a header that is cut off', images.subarray(0, 11), 11, 'a header of 16 bytes, the file ends after 11'],
  ['a header longer than the file', changed(labels, 3, 255), 10, 'a header of 1024 bytes'],
  ['a body that is cut off', images.subarray(0, 27), 27, 'promises 2 x 2 x 3 = 12 bytes of data, only 11 follow'],
  ['a header that promises more', changed(images, 7, 3), 28, '3 x 2 x 3 = 18'],
  ['absurd sizes', images.map((b, i) => (i >= 4 && i < 16 ? 255 : b)), 28, '4294967295 x 4294967295 x 4294967295'],
  ['trailing bytes', Uint8Array.of(...images, 1, 2), 28, '2 bytes follow'],
  ['a dimension of 0', changed(images, 11, 0), 8, 'dimension 1 is 0'],
])('refuses %s', async (_, bytes, offset, message) => {
  const error = await formatError(readIdx(source(bytes)))
  expect(error.file).toBe('x.idx')
  expect(error.offset).toBe(offset)
  expect(error.message).toContain(message)
})

test('refuses damaged gzip data', async () => {
  const good = gzipSync(images)
  const wrongCrc = changed(good, good.length - 8, (good[good.length - 8] ?? 0) ^ 1)
  for (const bytes of [good.subarray(0, good.length - 9), good.subarray(0, 12), wrongCrc, Buffer.concat([good, Buffer.from('more')])]) {
    expect((await formatError(readIdx(source(bytes)))).message).toContain('gzip data is cut off or damaged')
  }
})

test('makes a data set of images and labels', async () => {
  const dataset = await pair(images, labels)
  expect(dataset).toMatchObject({ name: 'tiny', count: 2, channels: 1, height: 2, width: 3, classes: ['a', 'b'] })
  expect([...dataset.labels]).toEqual([1, 0])
  expect(dataset.mean[0]).toBeCloseTo((21 + 1515) / 12 / 255, 12)
})

test('reads images with channels, [count, channels, height, width]', async () => {
  const dataset = await pair(encodeIdx({ shape: [2, 3, 1, 2], data: images.subarray(16) }), labels)
  expect(dataset).toMatchObject({ count: 2, channels: 3, height: 1, width: 2 })
})

test('refuses labels that do not belong to the images', async () => {
  const more = await formatError(pair(images, encodeIdx({ shape: [3], data: Uint8Array.of(0, 0, 0) })))
  expect(more).toMatchObject({ file: 'labels', offset: 4 })
  expect(more.message).toContain('3 labels, but images holds 2 images')
  const outOfRange = await formatError(pair(images, changed(labels, 8, 2)))
  expect(outOfRange).toMatchObject({ file: 'labels', offset: 8 })
  expect(outOfRange.message).toContain('label 2 of record 0 must be below 2')
  expect((await formatError(pair(labels, labels))).message).toContain('rank 3 or 4')
  expect((await formatError(pair(images, images))).message).toContain('rank 1')
})

test('any bytes give an array or a FormatError', async () => {
  const header = fc.tuple(fc.constantFrom(0, 8), fc.integer({ min: 0, max: 5 })).map(([type, rank]) => Uint8Array.of(0, 0, type, rank))
  const bytes = fc
    .tuple(fc.oneof(header, fc.uint8Array({ maxLength: 4 })), fc.uint8Array({ maxLength: 40 }), fc.boolean())
    .map(([head, body, compress]) => (compress ? gzipSync(Buffer.concat([head, body])) : Uint8Array.of(...head, ...body)))
  const damaged = fc
    .tuple(fc.nat(60), fc.nat(255))
    .map(([at, value]) => changed(gzipSync(images), at, value))
  await fc.assert(
    fc.asyncProperty(fc.oneof(bytes, damaged), async (input) => {
      const result: unknown = await readIdx(source(input)).catch((e: unknown) => e)
      expect(result instanceof Error ? result.name : Object.keys(Object(result))).toEqual(result instanceof FormatError ? 'FormatError' : ['shape', 'data'])
    }),
    { numRuns: 300 },
  )
})
