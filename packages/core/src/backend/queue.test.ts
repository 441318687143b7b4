import { expect, test } from 'vitest'
import { Queue } from './queue.ts'

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1))

test('jobs run one at a time, in order, whatever became of those before', async () => {
  const queue = new Queue()
  const seen: string[] = []
  const job = (name: string, fails: boolean = false) => async (): Promise<string> => {
    seen.push(`${name} starts`)
    await soon()
    seen.push(`${name} ends`)
    if (fails) throw new Error(name)
    return name
  }
  const results = await Promise.allSettled([queue.run(job('a')), queue.run(job('b', true)), queue.run(() => 'at once'), queue.run(job('c'))])
  expect(seen).toEqual(['a starts', 'a ends', 'b starts', 'b ends', 'c starts', 'c ends'])
  expect(results.map((r) => (r.status === 'fulfilled' ? r.value : String(r.reason)))).toEqual(['a', 'Error: b', 'at once', 'c'])
})

test('an error of a job is thrown to whoever asked for it, also where the job never waits', async () => {
  const queue = new Queue()
  const failing = queue.run(() => {
    throw new RangeError('no')
  })
  await expect(failing).rejects.toThrow(RangeError)
  expect(await queue.run(() => 1)).toBe(1)
})

test('an end comes in the same turn where nothing is going on, else after what was asked for', async () => {
  const queue = new Queue()
  const seen: string[] = []
  const end = (): Promise<void> =>
    queue.end(() => {
      seen.push('end')
    })
  const first = end()
  expect(seen).toEqual(['end'])
  await first
  const running = queue.run(async () => {
    await soon()
    seen.push('run')
  })
  const second = end()
  expect(seen).toEqual(['end'])
  await running
  await second
  expect(seen).toEqual(['end', 'run', 'end'])
  await queue.run(() => undefined)
  void end()
  expect(seen).toEqual(['end', 'run', 'end', 'end'])
})
