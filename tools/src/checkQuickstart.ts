// Fails unless the quickstart left the summary it promises: tsx tools/src/checkQuickstart.ts runs/quickstart/summary.json
import { readFileSync } from 'node:fs'
import { summaryProblems } from './quickstartSummary.ts'

const [, , file] = process.argv
if (file === undefined) throw new Error('checkQuickstart: expected the summary: tsx tools/src/checkQuickstart.ts FILE')
const problems = summaryProblems(JSON.parse(readFileSync(file, 'utf8')))
for (const problem of problems) console.error(`${file}: ${problem}`)
if (problems.length > 0) process.exitCode = 1
else console.log(`${file}: complete`)
