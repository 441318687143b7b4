import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type EpochRecord, type MetricsRecord, readHistory, resumeHistory, secondsPerEpoch, startHistory, type StepRecord } from './history.ts'

let folder: string
let file: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dynconv-history-'))
  file = join(folder, 'metrics.jsonl')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const step = (n: number, epoch: number): StepRecord => ({ type: 'step', epoch, step: n, loss: 1 / n, correct: n, samples: 2 * n, lr: 0.1, seconds: 0.01 })
const epoch = (n: number, steps: number): EpochRecord => ({
  type: 'epoch',
  epoch: n,
  step: steps,
  trainLoss: 1,
  trainAccuracy: 0.5,
  testLoss: 1,
  testAccuracy: 0.5,
  temperature: 1,
  entropy: {},
  seconds: 1,
  testSeconds: 1,
})
const records: MetricsRecord[] = [step(1, 1), step(2, 1), epoch(1, 2), step(3, 2), step(4, 2), epoch(2, 4)]

test('records come back in their order', async () => {
  const history = await startHistory(file)
  for (const record of records) history.add(record)
  expect(await readHistory(file)).toEqual(records)
  expect(history.steps.map((s) => s.step)).toEqual([1, 2, 3, 4])
  expect(history.stepsOf(2).map((s) => s.step)).toEqual([3, 4])
  expect(history.epochs.map((e) => e.epoch)).toEqual([1, 2])
})

test('a resumed history ends at its checkpoint, in the file too, and goes on from there', async () => {
  const before = await startHistory(file)
  for (const record of records) before.add(record)
  const history = await resumeHistory(file, 3, 1)
  history.add(step(4, 2))
  expect(await readHistory(file)).toEqual(records.slice(0, 5))
  expect(history.steps.length).toBe(4)
})

test('a last line that was cut off is left out; other damage is told with its line', async () => {
  const text = records.map((r) => JSON.stringify(r)).join('\n')
  await writeFile(file, text.slice(0, -10))
  expect(await readHistory(file)).toEqual(records.slice(0, -1))
  await writeFile(file, `{\n${text}\n`)
  await expect(readHistory(file)).rejects.toThrow(`${file}: line 1 is not JSON`)
  await writeFile(file, `{"type":"other"}\n${text}\n`)
  await expect(readHistory(file)).rejects.toThrow('line 1 is no record')
  await rm(file)
  await expect(readHistory(file)).rejects.toThrow('there is no such file')
})

test('a history that cannot be written is told with its file', async () => {
  const history = await startHistory(file)
  await rm(folder, { recursive: true })
  expect(() => history.add(step(1, 1))).toThrow(`cannot write ${file}`)
})

test('the time of an epoch is the median', () => {
  const took = (...seconds: number[]): number => secondsPerEpoch(seconds.map((s) => ({ ...epoch(1, 1), seconds: s })))
  expect(took(100, 10, 12)).toBe(12)
  expect(took(100, 10, 12, 14)).toBe(13)
  expect(took(5)).toBe(5)
})
