// `pnpm bench`: static against dynamic convolution on this machine, and against PyTorch where a Python that has it is named.

import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { onnx } from '@dynconv/backend-onnx'
import { writeFileAtomic } from '@dynconv/core/node'
import { SingleBar } from 'cli-progress'
import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { bench } from './bench.ts'
import { measuringEnvironment } from './machine.ts'
import { peerModes } from './peer.ts'
import { formatReport } from './report.ts'
import { layerWorkloads, stepWorkloads } from './workloads.ts'

const options = await yargs(hideBin(process.argv))
  .scriptName('pnpm bench')
  .usage('$0 [options]\n\nMeasures dynamic against static convolutions: layers in every form, and whole training steps.')
  .option('only', { choices: ['layers', 'steps'] as const, describe: 'only one kind of workload' })
  .option('quick', { type: 'boolean', default: false, describe: 'fewer rounds, layers at batch 8 only' })
  .option('rounds', { type: 'number', describe: 'how often each variant is timed [default: 15, quick: 7]' })
  .option('threads', { type: 'number', default: availableParallelism(), describe: 'threads of both sides' })
  .option('peer', { type: 'string', describe: 'a Python that has PyTorch: runs the same work there, in turn with ours' })
  .option('peer-modes', { choices: peerModes, array: true, default: ['eager', 'channels_last'] as const, describe: 'how PyTorch runs it' })
  .option('explain', { type: 'boolean', default: false, describe: 'print what the backend chose' })
  .option('json', { type: 'string', describe: 'write the report to this file' })
  .check(({ rounds, threads }) => {
    for (const [name, n] of Object.entries({ rounds, threads })) {
      if (n !== undefined && (!Number.isInteger(n) || n < 1)) throw new Error(`--${name} must be a positive integer, got ${n}`)
    }
    return true
  })
  .example('$0 --only steps --peer ./venv/bin/python', 'training steps, ours and PyTorch’s in one run')
  .strict()
  .parseAsync()

// glibc reads its tunables when a process starts, so this one starts another.
const environment = measuringEnvironment()
if (environment) {
  const child = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { env: environment, stdio: 'inherit' })
  process.exit(child.status ?? 1)
}

const { quick, only, threads } = options
const workloads = [...(only === 'steps' ? [] : layerWorkloads(quick ? [8] : [1, 8])), ...(only === 'layers' ? [] : stepWorkloads)]
const backend = await onnx({ threads })
const bar = new SingleBar({ format: '{bar} {percentage} % | {workload} | {eta_formatted} left', hideCursor: true, clearOnComplete: true, noTTYOutput: false })
try {
  let current = ''
  const report = await bench({
    backend,
    workloads,
    rounds: options.rounds ?? (quick ? 7 : 15),
    warmup: 3,
    python: options.peer,
    peerModes: options.peerModes,
    threads,
    progress: (workload, done, total) => {
      if (workload !== current) bar.start(total, 0, { workload })
      current = workload
      bar.update(done, { workload })
      if (done === total) bar.stop()
    },
    ...(options.explain ? { explain: (text: string) => console.log(text) } : {}),
  })
  console.log(formatReport(report))
  if (options.json !== undefined) {
    await writeFileAtomic(options.json, new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`))
    console.log(`wrote ${options.json}`)
  }
} catch (error) {
  bar.stop()
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
} finally {
  await backend.dispose()
}
