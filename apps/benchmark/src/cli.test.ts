// The command line from outside: processes of their own, on ONNX Runtime, with work small enough for a test.

import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CommandLine, type Ended } from '@dynconv/app-kit/testing'
import { afterAll, afterEach, expect, test } from 'vitest'
import { readReport } from './report.ts'
import { report, row } from './testing/reports.ts'

const cli = new CommandLine(new URL('main.ts', import.meta.url))
const { folder } = cli
afterEach(() => cli.killAll())
afterAll(() => cli.dispose())

const bench = (...args: string[]): Promise<Ended> => cli.run(...args)

// The smallest work that there is.
const small = ['--filter', 'depthwise 3x3 512@7 batch 1', '--rounds', '1', '--threads', '1', '--peers', 'none', '--ceilings=false']

test('a run prints its table and writes JSON and a page, which other commands read', async () => {
  const ran = await bench(...small, '--json', 'r.json', '--html', 'r.html')
  expect(ran).toMatchObject({ code: 0 })
  expect(ran.stdout).toContain('onnx dynamic K=4')
  expect(ran.stdout).toContain('not run: PyTorch: no --peer PYTHON was given')
  const written = await readReport(join(folder, 'r.json'))
  expect(written.rows.map((r) => r.workload)).toContain('depthwise 3x3 512@7 batch 1')
  expect(await readFile(join(folder, 'r.html'), 'utf8')).toContain('Dynamic convolution, measured')
  const table = await bench('table', 'r.json')
  expect(table.stdout).toContain('| depthwise 3x3 512@7 batch 1 | 4 |')
})

test('compare says which rows became worse, and fails', async () => {
  await writeFile(join(folder, 'a.json'), JSON.stringify(report([row({ name: 'v', samples: [10, 10, 10] })])))
  await writeFile(join(folder, 'b.json'), JSON.stringify(report([row({ name: 'v', samples: [20, 20, 20] })])))
  expect(await bench('compare', 'b.json', 'a.json')).toMatchObject({ code: 0 })
  const worse = await bench('compare', 'a.json', 'b.json')
  expect(worse.code).toBe(1)
  expect(worse.stderr).toContain('work: v: slower (2.00 times)')
})

test('budget fails on a report that does not keep it', async () => {
  const entry = { workload: 'work', variant: 'v', metric: 'toStatic', most: 1.1 }
  await writeFile(join(folder, 'budget.json'), JSON.stringify({ about: 'a test', margin: 0, entries: [entry] }))
  const at = async (value: number): Promise<Ended> => {
    await writeFile(join(folder, 'now.json'), JSON.stringify(report([{ ...row({ name: 'v', samples: [1] }), toStatic: { value, spread: 0, pairs: 9, against: 's' } }])))
    return bench('budget', 'now.json', '--budget', 'budget.json')
  }
  expect(await at(1.1)).toMatchObject({ code: 0 })
  const over = await at(1.2)
  expect(over.code).toBe(1)
  expect(over.stderr).toContain('1 of 1 bounds do not hold')
})

test('what is wrong is said in a line', async () => {
  const cases = [
    [['--rounds', '0'], '--rounds must be a positive integer, got 0'],
    [['--filter', 'no such work'], "no work fits --filter 'no such work'"],
    [['--backend', 'onx'], 'Invalid values'],
    [['show', 'none.json'], 'cannot read none.json: there is no such file'],
    [[...small, '--peer', join(folder, 'no-python')], '--peer'],
  ] as const
  for (const [args, message] of cases) {
    const { code, stderr } = await bench(...args)
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('    at ')
    expect(code).toBe(1)
  }
})

test('Ctrl-C ends a run with 130 and writes nothing', async () => {
  const running = cli.start('--filter', 'depthwise 3x3 512@7 batch 1', '--rounds', '1000', '--threads', '1', '--peers', 'none', '--ceilings=false', '--json', 'never.json')
  await running.said('depthwise 3x3 512@7 batch 1')
  running.child.kill('SIGINT')
  const { code, stderr } = await running.ended
  expect(stderr).toContain('interrupted; nothing was written')
  expect(code).toBe(130)
  expect((await readdir(folder)).filter((name) => name.startsWith('never'))).toEqual([])
})
