// A run (or several, side by side) as one HTML page that needs no network and no script: curves drawn here, as SVG, by
// Observable Plot on a DOM of linkedom's; numbers in tables.

import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
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

const WIDTH = 640
const HEIGHT = 300
/** A curve of steps has at most this many points: means over stretches of equal length. */
const CURVE_POINTS = 300

const style = `
  :root { color-scheme: light dark }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem }
  h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
  .plots { display: flex; flex-wrap: wrap; gap: 1.5rem }
  figure { margin: 0 } figcaption { font-weight: 600 }
  svg { max-width: 100%; height: auto; background: none }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums }
  th, td { padding: .15rem .8rem .15rem 0; text-align: left; border-bottom: 1px solid #8884 }
  td.number, th.number { text-align: right }
  .note { opacity: .75 }
`

/** The page's text. */
export function reportHtml(title: string, runs: readonly ReportedRun[]): string {
  const { document } = parseHTML('<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"></head><body></body></html>')
  const page = new Page(document)
  page.head(title, style)
  page.add('h1', title)
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
  const plots = page.add('div', '', 'plots')
  if (runs.some((run) => run.epochs.length)) plots.append(...[accuracyPlot(document, runs), lossPlot(document, runs)].map(([caption, plot]) => page.figure(caption, plot)))
  else page.add('p', 'No epoch was completed.', 'note')
  for (const run of runs.filter(({ epochs }) => epochs.some((e) => Object.keys(e.entropy).length))) {
    plots.append(page.figure(`Routing entropy${runs.length > 1 ? ` (${run.name})` : ''}`, entropyPlot(document, run)))
  }
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
  return document.toString()
}

type Doc = ReturnType<typeof parseHTML>['document']
type El = ReturnType<Doc['createElement']>
type Captioned = readonly [caption: string, plot: ReturnType<typeof Plot.plot>]

interface Point {
  readonly x: number
  readonly y: number
  readonly curve: string
}

function frame(document: Doc, label: string, marks: Plot.Markish[], y: Plot.ScaleOptions = {}): ReturnType<typeof Plot.plot> {
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

function curves(points: readonly Point[], dotted: boolean): Plot.Markish[] {
  const title = (p: Point): string => `${p.curve}, epoch ${Number(p.x.toFixed(2))}: ${Number(p.y.toPrecision(4))}`
  const line = Plot.line(points, { x: 'x', y: 'y', stroke: 'curve' })
  return dotted ? [line, Plot.dot(points, { x: 'x', y: 'y', fill: 'curve', r: 3, title })] : [line]
}

function label(runs: readonly ReportedRun[], run: ReportedRun, what: string): string {
  return runs.length > 1 ? `${run.name}: ${what}` : what
}

function accuracyPlot(document: Doc, runs: readonly ReportedRun[]): Captioned {
  const points = runs.flatMap((run) =>
    run.epochs.flatMap((e) => [
      { x: e.epoch, y: 100 * e.testAccuracy, curve: label(runs, run, 'test') },
      { x: e.epoch, y: 100 * e.trainAccuracy, curve: label(runs, run, 'train (augmented)') },
    ]),
  )
  return ['Accuracy', frame(document, 'accuracy (%)', curves(points, true))]
}

function lossPlot(document: Doc, runs: readonly ReportedRun[]): Captioned {
  const test = runs.flatMap((run) => run.epochs.map((e) => ({ x: e.epoch, y: e.testLoss, curve: label(runs, run, 'test') })))
  const train = runs.flatMap((run) => thinned(run).map((p) => ({ ...p, curve: label(runs, run, 'train') })))
  return ['Loss', frame(document, 'loss', [...curves(train, false), ...curves(test, true)])]
}

function entropyPlot(document: Doc, { epochs }: ReportedRun): ReturnType<typeof Plot.plot> {
  const points = epochs.flatMap((e) => Object.entries(e.entropy).map(([curve, y]) => ({ x: e.epoch, y, curve })))
  return frame(document, 'entropy / log K', curves(points, true), { domain: [0, 1] })
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

// Elements with their text; whatever a run is named, it stays text.
class Page {
  readonly #document: Doc

  constructor(document: Doc) {
    this.#document = document
  }

  head(title: string, css: string): void {
    this.#document.head.append(this.#element('title', title), this.#element('style', css))
  }

  add(tag: string, text: string, className?: string): El {
    const element = this.#element(tag, text)
    if (className !== undefined) element.setAttribute('class', className)
    this.#document.body.append(element)
    return element
  }

  figure(caption: string, plot: ReturnType<typeof Plot.plot>): El {
    const figure = this.#element('figure', '')
    figure.append(this.#element('figcaption', caption), plot)
    return figure
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const table = this.add('table', '')
    const numeric = head.map((_, i) => rows.some((row) => row[i]) && rows.every((row) => /^[\d.,]*( [%sMGk]+)?$/.test(row[i] ?? '')))
    const line = (tag: string, cells: readonly string[]): El => {
      const row = this.#element('tr', '')
      cells.forEach((text, i) => {
        const cell = this.#element(tag, text)
        if (numeric[i]) cell.setAttribute('class', 'number')
        row.append(cell)
      })
      return row
    }
    table.append(line('th', head), ...rows.map((row) => line('td', row)))
  }

  #element(tag: string, text: string): El {
    const element = this.#document.createElement(tag)
    if (text) element.textContent = text
    return element
  }
}
