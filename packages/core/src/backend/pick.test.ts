import { expect, test, vi } from 'vitest'
import type { Backend } from './contract.ts'
import { referenceBackend } from '../reference/backend.ts'
import { BackendUnavailableError } from './errors.ts'
import { pickBackend, refusalsOf } from './pick.ts'

const failing = (message: string): Promise<Backend> => Promise.reject(new BackendUnavailableError(message))

test('the first candidate that starts is picked, with the reasons of those before it', async () => {
  const good = referenceBackend()
  const never = vi.fn<() => Backend>(() => referenceBackend())
  const picked = await pickBackend([
    failing('webgpu: no adapter'),
    () => failing('onnx: not installed'),
    () => {
      throw new Error('tfjs: broken')
    },
    good,
    never,
  ])
  expect(picked).toBe(good)
  expect(never).not.toHaveBeenCalled()
  expect(refusalsOf(good).map((r) => [r.index, r.reason])).toEqual([
    [0, 'webgpu: no adapter'],
    [1, 'onnx: not installed'],
    [2, 'tfjs: broken'],
  ])
  expect(refusalsOf(referenceBackend())).toEqual([])
})

test('when none starts, the error lists the reason of each', async () => {
  const attempt = pickBackend([failing('webgpu: no adapter'), () => failing('onnx: not installed')])
  await expect(attempt).rejects.toThrow(BackendUnavailableError)
  await expect(attempt).rejects.toThrow('pickBackend: none of 2 backends is available:\n  1. webgpu: no adapter\n  2. onnx: not installed')
  await expect(attempt).rejects.toMatchObject({ cause: { errors: [{ message: 'webgpu: no adapter' }, { message: 'onnx: not installed' }] } })
  await expect(pickBackend([])).rejects.toThrow('the list of candidates is empty')
})

test('promises that fail after one was picked, or while another is awaited, cause no unhandled rejection', async () => {
  const unhandled = vi.fn<(reason: unknown) => void>()
  process.on('unhandledRejection', unhandled)
  try {
    const late = new Promise<Backend>((_resolve, reject) => setTimeout(() => reject(new Error('late')), 5))
    const slow = new Promise<Backend>((resolve) => setTimeout(() => resolve(referenceBackend()), 20))
    await pickBackend([slow, failing('early'), late])
    await pickBackend([referenceBackend(), failing('not even looked at'), late])
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(unhandled).not.toHaveBeenCalled()
  } finally {
    process.off('unhandledRejection', unhandled)
  }
})

test('engines that were started as promises and lost are disposed, those handed over as they are not', async () => {
  const [chosen, lost, handed] = [referenceBackend(), referenceBackend(), referenceBackend()]
  const picked = await pickBackend([Promise.resolve(chosen), Promise.resolve(lost), handed, Promise.resolve(chosen)])
  expect(picked).toBe(chosen)
  await new Promise((resolve) => setTimeout(resolve, 1))
  await expect(lost.createState([])).rejects.toThrow('reference: this backend was disposed')
  expect((await handed.createState([])).names).toEqual([])
  expect((await chosen.createState([])).names).toEqual([])
})
