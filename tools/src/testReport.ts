// Reads the JSON report of the test run for CI's closing line. A run that tested nothing, or skipped something, failed.
import { field } from './json.ts'

/** What the test run came to. */
export interface TestOutcome {
  readonly passed: number
  readonly failed: number
  /** Why the run does not count as a success; empty when it does. */
  readonly problems: readonly string[]
}

/**
 * The outcome in a vitest JSON report.
 *
 * @throws Error when `report` lacks a field of such a report.
 */
export function readOutcome(report: unknown): TestOutcome {
  const passed = count(report, 'numPassedTests')
  const failedTests = count(report, 'numFailedTests')
  const failedFiles = brokenFiles(report)
  const skipped = count(report, 'numPendingTests') + count(report, 'numTodoTests')
  const problems: string[] = []
  if (passed + failedTests === 0) problems.push('no test ran')
  if (failedTests > 0) problems.push(`${failedTests} tests failed`)
  if (skipped > 0) problems.push(`${skipped} tests were skipped`)
  for (const file of failedFiles) problems.push(`${file} did not run`)
  if (problems.length === 0 && field(report, 'success') !== true) problems.push('the run reports no success')
  return { passed, failed: failedTests + failedFiles.length, problems }
}

/** Files that failed without a failed test in them: they could not be loaded, or a hook threw. */
function brokenFiles(report: unknown): string[] {
  const files = field(report, 'testResults')
  if (!Array.isArray(files)) throw new Error('test report: testResults is not a list')
  return files.flatMap((file: unknown) => {
    const tests = field(file, 'assertionResults')
    const explained = Array.isArray(tests) && tests.some((each: unknown) => field(each, 'status') === 'failed')
    return field(file, 'status') === 'failed' && !explained ? [String(field(file, 'name'))] : []
  })
}

function count(report: unknown, name: string): number {
  const value = field(report, name)
  if (typeof value !== 'number') throw new Error(`test report: expected a number ${name}, got ${String(value)}`)
  return value
}
