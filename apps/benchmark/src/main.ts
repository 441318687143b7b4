#!/usr/bin/env node
// The command line: `pnpm bench [command]`. Commands stand in commands/; this file only joins them.

import { runCommands } from '@dynconv/app-kit/commands'
import { addBudget } from './commands/budget.ts'
import { addCompare, addShow, addTable } from './commands/read.ts'
import { addRun } from './commands/run.ts'

await runCommands({
  name: 'pnpm bench',
  about: 'Measures dynamic against static convolutions: layers, blocks, networks and training steps.',
  add: [addRun, addShow, addTable, addCompare, addBudget],
  repeatable: true,
})
