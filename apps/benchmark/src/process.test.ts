import { expect, test } from 'vitest'
import { interruptible, InterruptedError, measuringEnvironment, ordinaryEnvironment } from './process.ts'

test('Ctrl-C aborts the work, and its error counts, whatever broke on the way', async () => {
  const work = interruptible(async (signal) => {
    process.emit('SIGINT', 'SIGINT')
    expect(signal.aborted).toBe(true)
    throw new Error('the other side is gone')
  })
  const error: unknown = await work.catch((e: unknown) => e)
  expect(error).toBeInstanceOf(InterruptedError)
  expect(error).toMatchObject({ exitCode: 130 })
})

test('without Ctrl-C results and errors pass through, and no listener stays', async () => {
  const before = process.listenerCount('SIGINT')
  expect(await interruptible(() => Promise.resolve(3))).toBe(3)
  await expect(interruptible(() => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
  expect(process.listenerCount('SIGINT')).toBe(before)
})

test.runIf(process.platform === 'linux')('what the measuring environment sets, memory is measured without', () => {
  const given = process.env.GLIBC_TUNABLES
  try {
    delete process.env.GLIBC_TUNABLES
    const environment = measuringEnvironment()
    expect(environment?.GLIBC_TUNABLES).toContain('glibc.malloc.mmap_threshold')
    process.env.GLIBC_TUNABLES = environment?.GLIBC_TUNABLES ?? ''
    expect(measuringEnvironment()).toBeUndefined()
    expect(ordinaryEnvironment().GLIBC_TUNABLES).toBeUndefined()
    process.env.GLIBC_TUNABLES = 'glibc.malloc.check=1'
    expect(ordinaryEnvironment().GLIBC_TUNABLES).toBe('glibc.malloc.check=1')
  } finally {
    if (given === undefined) delete process.env.GLIBC_TUNABLES
    else process.env.GLIBC_TUNABLES = given
  }
})
