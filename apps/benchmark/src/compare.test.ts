import { expect, test } from 'vitest'
import { compareReports, regressions } from './compare.ts'
import { report, row } from './testing/reports.ts'

const before = report([row({ name: 'a', samples: [10, 10, 10] }), row({ name: 'b', samples: [10, 10, 10] }), row({ name: 'gone', samples: [1] })])

test('slower beyond the margin is a regression, within it is none, and the list says which', () => {
  const after = report([row({ name: 'a', samples: [12, 12, 12] }), row({ name: 'b', samples: [10.5, 10.5, 10.5] }), row({ name: 'new', samples: [1] })])
  const comparison = compareReports(before, after, 0.1)
  expect(regressions(comparison).map((c) => [c.name, c.verdict])).toEqual([['a', 'slower']])
  expect(comparison.onlyBefore).toEqual(['work: gone'])
  expect(comparison.onlyAfter).toEqual(['work: new'])
  expect(comparison.changes[0]?.time).toBeCloseTo(1.2)
  expect(regressions(compareReports(after, before, 0.1))).toEqual([])
  expect(compareReports(after, before, 0.1).changes[0]?.verdict).toBe('faster')
})

test('a change within the row’s own spread is none', () => {
  // Quartiles at 9 and 15 around 12: a spread of 50 % explains 20 % more time.
  const noisy = report([row({ name: 'a', samples: [6, 9, 12, 15, 18] })])
  expect(regressions(compareReports(before, noisy, 0.1))).toEqual([])
})

test('more memory is a regression too', () => {
  const was = report([row({ name: 'a', samples: [10], memory: { loadBytes: 1, runBytes: 100 } })])
  const is = report([row({ name: 'a', samples: [10], memory: { loadBytes: 1, runBytes: 150 } })])
  expect(regressions(compareReports(was, is, 0.1)).map((c) => [c.verdict, c.memory])).toEqual([['more memory', 1.5]])
})

test('another machine is told', () => {
  const elsewhere = { ...before, machine: { ...before.machine, cpu: 'another' } }
  expect(compareReports(before, elsewhere, 0.1).warnings).toEqual(['cpu: some cpu before, another after'])
})
