import { FormatError, referenceBackend } from '@dynconv/core'
import { describe, expect, test } from 'vitest'
import { readFixture } from './fixture.ts'
import { fixturesFolder, torchFixtures } from './fixtures.node.ts'
import { checkOn, checkReference, type ForeignProgram } from './foreignProgram.ts'
import { torchPrograms } from './torch.ts'

const fixtures = await torchFixtures()
const programs = fixtures.flatMap(torchPrograms)
const named = programs.map((program) => [program.id, program] as const)

test.each(named)('the reference agrees with PyTorch: %s', async (_id, program) => {
  expect(await checkReference(program)).toEqual([])
})

test.each(named)('a backend that rounds the reference to float32 agrees with PyTorch: %s', async (_id, program) => {
  const backend = referenceBackend()
  expect(await checkOn(backend)(program)).toEqual([])
  expect(backend.memory().liveTensors).toBe(0)
})

test('fixtures say who wrote them', () => {
  for (const { metadata } of fixtures) {
    expect(metadata.get('script')).toBe('tools/oracle/torch_fixtures.py')
    expect(metadata.get('arguments')).toMatch(/^--only \w+ --seed 1$/)
    expect(metadata.get('torch')).toMatch(/^\d+\.\d+/)
  }
})

describe('a value that is off is found', () => {
  const [program] = programs.filter((p) => p.id === 'conv2d-groups')
  if (!program) throw new RangeError('there is no such case')

  // The wanted gradient of the weight, off at one element by `share` of the largest.
  const spoilt = (share: number): ForeignProgram => ({
    ...program,
    outputs: program.outputs.map((run) => {
      const t = run.get('grad weight')
      if (!t) throw new RangeError('the case has no such gradient')
      const data = t.data.slice()
      data[7] = (data[7] ?? 0) + share * Math.max(...data.map(Math.abs))
      return new Map([...run, ['grad weight', { ...t, data }]])
    }),
  })

  test('by the reference, in the eleventh digit', async () => {
    const problems = await checkReference(spoilt(1e-10))
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(/^grad weight \[4, 3, 3, 3\]: 1 of 108 elements are off by more than 1e-11/)
    expect(await checkReference(spoilt(1e-13))).toEqual([])
  })

  test('by a backend, in the fifth', async () => {
    const problems = await checkOn(referenceBackend())(spoilt(1e-4))
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(/^grad weight float32\[4, 3, 3, 3\]: 1 of 108 elements are off/)
    expect(await checkOn(referenceBackend())(spoilt(1e-8))).toEqual([])
  })
})

test('what is no fixture is refused', () => {
  const metadata = (text: string): Uint8Array => {
    const json = new TextEncoder().encode(JSON.stringify({ __metadata__: { cases: text } }))
    const bytes = new Uint8Array(8 + json.length)
    new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
    bytes.set(json, 8)
    return bytes
  }
  for (const text of ['', '{}', '[]', '[{"id":"a"}]', '[1']) expect(() => readFixture(metadata(text), 'x')).toThrow(FormatError)
  expect(() => readFixture(new Uint8Array(3), 'x')).toThrow(FormatError)
  const [fixture] = fixtures
  if (!fixture) throw new RangeError('there are no fixtures')
  expect(() => torchPrograms({ ...fixture, tensors: new Map() })).toThrow(FormatError)
  expect(() => torchPrograms({ ...fixture, cases: fixture.cases.map((c) => ({ ...c, op: 'nothing' })) })).toThrow(/torchOps.ts/)
})

test('a folder without fixtures is refused', async () => {
  await expect(torchFixtures(`${fixturesFolder}/..`)).rejects.toThrow(/tools\/oracle/)
})
