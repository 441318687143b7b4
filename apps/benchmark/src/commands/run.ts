// The command itself: measures what its options select and writes what was asked for.

import { availableParallelism } from 'node:os'
import { writeFileAtomic } from '@dynconv/core/node'
import type { Argv } from 'yargs'
import { engineNames } from '@dynconv/app-kit/engines'
import { reportHtml } from '../html.ts'
import { torchModes, type TorchMode } from '../peers/torch.ts'
import { inMeasuringEnvironment, interruptible } from '../process.ts'
import { measureReport, npmPeers } from '../session.ts'
import { formatReport } from '../terminal.ts'
import { allWorkloads, type Group, groups, isQuick, selectWorkloads } from '../workloads.ts'

interface RunOptions {
  readonly backend: readonly string[]
  readonly only: readonly Group[] | undefined
  readonly filter: string | undefined
  readonly quick: boolean
  readonly rounds: number | undefined
  readonly threads: number
  readonly peer: string | undefined
  readonly peerModes: readonly TorchMode[]
  readonly peers: readonly string[] | undefined
  readonly memory: boolean | undefined
  readonly ceilings: boolean | undefined
  readonly list: boolean
  readonly explain: boolean
  readonly json: string | undefined
  readonly html: string | undefined
}

/** Adds the default command. */
export function addRun(cli: Argv): Argv {
  return cli.command(
    '$0',
    'Measure dynamic against static convolutions on this machine',
    (y) =>
      y
        .options({
          backend: { array: true, choices: engineNames, default: ['onnx'], describe: 'our engines; several run in turn with each other', group: 'What:', requiresArg: true },
          only: { array: true, choices: groups, describe: 'only these kinds of work', group: 'What:', requiresArg: true },
          filter: { type: 'string', describe: 'only work whose name has this in it', group: 'What:', requiresArg: true },
          quick: { type: 'boolean', default: false, describe: 'the four 3x3 layers at batch 8, no peers: under two minutes', group: 'What:' },
          list: { type: 'boolean', default: false, describe: 'print the work selected, and measure nothing', group: 'What:' },
          rounds: { type: 'number', describe: 'how many turns each variant has [default: 15, quick: 11]', group: 'How:', requiresArg: true },
          threads: { type: 'number', default: availableParallelism(), describe: 'threads of every side', group: 'How:', requiresArg: true },
          memory: { type: 'boolean', describe: 'measure peak memory too, of networks [default: yes, quick: no]', group: 'How:' },
          ceilings: { type: 'boolean', describe: 'measure what the machine can do first [default: yes]', group: 'How:' },
          peer: { type: 'string', describe: 'a Python that has PyTorch: runs the same work there, in turn with ours', group: 'Peers:', requiresArg: true },
          'peer-modes': { array: true, choices: torchModes, default: ['eager', 'channels_last'] satisfies TorchMode[], describe: 'how PyTorch runs it; the best counts', group: 'Peers:', requiresArg: true },
          peers: { array: true, choices: [...npmPeers, 'none'] as readonly string[], describe: 'ONNX Runtime with grouped convolutions, TensorFlow.js by its own operators [default: both, quick: none]', group: 'Peers:', requiresArg: true },
          json: { type: 'string', describe: 'write the report to this file', group: 'Out:', requiresArg: true },
          html: { type: 'string', describe: 'write a page with plots to this file', group: 'Out:', requiresArg: true },
          explain: { type: 'boolean', default: false, describe: 'print what the engine chose', group: 'Out:' },
        })
        .check(({ rounds, threads }) => {
          for (const [name, n] of Object.entries({ rounds, threads })) {
            if (n !== undefined && (!Number.isInteger(n) || n < 1)) throw new Error(`--${name} must be a positive integer, got ${n}`)
          }
          return true
        })
        .example('$0 --quick', 'static against dynamic layers on the default engine')
        .example('$0 --backend onnx tfjs:wasm --only layers', 'two of our engines in one run')
        .example('$0 --only steps --peer ./venv/bin/python --html steps.html', 'training steps, ours and PyTorch’s in one run'),
    (argv) =>
      run({
        backend: argv.backend,
        only: argv.only,
        filter: argv.filter,
        quick: argv.quick,
        rounds: argv.rounds,
        threads: argv.threads,
        peer: argv.peer,
        peerModes: argv['peer-modes'],
        peers: argv.peers,
        memory: argv.memory,
        ceilings: argv.ceilings,
        list: argv.list,
        explain: argv.explain,
        json: argv.json,
        html: argv.html,
      }),
  )
}

async function run(options: RunOptions): Promise<void> {
  const { quick, only, filter } = options
  const workloads = selectWorkloads({ only, filter }, quick ? allWorkloads.filter(isQuick) : allWorkloads)
  if (!workloads.length) {
    const asked = [quick ? '--quick' : '', only ? `--only ${only.join(' ')}` : '', filter === undefined ? '' : `--filter '${filter}'`].filter(Boolean).join(' ')
    throw new Error(`no work fits ${asked}; --list prints what there is`)
  }
  if (options.list) {
    for (const { group, name } of workloads) console.log(`${group.padEnd(10)} ${name}`)
    return
  }
  const code = await inMeasuringEnvironment()
  if (code !== undefined) {
    process.exitCode = code
    return
  }
  await interruptible(async (signal) => {
    const report = await measureReport(
      {
        ...options,
        workloads,
        engines: options.backend,
        rounds: options.rounds ?? (quick ? 11 : 15),
        ceilings: options.ceilings ?? true,
        memory: options.memory ?? !quick,
        peers: options.peers ?? (quick ? [] : npmPeers),
      },
      signal,
    )
    signal.throwIfAborted()
    console.log(formatReport(report))
    if (options.json !== undefined) await write(options.json, `${JSON.stringify(report, null, 2)}\n`)
    if (options.html !== undefined) await write(options.html, reportHtml(report))
  })
}

async function write(file: string, text: string): Promise<void> {
  await writeFileAtomic(file, text)
  console.log(`wrote ${file}`)
}
