import { roundedDifference } from '@dynconv/conformance'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { families } from './testing/cases.ts'
import { testedEngines } from './testing/engines.ts'

describe.each([...testedEngines])('$title', ({ options }) => {
  let backend: Awaited<ReturnType<typeof tfjs>>
  beforeAll(async () => {
    backend = await tfjs(options)
  })
  afterAll(() => backend.dispose())

  test.each(Object.keys(families))('%s agrees with the oracle and leaves nothing behind', async (family) => {
    const failures: string[] = []
    for (const c of families[family] ?? []) {
      const found = await roundedDifference(backend, c).catch((error: unknown) => `${c.name}: ${String(error)}`)
      if (found !== undefined) failures.push(found)
    }
    expect(failures).toEqual([])
    expect(backend.memory()).toMatchObject({ liveTensors: 0, liveBytes: 0 })
  })
})
