import { expect, test } from 'vitest'
import { readOutcome } from './testReport.ts'

const clean = { numPassedTests: 3, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, success: true, testResults: [] }

test('a clean run has no problems', () => {
  expect(readOutcome(clean)).toEqual({ passed: 3, failed: 0, problems: [] })
})

test.each([
  ['no test at all', { numPassedTests: 0 }, 0, ['no test ran']],
  ['a failed test', { numFailedTests: 2, success: false }, 2, ['2 tests failed']],
  ['a skipped test', { numPendingTests: 1 }, 0, ['1 tests were skipped']],
  ['a test still to be written', { numTodoTests: 1 }, 0, ['1 tests were skipped']],
  [
    'a file that did not load',
    { success: false, testResults: [{ name: 'a.test.ts', status: 'failed', assertionResults: [] }] },
    1,
    ['a.test.ts did not run'],
  ],
  ['an error outside the tests', { success: false }, 0, ['the run reports no success']],
])('%s is a problem', (_name, change, failed, problems) => {
  expect(readOutcome({ ...clean, ...change })).toMatchObject({ failed, problems })
})

test('a failed file with a failed test is counted once', () => {
  const testResults = [{ name: 'a.test.ts', status: 'failed', assertionResults: [{ status: 'failed' }] }]
  expect(readOutcome({ ...clean, numFailedTests: 1, success: false, testResults }).failed).toBe(1)
})

test.each([null, {}, { ...clean, numPassedTests: '3' }, { ...clean, testResults: null }])('refuses what is no report: %j', (report) => {
  expect(() => readOutcome(report)).toThrow('test report')
})
