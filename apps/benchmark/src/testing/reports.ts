// Made-up reports for tests.

import { timingOf } from '../measure.ts'
import type { PeakMemory } from '../memory.ts'
import { type Report, reportVersion, type Row } from '../report.ts'
import type { Workload } from '../workloads.ts'

/** Work that nobody does. */
export const work: Workload = { group: 'models', name: 'work', net: { kind: 'block', channels: 8, depth: 1 }, size: 8, batch: 8, task: 'infer', bases: [4], everyForm: false }

/** What a row is made from. */
export interface RowSpec {
  readonly name: string
  readonly samples: readonly number[]
  readonly workload?: string
  readonly library?: string
  readonly vendor?: string
  readonly numBases?: number
  readonly memory?: PeakMemory
}

/** A row with times, and no ratios. */
export function row({ name, samples, workload = work.name, library = 'onnx', vendor = 'dynconv', numBases = 0, memory }: RowSpec): Row {
  const timing = timingOf({ name, library, vendor, numBases }, samples)
  return { ...timing, workload, imagesPerSecond: 1e3 / timing.medianMs, toPeers: {}, memory }
}

/** A report of rows. */
export function report(rows: readonly Row[], workloads: readonly Workload[] = [work]): Report {
  const machine = { cpu: 'some cpu', cores: 2, memoryGiB: 4, platform: 'p', node: 'v20', engines: ['onnx: it'], peers: [], date: '2000-01-01' }
  return { version: reportVersion, machine, method: ['how'], workloads, rows, notRun: ['PyTorch: no --peer'] }
}
