#!/usr/bin/env node
// The command line: `pnpm train [command]`. Commands stand in commands/; this file only joins them.

import { runCommands } from '@dynconv/app-kit/commands'
import { addEval } from './commands/eval.ts'
import { addExport } from './commands/export.ts'
import { addSummary } from './commands/summary.ts'
import { addTrain } from './commands/train.ts'

await runCommands({
  name: 'pnpm train',
  about: 'Trains, resumes, evaluates and exports networks with dynamic convolutions.',
  add: [addTrain, addEval, addExport, addSummary],
})
