// The command line of an app: its commands joined, and whatever goes wrong turned into a message and an exit code.

import yargs, { type Argv } from 'yargs'
import { hideBin } from 'yargs/helpers'
import { allowReadersToLeave } from './output.ts'

/** An app's commands. */
export interface Commands {
  /** How it is started: `pnpm train`. */
  readonly name: string
  /** What it does, as a sentence. */
  readonly about: string
  /** Each adds a command. */
  readonly add: readonly ((cli: Argv) => Argv)[]
  /** Whether an option that is given twice means both; the last counts unless told. */
  readonly repeatable?: boolean
}

/** Does what the command line asks for; the exit code of a failure is 1, or the error's own `exitCode`. */
export async function runCommands({ name, about, add, repeatable = false }: Commands): Promise<void> {
  const cli = add
    .reduce((y, one) => one(y), yargs(hideBin(process.argv)))
    .scriptName(name)
    .usage(`$0 [command] [options]\n\n${about}`)
    .version(false)
    .strict()
    .wrap(Math.min(120, process.stdout.columns || 120))
    // `--no-x` and `--a.b` mean nothing here.
    .parserConfiguration({ 'boolean-negation': false, 'dot-notation': false, 'duplicate-arguments-array': repeatable })
    .fail(false)
  allowReadersToLeave()
  try {
    await cli.parseAsync()
  } catch (error) {
    const usage = error instanceof Error && error.name === 'YError'
    process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}${usage ? '\nsee --help' : ''}\n`)
    process.exitCode = error instanceof Error && 'exitCode' in error && typeof error.exitCode === 'number' ? error.exitCode : 1
  }
}
