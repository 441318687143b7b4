// `train`: trains a network, or goes on with a run, and leaves checkpoints, metrics and a report in a folder.

import { join } from 'node:path'
import { type Backend, NonFiniteError, ValueError } from '@dynconv/core'
import { writeFileAtomic } from '@dynconv/core/node'
import type { Argv } from 'yargs'
import { withBackend } from '../backend.ts'
import { checkConfig, type RunConfig } from '../config.ts'
import { loadData } from '../data.ts'
import { filesOf, prepareFolder, resumePoint } from '../folder.ts'
import { formatCount, formatPercent, formatSeconds } from '../format.ts'
import { secondsPerEpoch } from '../history.ts'
import { listenForInterrupt } from '../interrupt.ts'
import { networkCost } from '../network.ts'
import { type RunResult, trainRun } from '../run.ts'
import { downloadProgress, terminalProgress } from '../terminal.ts'
import { engineOptions, jsonOption, typed, withRunOptions } from './options.ts'
import { writeJson } from './output.ts'

/** Adds the command. */
export function addTrain(cli: Argv): Argv {
  return cli.command(
    ['train', '$0'],
    'Train a network (the default)',
    (y) =>
      withRunOptions(y)
        .options(engineOptions)
        .options({
          out: { type: 'string', describe: 'the run’s folder [default: runs/<dataset>-<model>-k<bases>]', group: 'Run:', requiresArg: true },
          resume: { type: 'boolean', describe: 'go on with the run in --out, with its options', group: 'Run:' },
          overwrite: { type: 'boolean', describe: 'replace the run in --out', group: 'Run:' },
          ...jsonOption,
        })
        .conflicts('resume', 'overwrite')
        .example('$0', 'a small residual network with K=4 on Fashion-MNIST')
        .example('$0 --dataset fashion-small --bases 1 --epochs 5', 'ordinary convolutions, on the images that come along')
        .example('$0 --out runs/mine --resume', 'go on where a run stopped'),
    async (argv) => {
      const given = typed(argv)
      const asked = checkConfig(given)
      if (argv.out === '') throw new ValueError('--out must name a folder')
      const out = argv.out ?? join('runs', `${asked.dataset}-${asked.model}-k${asked.bases}`)
      const { from, config } = argv.resume ? await resumePoint(out, given) : { from: undefined, config: asked }
      await prepareFolder(out, argv.resume === true || argv.overwrite === true)
      const data = await loadData(config, downloadProgress())
      await withBackend(argv, async (backend) => {
        using interrupt = listenForInterrupt(() => console.error('\nfinishing this step, then saving; Ctrl-C again ends at once without'))
        console.log(`${describe(config)}; ${formatCount(data.train.count)} images to train with, ${formatCount(data.test.count)} to test with`)
        console.log(`${backend.capabilities.device}; into ${out}${from ? `, from step ${from.info.steps ?? 0}` : ''}`)
        const result = await trainRun({ config, data, backend, out, from, interrupt, progress: terminalProgress() }).catch((error: unknown) => {
          if (!(error instanceof NonFiniteError)) throw error
          throw new Error(`${error.message}\nkept: ${filesOf(out).last}.safetensors, from before`, { cause: error })
        })
        const outcome = await conclude(result, out, backend)
        if (argv.json !== undefined) await writeJson(argv.json, outcome)
        if (result.interrupted) process.exitCode = interrupt.exitCode
      })
    },
  )
}

/** A run's network in words. */
export function describe(config: RunConfig): string {
  const kind = config.bases > 1 ? `dynamic convolutions (K=${config.bases})` : 'ordinary convolutions'
  return `${config.model} with ${kind} on ${config.dataset}, ${config.epochs} ${config.epochs === 1 ? 'epoch' : 'epochs'}`
}

// Prints what came of the run, writes the report, and returns the same as plain data.
async function conclude(result: RunResult, out: string, backend: Backend): Promise<object> {
  const { config, history, net, facts, interrupted } = result
  const files = filesOf(out)
  const cost = networkCost(net, facts, backend)
  // Drawing takes longer to load than all the rest: only where there is something to draw.
  const { reportHtml } = await import('../report.ts')
  await writeFileAtomic(files.report, reportHtml(`${config.model} on ${config.dataset}`, [{ name: config.bases > 1 ? `K=${config.bases}` : 'static', config, steps: history.steps, epochs: history.epochs, cost }]))
  const last = history.epochs.at(-1)
  const best = history.epochs.toSorted((a, b) => b.testAccuracy - a.testAccuracy)[0]
  if (last && best) {
    console.log(`test accuracy ${formatPercent(last.testAccuracy)} after epoch ${last.epoch}, best ${formatPercent(best.testAccuracy)} after epoch ${best.epoch}`)
    console.log(`${formatCount(cost.parameters)} parameters, ${formatCount(cost.macs)} multiply-adds per image, ${formatSeconds(secondsPerEpoch(history.epochs))} per epoch`)
  }
  const written = { last: result.last, ...(best ? { best: `${files.best}.safetensors` } : {}), metrics: files.metrics, report: files.report }
  console.log(`wrote ${Object.values(written).join(', ')}`)
  if (interrupted) console.log(`stopped after step ${history.steps.at(-1)?.step ?? 0}; go on with: pnpm train --out ${out} --resume`)
  return {
    config,
    interrupted,
    step: history.steps.at(-1)?.step ?? 0,
    epochs: history.epochs,
    parameters: cost.parameters,
    macs: cost.macs,
    secondsPerEpoch: history.epochs.length ? secondsPerEpoch(history.epochs) : null,
    files: written,
  }
}
