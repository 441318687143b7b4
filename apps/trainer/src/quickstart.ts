// `pnpm quickstart`: the same small residual network trained twice on the images that come along, with ordinary and with
// dynamic convolutions, in under three minutes on two cores; what came of both, side by side, and an .onnx file that gives
// the same answers.

import { join } from 'node:path'
import type { Backend } from '@dynconv/core'
import { writeFileAtomic } from '@dynconv/core/node'
import { loader, subset } from '@dynconv/datasets'
import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { withBackend } from './backend.ts'
import { engineOptions, jsonOption } from './commands/options.ts'
import { writeJson } from './commands/output.ts'
import { checkConfig } from './config.ts'
import { type Data, loadData } from './data.ts'
import { prepareFolder } from './folder.ts'
import { formatCount, formatPercent, formatSeconds, formatTable } from './format.ts'
import { secondsPerEpoch } from './history.ts'
import { listenForInterrupt, type SignalInterrupt } from './interrupt.ts'
import { type NetworkCost, networkCost } from './network.ts'
import { exportChecked } from './onnxFile.ts'
import type { ReportedRun } from './report.ts'
import { type RunResult, trainRun } from './run.ts'
import { terminalProgress } from './terminal.ts'

/** Images that the .onnx file is checked with. */
const CHECKED_IMAGES = 100
const BASES = 4

const base = { dataset: 'fashion-small', model: 'resnet8', epochs: 6, batch: 32, lr: 0.1, augment: 'flip', seed: 1 }
const runs = [
  { name: 'static', label: 'ordinary convolutions', config: checkConfig({ ...base, bases: 1 }) },
  { name: 'dynamic', label: `dynamic convolutions, K=${BASES}`, config: checkConfig({ ...base, bases: BASES }) },
] as const

interface Outcome {
  readonly name: string
  readonly label: string
  readonly result: RunResult
  readonly cost: NetworkCost
}

/** What summary.json says of each network. */
interface Figures {
  /** Fraction of the test images. */
  readonly accuracy: number
  readonly parameters: number
  /** Multiply-adds for one image. */
  readonly macs: number
  readonly secondsPerEpoch: number
  /** On the test images. */
  readonly finalLoss: number
}

const options = await yargs(hideBin(process.argv))
  .scriptName('pnpm quickstart')
  .usage('$0\n\nTrains a small network twice, with ordinary and with dynamic convolutions, and compares them.')
  .options({ out: { type: 'string', default: join('runs', 'quickstart'), describe: 'the folder; an earlier quickstart there is replaced', requiresArg: true } })
  .options({ ...engineOptions, ...jsonOption })
  .strict()
  .parseAsync()

try {
  await quickstart()
} catch (error) {
  console.error(`quickstart: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}

async function quickstart(): Promise<void> {
  const start = performance.now()
  await prepareFolder(options.out, true)
  const data = await loadData(runs[0].config)
  console.log(`${formatCount(data.train.count)} images of Fashion-MNIST to train with, ${formatCount(data.test.count)} to test with; ${base.model}, ${base.epochs} epochs each`)
  await withBackend(options, async (backend) => {
    console.log(backend.capabilities.device)
    using interrupt = listenForInterrupt(() => console.error('\nstopping after this step'))
    const outcomes = await trainAll(backend, data, interrupt)
    if (!outcomes) {
      console.log('stopped; run it again for the whole')
      process.exitCode = interrupt.exitCode
      return
    }
    await conclude(outcomes, backend, data)
    console.log(`\n${formatSeconds((performance.now() - start) / 1000)} in all`)
  })
}

// Undefined when interrupted.
async function trainAll(backend: Backend, data: Data, interrupt: SignalInterrupt): Promise<readonly Outcome[] | undefined> {
  const outcomes: Outcome[] = []
  for (const { name, label, config } of runs) {
    console.log(`\n${label}`)
    const result = await trainRun({ config, data, backend, out: join(options.out, name), interrupt, progress: terminalProgress() })
    if (result.interrupted) return undefined
    outcomes.push({ name, label, result, cost: networkCost(result.net, result.facts, backend) })
  }
  return outcomes
}

async function conclude(outcomes: readonly Outcome[], backend: Backend, data: Data): Promise<void> {
  const { out, json } = options
  console.log(`\n${table(outcomes)}\n${chance(outcomes, data.test.count)}`)
  const report = join(out, 'report.html')
  // Drawing takes longer to load than all the rest.
  const { reportHtml } = await import('./report.ts')
  await writeFileAtomic(report, reportHtml('Quickstart: ordinary and dynamic convolutions on part of Fashion-MNIST', outcomes.map(reported)))

  const onnx = join(out, 'dynamic.onnx')
  const { net, facts, last } = dynamicOf(outcomes)
  const [batch] = loader(subset(data.test, CHECKED_IMAGES), { batchSize: CHECKED_IMAGES })
  if (!batch) throw new Error('there are no test images')
  const onnxMaxDifference = await exportChecked(net, facts, onnx, batch.images, backend)
  console.log(`${onnx} gives the same answers: on ${CHECKED_IMAGES} test images its outputs differ by at most ${onnxMaxDifference.toExponential(1)}`)

  const summary = { ...Object.fromEntries(outcomes.map((outcome) => [outcome.name, figuresOf(outcome)])), onnxMaxDifference }
  const summaryFile = join(out, 'summary.json')
  await writeJson(summaryFile, summary)
  if (json !== undefined) await writeJson(json, summary)
  const written = [
    [report, 'curves and layers of both networks; open it in a browser'],
    [last, 'the dynamic network with its training state'],
    [onnx, 'the same for ONNX Runtime anywhere'],
    [summaryFile, 'these figures for machines'],
  ] as const
  const next = [
    ['pnpm train', 'the same on all 60,000 images of Fashion-MNIST'],
    [`pnpm train summary ${last} --images 8`, 'what each layer costs, and how it is computed'],
  ] as const
  console.log(`\nwrote\n${columns(written)}\n\nnext\n${columns(next)}`)
}

// The standard error of a fraction p of n images is sqrt(p (1 - p) / n); of a difference of two, sqrt(2) times that.
function chance(outcomes: readonly Outcome[], images: number): string {
  const p = outcomes.reduce((sum, outcome) => sum + figuresOf(outcome).accuracy, 0) / outcomes.length
  const error = Math.sqrt((2 * p * (1 - p)) / images)
  return `On ${formatCount(images)} images, accuracies differ by about ${formatPercent(error)} by chance alone.`
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([first]) => first.length))
  return rows.map(([first, second]) => `  ${first.padEnd(width)}   ${second}`).join('\n')
}

function dynamicOf(outcomes: readonly Outcome[]): RunResult {
  const found = outcomes.find((outcome) => outcome.name === 'dynamic')
  if (!found) throw new Error('the dynamic network was not trained')
  return found.result
}

function figuresOf({ result, cost }: Outcome): Figures {
  const last = result.history.epochs.at(-1)
  return {
    accuracy: last?.testAccuracy ?? Number.NaN,
    parameters: cost.parameters,
    macs: cost.macs,
    secondsPerEpoch: secondsPerEpoch(result.history.epochs),
    finalLoss: last?.testLoss ?? Number.NaN,
  }
}

function table(outcomes: readonly Outcome[]): string {
  const head = ['', 'test accuracy', 'parameters', 'multiply-adds per image', 'time per epoch']
  const rows = outcomes.map((outcome) => {
    const f = figuresOf(outcome)
    return [outcome.label, formatPercent(f.accuracy), formatCount(f.parameters), formatCount(f.macs), formatSeconds(f.secondsPerEpoch)]
  })
  return formatTable(head, rows, head.slice(1))
}

function reported({ label, result, cost }: Outcome): ReportedRun {
  return { name: label, config: result.config, steps: result.history.steps, epochs: result.history.epochs, cost }
}
