import { expect, test } from 'vitest'
import type { Timing } from './measure.ts'
import { formatReport, type Report, rowsOf } from './report.ts'
import type { Workload } from './workloads.ts'

const workload: Workload = { kind: 'step', name: 'net', widths: [16], blocks: [1], batch: 8, size: 32 }
const timing = (name: string, ...samplesMs: number[]): Timing => ({ name, samplesMs, medianMs: samplesMs[0] ?? 0, spread: 0 })

test('each row is set against the static one of its own library, and ours against the best mode of the peer', () => {
  const rows = rowsOf({
    workload,
    notRun: [],
    timings: [timing('static', 10), timing('K=4', 15), timing('PyTorch eager static', 12), timing('PyTorch eager dynamic', 30), timing('PyTorch channels_last static', 8), timing('PyTorch channels_last dynamic', 40)],
  })
  expect(rows.map((r) => r.toStatic)).toEqual([undefined, 1.5, undefined, 2.5, undefined, 5])
  expect(rows.map((r) => r.toPeer)).toEqual([10 / 8, 15 / 30, undefined, undefined, undefined, undefined])
})

test('a noisy row has no plain verdict, and what did not run is told', () => {
  const row = { workload: 'w', variant: 'dynamic auto', medianMs: 2, spread: 0.5, toStatic: 1.25, toPeer: undefined }
  const machine = { cpu: 'c', cores: 2, memoryGiB: 4, platform: 'p', node: 'v20', backend: 'b', peer: 'none', date: 'd' }
  const report: Report = { machine, rows: [row], notRun: ['PyTorch: no --peer'] }
  expect(formatReport(report)).toContain('noisy (1.25)')
  expect(formatReport(report)).toContain('not run: PyTorch: no --peer')
})
