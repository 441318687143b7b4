import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DynamicConv2d, traceModule } from '@dynconv/core'
import { expect, test } from 'vitest'
import { timingOf } from './measure.ts'
import { formatRatio } from './format.ts'
import { type Facts, mergeReports, readReport, type Report, rowsOf } from './report.ts'
import { formatReport } from './terminal.ts'
import { report, row } from './testing/reports.ts'
import { workOf } from './work.ts'
import { allWorkloads, type Workload } from './workloads.ts'

const workload: Workload = { group: 'models', name: 'net', net: { kind: 'block', channels: 8, depth: 1 }, size: 8, batch: 8, task: 'infer', bases: [4], everyForm: false }
const timing = (library: string, numBases: number, ...samples: number[]): ReturnType<typeof timingOf> =>
  timingOf({ name: `${library} ${numBases ? 'dynamic' : 'static'}`, library, vendor: library.startsWith('PyTorch') ? 'PyTorch' : 'dynconv', numBases }, samples)

test('each row is set against the static one of its own library, and ours against the best mode of the peer', () => {
  const rows = rowsOf({
    workload,
    timings: [timing('onnx', 0, 10), timing('onnx', 4, 15), timing('tfjs', 0, 20), timing('tfjs', 4, 22), timing('PyTorch eager', 0, 12), timing('PyTorch eager', 4, 30), timing('PyTorch cl', 0, 8), timing('PyTorch cl', 4, 40)],
  })
  expect(rows.map((r) => r.toStatic?.value)).toEqual([undefined, 1.5, undefined, 1.1, undefined, 2.5, undefined, 5])
  expect(rows.map((r) => r.toPeers['PyTorch']?.value)).toEqual([10 / 8, 15 / 30, 20 / 8, 22 / 30, undefined, undefined, undefined, undefined])
  expect(rows[0]?.imagesPerSecond).toBe(800)
})

test('a noisy ratio has no plain verdict', () => {
  expect(formatRatio({ value: 1.25, spread: 0.05, pairs: 5 })).toBe('1.25')
  expect(formatRatio({ value: 1.25, spread: 0.5, pairs: 5 })).toBe('noisy (1.25)')
  expect(formatRatio({ value: Number.NaN, spread: Number.NaN, pairs: 5 })).toBe('noisy (NaN)')
  expect(formatRatio({ value: 1.25, spread: 0, pairs: 2 })).toBe('noisy (1.25)')
})

test('the table tells the machine, each ratio and what did not run', () => {
  const machine = { cpu: 'some cpu', cores: 2, memoryGiB: 4, platform: 'p', node: 'v20', engines: ['onnx: it'], peers: [], date: 'd' }
  const rows = rowsOf({ workload, timings: [timing('onnx', 0, 10, 10, 10), timing('onnx', 4, 12, 12, 12)] })
  const told: Report = { version: 1, machine, method: ['how'], workloads: [workload], rows, notRun: ['PyTorch: no --peer'] }
  const text = formatReport(told)
  for (const part of ['some cpu', 'onnx: it', 'peers: none', 'how', '1.20', 'not run: PyTorch: no --peer']) expect(text).toContain(part)
})

test('reports of one machine are put together, of two they are not', () => {
  const a = report([row({ name: 'a', samples: [1] })])
  const merged = mergeReports([a, report([row({ name: 'b', samples: [1] })])])
  expect(merged.rows.map((r) => r.name)).toEqual(['a', 'b'])
  expect(merged.notRun).toEqual(a.notRun)
  expect(() => mergeReports([a, { ...a, machine: { ...a.machine, cpu: 'another' } }])).toThrow('different machines')
})

test('a report comes back from its file, and anything else is refused', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'report-'))
  try {
    const file = path.join(folder, 'r.json')
    const text = JSON.stringify(report([row({ name: 'a', samples: [1, 2, 3] })]))
    await writeFile(file, text)
    expect((await readReport(file)).rows[0]?.medianMs).toBe(2)
    await writeFile(file, text.slice(0, -20))
    await expect(readReport(file)).rejects.toThrow('no JSON')
    await writeFile(file, '{"version":0}')
    await expect(readReport(file)).rejects.toThrow('no report of this benchmark')
    await expect(readReport(path.join(folder, 'none'))).rejects.toThrow('there is no such file')
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('memory is set against the static one’s and the further bases: once in inference, six times and with the budget in a step', () => {
  const facts = (stateBytes: number, runBytes: number): Facts => ({ work: { macs: 1, leastMacs: 1, bytes: 1, stateBytes, mixedBytes: 0 }, memory: { loadBytes: 0, runBytes } })
  const timings = [{ ...timing('onnx', 0, 10), ...facts(10, 100) }, { ...timing('onnx', 4, 12), ...facts(40, 143) }]
  expect(rowsOf({ workload, timings })[1]?.memoryToStaticAndBases).toBeCloseTo(143 / (100 + 30), 10)
  expect(rowsOf({ workload: { ...workload, task: 'train' }, timings })[1]?.memoryToStaticAndBases).toBeCloseTo(143 / (100 + 3 * 30 + 256 * 2 ** 20), 10)
})

test('time is set against the static one’s and reading the bases, or moving the mixed kernels too, at the peak for all that is touched', () => {
  const work = { macs: 1, leastMacs: 1, bytes: 40, stateBytes: 40, mixedBytes: 100 }
  const timings = [{ ...timing('onnx', 0, 10), work: { ...work, bytes: 10, stateBytes: 10, mixedBytes: 0 } }, { ...timing('onnx', 4, 12), work }]
  // 10 bytes a millisecond up to 100 bytes together, 5 beyond.
  const ceilings = { gemm: [], memory: [{ bytes: 1, bytesPerSecond: 1e4 }, { bytes: 100, bytesPerSecond: 5e3 }] }
  const dynamic = rowsOf({ workload, timings }, ceilings)[1]
  expect(dynamic?.toStaticAndBases).toBeCloseTo(12 / (10 + (30 + 100 / workload.batch) / 10), 10)
  expect(dynamic?.toStaticAndKernels).toBeCloseTo(12 / (10 + 230 / 5), 10)
  expect(rowsOf({ workload: { ...workload, task: 'train' }, timings }, ceilings)[1]?.toStaticAndKernels).toBeUndefined()
  expect(rowsOf({ workload, timings })[1]?.toStaticAndKernels).toBeUndefined()
})

test('mixed kernels are counted once for every sample', () => {
  const layer = new DynamicConv2d({ inChannels: 3, outChannels: 5, kernelSize: 3, numBases: 4 })
  const { graph } = traceModule(layer, { inputs: [{ shape: [7, 3, 6, 6] }] })
  expect(workOf(graph).mixedBytes).toBe(7 * 5 * 3 * 9 * 4)
})

test('names of work are unique', () => {
  expect(new Set(allWorkloads.map((w) => w.name)).size).toBe(allWorkloads.length)
})
