// What commands write for machines.

import { writeFileAtomic } from '@dynconv/core/node'

/** Writes `value` as JSON. @throws FileError */
export async function writeJson(file: string, value: unknown): Promise<void> {
  await writeFileAtomic(file, `${JSON.stringify(value, null, 2)}\n`)
}
