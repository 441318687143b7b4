import { gzipSync } from 'node:zlib'
import { FormatError } from '@dynconv/core'
import fc from 'fast-check'
import { packTar } from 'modern-tar'
import { expect, test } from 'vitest'
import { cifarDataset, type CifarChoice, readCifarArchive, readCifarRecords } from './cifar.ts'

const PIXELS = 3 * 32 * 32

// A record whose red, green and blue planes hold base, base + 1 and base + 2.
function record(labels: readonly number[], base: number): Uint8Array {
  return Uint8Array.from({ length: labels.length + PIXELS }, (_, i) => labels[i] ?? base + Math.floor((i - labels.length) / 1024))
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

const text = (lines: readonly string[]): Uint8Array => new TextEncoder().encode(`${lines.join('\n')}\n`)
const names = (count: number, prefix: string): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`)

// Two records in each of the five training files, one in the test file.
const cifar10 = new Map([
  ...[1, 2, 3, 4, 5].map((n): [string, Uint8Array] => [`data_batch_${n}.bin`, join(record([n], 10 * n), record([0], 10 * n + 5))]),
  ['test_batch.bin', record([9], 100)],
  ['batches.meta.txt', text([...names(10, 'class'), ''])],
])
const cifar100 = new Map([
  ['train.bin', join(record([3, 99], 0), record([19, 7], 200))],
  ['test.bin', record([1, 2], 50)],
  ['coarse_label_names.txt', text(names(20, 'coarse'))],
  ['fine_label_names.txt', text(names(100, 'fine'))],
])

async function archive(files: ReadonlyMap<string, Uint8Array>, folder = 'cifar-10-batches-bin'): Promise<Uint8Array> {
  const entries = [...files].map(([name, body]) => ({ header: { name: `${folder}/${name}`, size: body.length }, body }))
  return packTar([{ header: { name: `${folder}/`, size: 0, type: 'directory' } }, ...entries])
}

const train: CifarChoice = { variant: 'cifar10', split: 'train' }
const failure = (run: () => unknown): FormatError => {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError)
    return error as FormatError
  }
  throw new Error('nothing was thrown')
}

test('reads CIFAR-10 in the order of its files', () => {
  const dataset = cifarDataset(cifar10, 'folder', train)
  expect(dataset).toMatchObject({ name: 'cifar10', count: 10, channels: 3, height: 32, width: 32, classes: names(10, 'class') })
  expect([...dataset.labels]).toEqual([1, 0, 2, 0, 3, 0, 4, 0, 5, 0])
  const value = (image: number, channel: number) => dataset.images[image * PIXELS + channel * 1024 + 1023]
  expect([value(0, 0), value(0, 1), value(0, 2), value(1, 0), value(9, 2)]).toEqual([10, 11, 12, 15, 57])
  // The bases are 10, 15, 20, ..., 55.
  expect(dataset.mean.map((m) => m * 255)).toEqual([32.5, 33.5, 34.5].map((m) => expect.closeTo(m, 9)))
  expect(dataset.std[0]).toBeCloseTo(Math.sqrt((5 ** 2 * (10 ** 2 - 1)) / 12) / 255, 9)
})

test('the test split carries the mean and std of the training split', () => {
  const test = cifarDataset(cifar10, 'folder', { variant: 'cifar10', split: 'test' })
  const training = cifarDataset(cifar10, 'folder', train)
  expect(test.count).toBe(1)
  expect([...test.labels]).toEqual([9])
  expect(test.images[0]).toBe(100)
  expect([test.mean, test.std]).toEqual([training.mean, training.std])
})

test('reads the fine and the coarse labels of CIFAR-100', () => {
  const fine = cifarDataset(cifar100, 'folder', { variant: 'cifar100', split: 'train' })
  expect([...fine.labels]).toEqual([99, 7])
  expect(fine.classes).toHaveLength(100)
  const coarse = cifarDataset(cifar100, 'folder', { variant: 'cifar100', split: 'train', labels: 'coarse' })
  expect([...coarse.labels]).toEqual([3, 19])
  expect(coarse.classes).toEqual(names(20, 'coarse'))
  expect([coarse.images[0], coarse.images[2 * 1024]]).toEqual([0, 2])
  expect(coarse.images[PIXELS]).toBe(200)
})

test('reads the archive as the folder', async () => {
  const source = { file: 'cifar.tar.gz', bytes: gzipSync(await archive(cifar10)) }
  expect(await readCifarArchive(source, train)).toEqual(cifarDataset(cifar10, 'folder', train))
})

test('reads an archive with the header of GNU tar', async () => {
  const tar = await archive(cifar10)
  for (let at = 0; at < tar.length; ) {
    const size = Number.parseInt(new TextDecoder().decode(tar.subarray(at + 124, at + 135)), 8)
    if (tar[at] === 0) break
    // "ustar  \0" instead of "ustar\0" "00"; the checksum counts itself as eight spaces.
    tar.set(new TextEncoder().encode('ustar  \0'), at + 257)
    tar.fill(32, at + 148, at + 156)
    const sum = tar.subarray(at, at + 512).reduce((a, b) => a + b, 0)
    tar.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, '0')}\0 `), at + 148)
    at += 512 + Math.ceil(size / 512) * 512
  }
  const dataset = await readCifarArchive({ file: 'gnu.tar.gz', bytes: gzipSync(tar) }, train)
  expect([...dataset.labels]).toEqual([1, 0, 2, 0, 3, 0, 4, 0, 5, 0])
})

test.each([
  ['an empty file', new Uint8Array(0), 0, '0 records and 0 bytes'],
  ['a record that is cut off', join(record([1], 0), record([1], 0).subarray(0, 3000)), 3073, '1 records and 3000 bytes'],
  ['a label out of range', join(record([1], 0), record([10], 0)), 3073, 'label 10 of record 1 must be below 10'],
])('refuses %s', (_, bytes, offset, message) => {
  const error = failure(() => readCifarRecords({ file: 'data_batch_1.bin', bytes }, 'cifar10'))
  expect(error).toMatchObject({ file: 'data_batch_1.bin', offset })
  expect(error.message).toContain(message)
})

test('refuses labels out of range in CIFAR-100, where they stand', () => {
  const of = (coarse: number, fine: number) => ({ file: 'train.bin', bytes: join(record([0, 0], 0), record([coarse, fine], 0)) })
  expect(failure(() => readCifarRecords(of(20, 0), 'cifar100'))).toMatchObject({ offset: 3074 })
  expect(failure(() => readCifarRecords(of(0, 100), 'cifar100'))).toMatchObject({ offset: 3075 })
})

test('says which file is missing or wrong', () => {
  const without = (name: string) => new Map([...cifar10].filter(([n]) => n !== name))
  expect(failure(() => cifarDataset(without('data_batch_4.bin'), 'folder', train)).message).toContain('data_batch_4.bin is missing')
  // The test split needs the training files for mean and std.
  const test: CifarChoice = { variant: 'cifar10', split: 'test' }
  expect(failure(() => cifarDataset(without('data_batch_4.bin'), 'folder', test)).message).toContain('data_batch_4.bin is missing')
  const few = new Map(cifar10).set('batches.meta.txt', text(names(9, 'class')))
  expect(failure(() => cifarDataset(few, 'folder', train)).message).toContain('expected 10 class names, one a line, got 9')
  expect(failure(() => cifarDataset(cifar10, 'folder', { ...train, labels: 'coarse' })).message).toContain('cifar10 has no coarse labels')
})

test('refuses a damaged archive', async () => {
  const tar = await archive(cifar10)
  const flipped = tar.map((b, i) => (i === 520 ? b ^ 1 : b))
  const cases: readonly (readonly [Uint8Array, string])[] = [
    [tar, 'not gzip data'],
    [gzipSync(tar).subarray(0, 200), 'gzip data is cut off or damaged'],
    [gzipSync(tar.subarray(0, 5000)), 'not a readable tar archive'],
    [gzipSync(flipped), 'not a readable tar archive'],
    [gzipSync(new Uint8Array(1024)), 'batches.meta.txt is missing'],
  ]
  for (const [bytes, message] of cases) {
    const error: unknown = await readCifarArchive({ file: 'a.tar.gz', bytes }, train).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(FormatError)
    expect(error).toMatchObject({ message: expect.stringContaining(message), file: expect.stringContaining('a.tar.gz') })
  }
})

test('any bytes give a data set or a FormatError', async () => {
  const tar = await archive(new Map([...cifar100].filter(([name]) => name !== 'train.bin')), 'cifar-100-binary')
  const input = fc.oneof(
    fc.uint8Array({ maxLength: 2000 }).map((b) => gzipSync(b)),
    fc.uint8Array({ maxLength: 60 }),
    // A real archive with one damaged block header or body byte.
    fc.tuple(fc.nat(tar.length - 1), fc.nat(255)).map(([at, value]) => gzipSync(tar.map((b, i) => (i === at ? value : b)))),
    fc.nat(tar.length).map((length) => gzipSync(tar.subarray(0, length))),
  )
  await fc.assert(
    fc.asyncProperty(input, async (bytes) => {
      const choice: CifarChoice = { variant: 'cifar100', split: 'test' }
      const result: unknown = await readCifarArchive({ file: 'a.tar.gz', bytes }, choice).catch((e: unknown) => e)
      // train.bin is not in it, so that no input can succeed.
      expect(result).toBeInstanceOf(FormatError)
    }),
    { numRuns: 200 },
  )
})
