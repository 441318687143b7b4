// A run (or several, side by side) as one HTML page that needs no network and no script: curves drawn here, as SVG, by
// Observable Plot; numbers in tables. The page itself is @dynconv/app-kit's.

import * as Plot from '@observablehq/plot'
import { Page, type PageDocument } from '@dynconv/app-kit/page'
import { fieldNames, flag, type RunConfig } from './config.ts'
import { formatCount, formatPercent, formatSeconds } from './format.ts'
import { type EpochRecord, secondsPerEpoch, type StepRecord } from './history.ts'
import type { NetworkCost } from './network.ts'

/** A run as the report shows it. */
export interface ReportedRun {
  readonly name: string
  readonly config: RunConfig
  readonly steps: readonly StepRecord[]
  readonly epochs: readonly EpochRecord[]
  readonly cost: NetworkCost
}

const WIDTH = 620
const HEIGHT = 300
/** A curve of steps has at most this many points: means over stretches of equal length. */
const CURVE_POINTS = 300

/** The page's text. */
export function reportHtml(title: string, runs: readonly ReportedRun[]): string {
  const page = new Page(title)
  const { document } = page
  page.table(
    ['run', 'test accuracy', 'best', 'test loss', 'parameters', 'multiply-adds per image', 'seconds per epoch', 'epochs'],
    runs.map(({ name, epochs, cost, config }) => {
      const last = epochs.at(-1)
      const best = epochs.toSorted((a, b) => b.testAccuracy - a.testAccuracy)[0]
      return [
        name,
        last ? formatPercent(last.testAccuracy) : '',
        best ? `${formatPercent(best.testAccuracy)} (epoch ${best.epoch})` : '',
        last ? last.testLoss.toFixed(4) : '',
        formatCount(cost.parameters),
        formatCount(cost.macs),
        epochs.length ? formatSeconds(secondsPerEpoch(epochs)) : '',
        `${epochs.length} of ${config.epochs}`,
      ]
    }),
  )
  const curves = runs.some((run) => run.epochs.length) ? [accuracyPlot(document, runs), lossPlot(document, runs)] : []
  const watched = runs.filter(({ epochs }) => epochs.some((e) => Object.keys(e.entropy).length))
  const entropies = watched.map((run) => ({ caption: `Routing entropy${runs.length > 1 ? ` (${run.name})` : ''}`, plot: entropyPlot(document, run) }))
  page.figures([...curves, ...entropies])
  if (!curves.length) page.add('p', 'No epoch was completed.', 'note')
  page.add('p', 'Routing entropy: of a layer’s mixture, over log K, averaged over test images. 1: all bases equally; 0: one basis for each image.', 'note')
  for (const { name, cost } of runs) {
    page.add('h2', `Layers of ${name}`)
    page.table(
      ['layer', 'kind', 'parameters', 'multiply-adds', 'computed as'],
      cost.layers.map((layer) => [layer.name, layer.kind, formatCount(layer.parameters), formatCount(layer.macs), layer.form ?? '']),
    )
  }
  page.add('h2', 'Settings')
  page.table(
    ['option', ...runs.map((run) => run.name)],
    fieldNames.map((field) => [flag(field), ...runs.map(({ config }) => String(config[field] ?? ''))]),
  )
  return page.toString()
}

interface Captioned {
  readonly caption: string
  readonly plot: ReturnType<typeof Plot.plot>
}

interface Point {
  readonly x: number
  readonly y: number
  readonly curve: string
}

function frame(document: PageDocument, label: string, marks: Plot.Markish[], y: Plot.ScaleOptions = {}): ReturnType<typeof Plot.plot> {
  return Plot.plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginRight: 20,
    ariaLabel: label,
    style: { fontSize: '12px' },
    color: { legend: true },
    // Epochs are whole; what Plot puts between them stays without a number.
    x: { label: 'epoch', tickFormat: (epoch: number) => (Number.isInteger(epoch) ? String(epoch) : '') },
    y: { grid: true, label, ...y },
    marks,
  })
}

function lines(points: readonly Point[], dotted: boolean): Plot.Markish[] {
  const title = (p: Point): string => `${p.curve}, epoch ${Number(p.x.toFixed(2))}: ${Number(p.y.toPrecision(4))}`
  const line = Plot.line(points, { x: 'x', y: 'y', z: 'curve', stroke: 'curve' })
  return dotted ? [line, Plot.dot(points, { x: 'x', y: 'y', fill: 'curve', r: 3, title })] : [line]
}

function label(runs: readonly ReportedRun[], run: ReportedRun, what: string): string {
  return runs.length > 1 ? `${run.name}: ${what}` : what
}

function accuracyPlot(document: PageDocument, runs: readonly ReportedRun[]): Captioned {
  const points = runs.flatMap((run) =>
    run.epochs.flatMap((e) => [
      { x: e.epoch, y: 100 * e.testAccuracy, curve: label(runs, run, 'test') },
      { x: e.epoch, y: 100 * e.trainAccuracy, curve: label(runs, run, 'train (augmented)') },
    ]),
  )
  return { caption: 'Accuracy', plot: frame(document, 'accuracy (%)', lines(points, true)) }
}

function lossPlot(document: PageDocument, runs: readonly ReportedRun[]): Captioned {
  const test = runs.flatMap((run) => run.epochs.map((e) => ({ x: e.epoch, y: e.testLoss, curve: label(runs, run, 'test') })))
  const train = runs.flatMap((run) => thinned(run).map((p) => ({ ...p, curve: label(runs, run, 'train') })))
  return { caption: 'Loss', plot: frame(document, 'loss', [...lines(train, false), ...lines(test, true)]) }
}

function entropyPlot(document: PageDocument, { epochs }: ReportedRun): ReturnType<typeof Plot.plot> {
  const points = epochs.flatMap((e) => Object.entries(e.entropy).map(([curve, y]) => ({ x: e.epoch, y, curve })))
  return frame(document, 'entropy / log K', lines(points, true), { domain: [0, 1] })
}

function thinned({ steps, epochs }: ReportedRun): readonly { readonly x: number; readonly y: number }[] {
  const perEpoch = (epochs.at(-1)?.step ?? steps.length) / (epochs.at(-1)?.epoch ?? 1)
  const length = Math.max(1, Math.ceil(steps.length / CURVE_POINTS))
  return Array.from({ length: Math.ceil(steps.length / length) }, (_, i) => {
    const part = steps.slice(i * length, (i + 1) * length)
    const mean = (of: (s: StepRecord) => number): number => part.reduce((sum, s) => sum + of(s), 0) / part.length
    return { x: mean((s) => s.step) / perEpoch, y: mean((s) => s.loss) }
  })
}
