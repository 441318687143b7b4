// CI's closing line from a vitest JSON report: `tsx tools/src/countTests.ts FILE` prints `N passed, N failed`, after
// whatever is wrong, and fails when anything is.
import { readFileSync } from 'node:fs'
import { readOutcome } from './testReport.ts'

const [, , file] = process.argv
if (file === undefined) throw new Error('countTests: expected the report: tsx tools/src/countTests.ts FILE')
const { passed, failed, problems } = readOutcome(JSON.parse(readFileSync(file, 'utf8')))
for (const problem of problems) console.error(problem)
console.log(`${passed} passed, ${failed} failed`)
if (problems.length > 0) process.exitCode = 1
