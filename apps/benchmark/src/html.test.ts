import { expect, test } from 'vitest'
import { reportHtml } from './html.ts'
import { markdownTable } from './markdown.ts'
import { boundOf } from './ceilings.ts'
import { type Report, rowsOf } from './report.ts'
import { timingOf } from './measure.ts'
import { geometricMean, summaryLines } from './summary.ts'
import { report } from './testing/reports.ts'
import { formatReport } from './terminal.ts'
import type { Workload } from './workloads.ts'

const chain = { kind: 'chain', channels: 64, kernelSize: 3, depthwise: false, depth: 4 } as const
const resnet = { kind: 'resnet', widths: [8], blocks: [1], stem: 'imagenet', classes: 10 } as const
const base = { task: 'infer', size: 56, batch: 8, bases: [4], everyForm: false } as const
const workloads: readonly Workload[] = [
  { ...base, group: 'layers', name: '3x3 64@56 batch 8', net: chain },
  { ...base, group: 'bases', name: 'K: 3x3', net: chain, bases: [1, 16] },
  { ...base, group: 'resolution', name: 'ResNet-18 (ImageNet stem) 64x64 batch 1', net: resnet, size: 64, batch: 1 },
  { ...base, group: 'resolution', name: 'ResNet-18 (ImageNet stem) 224x224 batch 1', net: resnet, size: 224, batch: 1 },
]
const ceilings = { gemm: [{ library: 'onnx', macsPerSecond: 100e9, host: true }], memory: [{ bytes: 2 ** 20, bytesPerSecond: 100e9 }, { bytes: 2 ** 28, bytesPerSecond: 20e9 }] }

function madeUp(): Report {
  const rows = workloads.flatMap((workload) => {
    const own = [0, ...workload.bases].map((numBases) => ({
      ...timingOf({ name: `onnx ${numBases ? `dynamic K=${numBases}` : 'static'}`, library: 'onnx', vendor: 'dynconv', numBases }, [10 + numBases, 10 + numBases, 11 + numBases]),
      firstRunSeconds: 0.5,
      work: { macs: 5e8, leastMacs: 5e8, bytes: 1e6 * (1 + numBases), stateBytes: 1e6 * Math.max(1, numBases), mixedBytes: 0 },
      memory: { loadBytes: 2e8, runBytes: 1e8 + 1e6 * numBases },
    }))
    const peer = [0, 4].map((numBases) => timingOf({ name: `PyTorch eager ${numBases}`, library: 'PyTorch eager', vendor: 'PyTorch', numBases }, [20, 20, 20]))
    return rowsOf({ workload, timings: [...own, ...peer] }, ceilings)
  })
  return { ...report(rows, workloads), ceilings }
}

test('the page holds every plot, the rows, the article’s claims and what did not run, and nothing from elsewhere', () => {
  const page = reportHtml(madeUp())
  for (const part of ['Dynamic time over static time, each', 'Our time over a peer', 'Roofline', 'against K', 'against the images’ size', 'Peak memory of the runs']) expect(page).toContain(part)
  expect(page.match(/<svg/g)?.length).toBeGreaterThanOrEqual(6)
  expect(page).toContain('claimed +28 %')
  expect(page).toContain('+40 % (10.0 to 14.0 ms)')
  expect(page).toContain('+4 % (0.100 to 0.104 GB above')
  expect(page).toContain('PyTorch: no --peer')
  expect(page).not.toMatch(/<script|<link|src="http|href="http|@import/)
})

test('the summary has the mean of each peer and leaves noisy rows out', () => {
  const lines = summaryLines(madeUp())
  expect(lines).toContain('static: onnx / PyTorch: geometric mean 0.50, worst 0.50 of 4 rows')
  expect(lines).toContain('dynamic: onnx / PyTorch: geometric mean 0.70, worst 0.70 of 3 rows')
  const [, dynamic] = madeUp().rows
  if (!dynamic) throw new Error('no row')
  const noisy = { ...dynamic, toPeers: { PyTorch: { value: 1, spread: 1, pairs: 9, against: 'x' } } }
  expect(summaryLines({ rows: [noisy] })).toEqual(['dynamic: onnx / PyTorch: no verdict; 1 noisy rows left out'])
  expect(geometricMean([1, 4])).toBeCloseTo(2)
})

test('a report without ratios has a page too', () => {
  expect(reportHtml(report([]))).toContain('Nothing was measured that could be drawn.')
})

test('the Markdown table has a line for each piece of work and K', () => {
  const table = markdownTable(madeUp()).split('\n')
  expect(table.filter((line) => line.startsWith('| '))).toHaveLength(2 + 5)
  expect(table).toContain('| 3x3 64@56 batch 8 | 4 | 10.0 | 14.0 | 1.40 | 0.50 | 0.70 |')
})

test('the terminal table shows only columns that have something', () => {
  const text = formatReport(madeUp())
  expect(text).toContain('to PyTorch')
  expect(text).toContain('of the bound')
  expect(formatReport(report([]))).not.toContain('of the bound')
})

test('a bound is the greater of arithmetic and memory, at the bandwidth of its size', () => {
  const large = boundOf({ macs: 1e9, leastMacs: 1e9, bytes: 1e9, stateBytes: 0, mixedBytes: 0 }, 0.1, 'onnx', ceilings)
  expect(large).toEqual({ arithmeticSeconds: 0.01, memorySeconds: 0.05, share: 0.5 })
  const small = boundOf({ macs: 1e9, leastMacs: 1e9, bytes: 1e5, stateBytes: 0, mixedBytes: 0 }, 0.1, 'PyTorch eager', ceilings)
  expect(small?.share).toBeCloseTo(0.1)
  expect(boundOf({ macs: 1, leastMacs: 1, bytes: 1, stateBytes: 0, mixedBytes: 0 }, 1, 'x', { gemm: [], memory: [] })).toBeUndefined()
})
