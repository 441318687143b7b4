import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { betterOf, type Budget, checkBudget, readBudget } from './budget.ts'
import type { Ratio } from './report.ts'
import { row } from './testing/reports.ts'
import { allWorkloads } from './workloads.ts'

const toStatic = (value: number, spread = 0.01, pairs = 9): Ratio => ({ value, spread, pairs, against: 'static' })
const budget: Budget = { about: 'a test', margin: 0.1, entries: [{ workload: 'work', variant: 'dynamic', metric: 'toStatic', most: 1.2 }] }
const machine = { engines: ['onnx: ONNX Runtime (cpu, NCHWc block 16)'] }
const verdict = (...rows: Parameters<typeof checkBudget>[0]['rows']): string | undefined => checkBudget({ rows, machine }, budget)[0]?.verdict

test('a ratio may be over its bound by the margin, and no more', () => {
  const base = row({ name: 'dynamic', samples: [1] })
  expect(verdict({ ...base, toStatic: toStatic(1.1) })).toBe('within')
  expect(verdict({ ...base, toStatic: toStatic(1.31) })).toBe('within')
  expect(verdict({ ...base, toStatic: toStatic(1.33) })).toBe('over')
})

test('a noisy ratio and one that is not there do not pass', () => {
  const base = row({ name: 'dynamic', samples: [1] })
  expect(verdict({ ...base, toStatic: toStatic(1.1, 0.9) })).toBe('noisy')
  expect(verdict({ ...base, toStatic: toStatic(Number.NaN, Number.NaN) })).toBe('noisy')
  expect(verdict({ ...base, toStatic: toStatic(1.1, 0, 2) })).toBe('noisy')
  expect(verdict(base)).toBe('missing')
  expect(verdict()).toBe('missing')
})

test('other ratios: to a peer, to static and bases, of memory', () => {
  const full = { ...row({ name: 'v', samples: [1, 1, 1] }), toPeers: { PyTorch: toStatic(0.7) }, toStaticAndBases: 1.3, memoryToStaticAndBases: 1.05 }
  const entries = [
    { workload: 'work', variant: 'v', metric: 'toPeer', peer: 'PyTorch', most: 0.8 },
    { workload: 'work', variant: 'v', metric: 'toPeer', peer: 'constructor', most: 9 },
    { workload: 'work', variant: 'v', metric: 'toStaticAndBases', most: 1.1 },
    { workload: 'work', variant: 'v', metric: 'memoryToStaticAndBases', most: 1.1 },
  ] as const
  expect(checkBudget({ rows: [full], machine }, { ...budget, entries }).map((v) => v.verdict)).toEqual(['within', 'missing', 'over', 'within'])
})

test('what an engine says of itself may bring another bound', () => {
  const rows = [{ ...row({ name: 'dynamic', samples: [1] }), toStatic: toStatic(1.5) }]
  const entries = budget.entries.map((entry) => ({ ...entry, mostWhere: { 'NCHWc block 8': 1.4 } }))
  const of = (engine: string): unknown => checkBudget({ rows, machine: { engines: ['another', engine] } }, { ...budget, entries }).map((v) => [v.verdict, v.entry.most])
  expect(of('onnx: ONNX Runtime (cpu, NCHWc block 8)')).toEqual([['within', 1.4]])
  expect(of('onnx: ONNX Runtime (cpu, NCHWc block 16)')).toEqual([['over', 1.2]])
})

test('measured again, a bound that holds counts, and one that does not fails still', () => {
  const [entry] = budget.entries
  if (!entry) throw new Error('no entry')
  const of = (verdict: 'within' | 'over' | 'missing'): { entry: typeof entry; value: number; verdict: typeof verdict } => ({ entry, value: 1, verdict })
  expect(betterOf([of('over'), of('over'), of('within')], [of('within'), of('over'), of('missing')]).map((v) => v.verdict)).toEqual(['within', 'over', 'within'])
})

test('the budget of this repository is well formed and names work that there is', async () => {
  const own = await readBudget(new URL('../budget.json', import.meta.url).pathname)
  expect(own.entries.length).toBeGreaterThan(3)
  const names = new Set(allWorkloads.map((w) => w.name))
  expect(own.entries.filter((e) => !names.has(e.workload))).toEqual([])
})

test('a budget that says nothing clear is refused with the place', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'budget-'))
  try {
    const file = path.join(folder, 'b.json')
    const cases = [
      ['{', 'no JSON'],
      ['[]', 'about must be'],
      ['{"about":"a","margin":-1,"entries":[]}', 'margin must be'],
      ['{"about":"a","margin":0,"entries":[]}', 'entries must be'],
      ['{"about":"a","margin":0,"entries":[{"workload":"w","variant":"v","metric":"seconds","most":1}]}', 'entries[0].metric must be one of'],
      ['{"about":"a","margin":0,"entries":[{"workload":"w","variant":"v","metric":"toStatic","most":0}]}', 'entries[0].most must be'],
      ['{"about":"a","margin":0,"entries":[{"workload":"w","variant":"v","metric":"toStatic","most":1,"mostWhere":{"x":"y"}}]}', "entries[0].mostWhere['x'] must be"],
    ] as const
    for (const [text, message] of cases) {
      await writeFile(file, text)
      await expect(readBudget(file)).rejects.toThrow(message)
    }
    await expect(readBudget(path.join(folder, 'none.json'))).rejects.toThrow('there is no such file')
  } finally {
    await rm(folder, { recursive: true })
  }
})
