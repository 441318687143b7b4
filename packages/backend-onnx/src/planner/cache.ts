// Measured rates, kept between processes: a small JSON file for each machine and engine, in the user's cache folder. A file
// that cannot be read, or says something else, is measured anew; one that cannot be written costs only that.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { writeFileAtomic } from '@dynconv/core/node'
import type { Engine } from '../session.ts'
import { flatten, type Rates } from './rates.ts'

/** What measured rates depend on. */
export interface RatesKey {
  /** Of this format, and of how rates are measured. */
  readonly version: number
  readonly processor: string
  readonly engine: string
  readonly threads: number
  readonly layout: string
}

/** The key of an engine on this machine. */
export function keyOf(engine: Engine, layout: string): RatesKey {
  const [first] = cpus()
  return { version: 1, processor: first?.model.trim() ?? 'unknown', engine: engine.version, threads: engine.threads, layout }
}

/** The rates for `key` from `folder`, or measured by `measure` and kept there. */
export async function cachedRates(folder: string | undefined, key: RatesKey, measure: () => Promise<Rates>): Promise<Rates> {
  if (folder === undefined) return measure()
  const name = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16)
  const file = join(folder, `onnx-rates-${name}.json`)
  const known = await read(file, key)
  if (known) return known
  const rates = await measure()
  try {
    await writeFileAtomic(file, `${JSON.stringify({ key, rates }, undefined, 2)}\n`)
  } catch {
    // A read-only home or a full disk: measured again next time.
  }
  return rates
}

async function read(file: string, key: RatesKey): Promise<Rates | undefined> {
  try {
    const stored: { readonly key: RatesKey; readonly rates: Rates } = JSON.parse(await readFile(file, 'utf8'))
    const fits = JSON.stringify(stored.key) === JSON.stringify(key) && flatten(stored.rates).every((r) => Number.isFinite(r) && r > 0)
    return fits ? stored.rates : undefined
  } catch {
    return undefined
  }
}
