// Where the fixtures lie: beside the sources and the compiled files alike, in the package's folder `fixtures`.

import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { FormatError } from '@dynconv/core'
import { type Fixture, readFixture } from './fixture.ts'

/** The folder of the fixtures. */
export const fixturesFolder: string = fileURLToPath(new URL('../../fixtures/', import.meta.url))

/**
 * All fixtures of PyTorch, by name.
 *
 * @throws FormatError for a damaged file, and when there is none at all
 */
export async function torchFixtures(folder: string = fixturesFolder): Promise<readonly Fixture[]> {
  const files = (await readdir(folder)).filter((name) => /^torch-.*\.safetensors$/.test(name)).sort()
  if (!files.length) throw new FormatError('there are no torch-*.safetensors here; tools/oracle/torch_fixtures.py writes them', { file: folder, offset: 0 })
  return Promise.all(files.map(async (name) => readFixture(await readFile(`${folder}/${name}`), name)))
}
