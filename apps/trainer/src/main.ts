#!/usr/bin/env node
// The command line: `pnpm train [command]`. Commands stand in commands/; this file only joins them, and turns whatever
// goes wrong into a message and an exit code.

import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { addEval } from './commands/eval.ts'
import { addExport } from './commands/export.ts'
import { addSummary } from './commands/summary.ts'
import { addTrain } from './commands/train.ts'

const cli = [addTrain, addEval, addExport, addSummary]
  .reduce((y, add) => add(y), yargs(hideBin(process.argv)))
  .scriptName('pnpm train')
  .usage('$0 [command] [options]\n\nTrains, resumes, evaluates and exports networks with dynamic convolutions.')
  .strict()
  .wrap(Math.min(120, process.stdout.columns || 120))
  // `--no-x` and `--a.b` mean nothing here, and of an option given twice the last counts.
  .parserConfiguration({ 'boolean-negation': false, 'dot-notation': false, 'duplicate-arguments-array': false })
  .fail(false)
try {
  await cli.parseAsync()
} catch (error) {
  const usage = error instanceof Error && error.name === 'YError'
  console.error(`error: ${error instanceof Error ? error.message : String(error)}${usage ? '\nsee --help' : ''}`)
  process.exitCode = 1
}
