// `tsx tools/src/embedFashion.ts`: writes the part of Fashion-MNIST that @dynconv/datasets carries (its folder data/), from
// the whole set, and a manifest of what was written. `--check` compares instead: the pixels and labels, not the compressed
// bytes, which change with the version of zlib. Either way it first checks the constants that @dynconv/datasets has for the
// whole set.

import { createHash } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { gunzipSync, gzipSync } from 'node:zlib'
import { balancedSubset, channelStatistics, encodeIdx, fashionStatistics } from '@dynconv/datasets'
import { embeddedFiles, embeddedFolder, fashionMnist } from '@dynconv/datasets/node'
import { field } from './json.ts'

const SEED = 1
const COUNTS = { train: 6000, test: 1000 } as const

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const files = await build()
if (values.check) {
  const drifted = files.filter((file) => !isWritten(file)).map((file) => file.name)
  for (const name of drifted) console.error(`${name} does not hold what this script would write; run it without --check`)
  if (drifted.length > 0) process.exitCode = 1
} else {
  for (const { name, bytes } of files) replace(name, bytes)
  replace('manifest.json', `${JSON.stringify(manifest(), null, 2)}\n`)
}

interface EmbeddedFile {
  readonly name: string
  readonly shape: readonly number[]
  /** Compressed. */
  readonly bytes: Uint8Array
  readonly contentSha256: string
}

async function build(): Promise<readonly EmbeddedFile[]> {
  const built: EmbeddedFile[] = []
  for (const split of ['train', 'test'] as const) {
    const whole = await fashionMnist({ split })
    if (split === 'train') checkStatistics(channelStatistics([whole.images], whole.channels, whole.height * whole.width))
    const { images, labels, count, height, width } = balancedSubset(whole, COUNTS[split], SEED)
    built.push(compress(embeddedFiles[split].images, [count, height, width], images), compress(embeddedFiles[split].labels, [count], labels))
  }
  return built
}

function checkStatistics(computed: typeof fashionStatistics): void {
  if (JSON.stringify(computed) !== JSON.stringify(fashionStatistics)) {
    throw new Error(`fashionStatistics is ${JSON.stringify(fashionStatistics)}, the training images have ${JSON.stringify(computed)}`)
  }
}

function compress(name: string, shape: readonly number[], data: Uint8Array): EmbeddedFile {
  const content = encodeIdx({ shape, data })
  return { name, shape, bytes: gzipSync(content, { level: 9 }), contentSha256: sha256(content) }
}

// The file itself and what the manifest says of it.
function isWritten({ name, contentSha256 }: EmbeddedFile): boolean {
  const bytes = readFileSync(path.join(embeddedFolder, name))
  const parsed: unknown = JSON.parse(readFileSync(path.join(embeddedFolder, 'manifest.json'), 'utf8'))
  const entry = field(field(parsed, 'files'), name)
  return field(entry, 'contentSha256') === contentSha256 && field(entry, 'sha256') === sha256(bytes) && sha256(gunzipSync(bytes)) === contentSha256
}

function manifest(): unknown {
  const entry = ({ shape, bytes, contentSha256 }: EmbeddedFile): unknown => ({ shape, bytes: bytes.length, sha256: sha256(bytes), contentSha256 })
  return { source: 'Fashion-MNIST', writtenBy: 'tools/src/embedFashion.ts', seed: SEED, files: Object.fromEntries(files.map((file) => [file.name, entry(file)])) }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function replace(name: string, content: Uint8Array | string): void {
  const target = path.join(embeddedFolder, name)
  const temporary = `${target}.tmp-${process.pid}`
  writeFileSync(temporary, content, { flush: true })
  renameSync(temporary, target)
}
