// The plots of a report, drawn by Observable Plot as SVG. A plot for which a report has no data is left out.

import * as Plot from '@observablehq/plot'
import { isNoisy, type Ratio, type Report, type Row } from './report.ts'
import { isChosen } from './summary.ts'
import type { Workload } from './workloads.ts'

/** A plot with its caption. */
export interface Figure {
  readonly caption: string
  readonly plot: ReturnType<typeof Plot.plot>
}

type Doc = Plot.PlotOptions['document']

// What every plot has: room for the labels of its axes, and a legend. `ariaLabel` says what it is.
function frame(document: Doc, ariaLabel: string, options: Plot.PlotOptions): Figure['plot'] {
  return Plot.plot({ document, width: 640, height: 320, marginLeft: 60, marginRight: 20, marginBottom: 45, ariaLabel, style: { fontSize: '12px' }, color: { legend: true }, ...options })
}

// A line for each name, which stands at the left; a letter of 12 px is at most 6.6 px wide, on average.
const listed = (names: readonly string[]): Plot.PlotOptions => ({ height: 75 + 22 * names.length, marginLeft: 20 + 6.6 * Math.max(0, ...names.map((n) => n.length)), y: { label: null, domain: names } })

/** Every plot that a report has data for. */
export function figures(report: Report, document: Doc): readonly Figure[] {
  return [overhead, peers, roofline, costAgainstBases, costAgainstSize, memory].flatMap((draw) => draw(report, document) ?? [])
}

type Draw = (report: Report, document: Doc) => Figure | undefined

const own = ({ rows }: Report): readonly Row[] => rows.filter((r) => r.vendor === 'dynconv')
const workloadOf = ({ workloads }: Report, row: Row): Workload | undefined => workloads.find((w) => w.name === row.workload)

interface Point {
  readonly label: string
  readonly curve: string
  readonly value: number
  readonly low: number
  readonly high: number
  readonly title: string
}

function point(label: string, curve: string, ratio: Ratio): Point {
  const { value, spread } = ratio
  const noise = isNoisy(ratio) ? ', noisy' : ''
  return { label, curve, value, low: value - spread / 2, high: value + spread / 2, title: `${label}, ${curve}: ${value.toFixed(2)} ± ${(spread / 2).toFixed(2)}${noise}` }
}

// A dot for each ratio, with its spread, one line for each piece of work; 1 is marked.
function ratioPlot(document: Doc, label: string, points: readonly Point[]): Figure['plot'] {
  const names = [...new Set(points.map((p) => p.label))]
  return frame(document, label, {
    ...listed(names),
    x: { label, labelOffset: 40, grid: true, type: 'log', ticks: 6, tickFormat: (x: number) => String(Number(x.toPrecision(2))) },
    marks: [
      Plot.ruleX([1]),
      Plot.ruleY(points, { y: 'label', x1: 'low', x2: 'high', stroke: 'curve', strokeOpacity: 0.6 }),
      Plot.dot(points, { x: 'value', y: 'label', fill: 'curve', r: 4, title: 'title' }),
    ],
  })
}

const overhead: Draw = (report, document) => {
  const rows = report.rows
  const points = rows.flatMap((row) => (row.toStatic && workloadOf(report, row)?.group !== 'bases' && isChosen(rows, row) ? [point(row.workload, row.library, row.toStatic)] : []))
  return points.length ? { caption: 'Dynamic time over static time, each within one library', plot: ratioPlot(document, 'dynamic / static', points) } : undefined
}

const peers: Draw = (report, document) => {
  const rows = own(report).filter((row) => workloadOf(report, row)?.group !== 'bases' && isChosen(report.rows, row))
  const points = rows.flatMap((row) => Object.entries(row.toPeers).map(([vendor, ratio]) => point(`${row.workload}${row.numBases ? '' : ', static'}`, `${row.library} / ${vendor}`, ratio)))
  return points.length ? { caption: 'Our time over a peer’s best (left of 1: ours is faster)', plot: ratioPlot(document, 'ours / peer', points) } : undefined
}

const roofline: Draw = (report, document) => {
  const { ceilings } = report
  const rows = report.rows.flatMap((r) => (r.work && r.bound && r.work.leastMacs > 0 ? [{ row: r, intensity: r.work.leastMacs / r.work.bytes, rate: r.work.leastMacs / (r.medianMs / 1e3) / 1e9 }] : []))
  const host = ceilings?.gemm.filter((g) => g.host) ?? []
  const far = ceilings?.memory.at(-1)
  if (!rows.length || !ceilings || !host.length || !far) return undefined
  const peak = Math.max(...host.map((g) => g.macsPerSecond)) / 1e9
  const low = Math.min(...rows.map((r) => r.intensity)) / 2
  const high = Math.max(...rows.map((r) => r.intensity)) * 2
  const roof = (name: string, bytesPerSecond: number): readonly { readonly x: number; readonly y: number; readonly roof: string }[] => {
    const slope = bytesPerSecond / 1e9
    const ridge = peak / slope
    return [low, ...(ridge > low && ridge < high ? [ridge] : []), high].map((x) => ({ x, y: Math.min(peak, x * slope), roof: name }))
  }
  const near = ceilings.memory[0]
  const roofs = [...roof('memory', far.bytesPerSecond), ...(near && near !== far ? roof('cache', near.bytesPerSecond) : [])]
  const points = rows.map(({ row, intensity, rate }) => ({ intensity, rate, kind: `${row.library}, ${row.numBases ? 'dynamic' : 'static'}`, title: `${row.workload}, ${row.name}: ${rate.toFixed(1)} G multiply-adds/s, ${((row.bound?.share ?? 0) * 100).toFixed(0)} % of the bound` }))
  return {
    caption: 'Roofline: multiply-adds a second against multiply-adds a byte (lines: the measured peaks of products, memory, cache)',
    plot: frame(document, 'roofline', {
      x: { type: 'log', label: 'multiply-adds / byte', labelOffset: 40, grid: true, tickFormat: (x: number) => String(Number(x.toPrecision(2))), ticks: 5 },
      y: { type: 'log', label: 'G multiply-adds / s', grid: true, tickFormat: (y: number) => String(Number(y.toPrecision(2))), ticks: 5 },
      marks: [
        Plot.line(roofs, { x: 'x', y: 'y', z: 'roof', stroke: 'currentColor', strokeDasharray: '4 3' }),
        Plot.dot(points, { x: 'intensity', y: 'rate', stroke: 'kind', r: 4, title: 'title' }),
      ],
    }),
  }
}

interface CurvePoint {
  readonly x: number
  readonly y: number
  readonly curve: string
}

function curves(document: Doc, x: Plot.ScaleOptions & { readonly label: string }, y: string, points: readonly CurvePoint[], options: { readonly ruleAt?: number } = {}): Figure['plot'] {
  const sorted = points.toSorted((a, b) => a.x - b.x)
  return frame(document, `${y} against ${x.label}`, {
    x: { grid: true, labelOffset: 40, ...x, ticks: [...new Set(sorted.map((p) => p.x))], tickFormat: (v: number) => String(v) },
    y: { grid: true, label: y, zero: true },
    marks: [
      ...(options.ruleAt === undefined ? [] : [Plot.ruleY([options.ruleAt], { strokeOpacity: 0.5 })]),
      Plot.line(sorted, { x: 'x', y: 'y', z: 'curve', stroke: 'curve' }),
      Plot.dot(sorted, { x: 'x', y: 'y', fill: 'curve', r: 3.5, title: (p: CurvePoint) => `${p.curve}: ${Number(p.y.toPrecision(3))}` }),
    ],
  })
}

const costAgainstBases: Draw = (report, document) => {
  const points = report.rows.flatMap((row) => (row.toStatic && workloadOf(report, row)?.group === 'bases' ? [{ x: row.numBases, y: row.toStatic.value, curve: `${row.workload.replace(/^K: /, '')}, ${row.library}` }] : []))
  return points.length ? { caption: 'Dynamic time over static time, against K', plot: curves(document, { label: 'K' }, 'dynamic / static', points, { ruleAt: 1 }) } : undefined
}

const costAgainstSize: Draw = (report, document) => {
  const points = report.rows.flatMap((row) => {
    const workload = workloadOf(report, row)
    return workload?.group === 'resolution' ? [{ x: workload.size, y: row.medianMs, curve: row.name }] : []
  })
  return points.length ? { caption: 'Time against the images’ size, ResNet-18 with the ImageNet stem, one image', plot: curves(document, { label: 'height and width' }, 'ms', points) } : undefined
}

const memory: Draw = (report, document) => {
  const bars = report.rows.flatMap((row) => (row.memory && workloadOf(report, row)?.group !== 'bases' ? [{ workload: row.workload, variant: row.name, megabytes: row.memory.runBytes / 1e6 }] : []))
  const names = [...new Set(bars.map((b) => b.workload))]
  if (!bars.length) return undefined
  return {
    caption: 'Peak memory of the runs, above that of the loaded library',
    plot: frame(document, 'peak memory', {
      ...listed(names),
      x: { label: 'MB', labelOffset: 40, grid: true, zero: true },
      marks: [Plot.dot(bars, { x: 'megabytes', y: 'workload', fill: 'variant', r: 4, title: (b: (typeof bars)[number]) => `${b.variant}: ${b.megabytes.toFixed(1)} MB` })],
    }),
  }
}
