import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { listenForInterrupt, uninterrupted } from './interrupt.ts'

test('nobody asks unless a signal comes, and after disposal nobody listens', async () => {
  expect(await uninterrupted.poll()).toBe(false)
  const before = process.listenerCount('SIGINT')
  {
    using interrupt = listenForInterrupt(() => undefined)
    expect(process.listenerCount('SIGINT')).toBe(before + 1)
    expect(await interrupt.poll()).toBe(false)
  }
  expect(process.listenerCount('SIGINT')).toBe(before)
})

// A process that would go on for a minute after the first Ctrl-C.
const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
const program = `
  import { listenForInterrupt } from ${JSON.stringify(new URL('interrupt.ts', import.meta.url).href)}
  const interrupt = listenForInterrupt(() => console.log('first'))
  console.log('ready')
  while (!(await interrupt.poll())) await new Promise((resolve) => setTimeout(resolve, 5))
  console.log('requested')
  setTimeout(() => {}, 60_000)
`

test('the first Ctrl-C asks, its echo counts as the same, the second ends at once with 130', async () => {
  const child = spawn(process.execPath, ['--import', tsx, '--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  let printed = ''
  const until = async (text: string): Promise<void> => {
    while (!printed.includes(text)) printed += String((await once(child.stdout, 'data'))[0])
  }
  await until('ready')
  child.kill('SIGINT')
  child.kill('SIGINT')
  await until('requested')
  await new Promise((resolve) => setTimeout(resolve, 500))
  expect(child.exitCode).toBeNull()
  child.kill('SIGINT')
  expect(await exit).toEqual([130, null])
  expect(printed.match(/first/g)).toHaveLength(1)
})
