#!/usr/bin/env node
// The command line: `pnpm bench [command]`. Commands stand in commands/; this file only joins them, and turns whatever goes
// wrong into a message and an exit code.

import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { addBudget } from './commands/budget.ts'
import { addCompare, addShow, addTable } from './commands/read.ts'
import { addRun } from './commands/run.ts'
import { InterruptedError } from './process.ts'

const cli = [addRun, addShow, addTable, addCompare, addBudget]
  .reduce((y, add) => add(y), yargs(hideBin(process.argv)))
  .scriptName('pnpm bench')
  .usage('$0 [command] [options]\n\nMeasures dynamic against static convolutions: layers, blocks, networks and training steps.')
  .strict()
  .wrap(Math.min(120, process.stdout.columns || 120))
  .parserConfiguration({ 'boolean-negation': false, 'dot-notation': false, 'duplicate-arguments-array': true })
  .fail(false)
try {
  await cli.parseAsync()
} catch (error) {
  const usage = error instanceof Error && error.name === 'YError'
  console.error(`error: ${error instanceof Error ? error.message : String(error)}${usage ? '\nsee --help' : ''}`)
  process.exitCode = error instanceof InterruptedError ? error.exitCode : 1
}
