// All foreign vectors in one go, for the command: PyTorch's fixtures, which come with this package, and ONNX's node cases,
// which must be installed. Prints counts; says whether all passed.

import { access } from 'node:fs/promises'
import { type Backend, ValueError } from '@dynconv/core'
import { torchFixtures } from './fixtures.node.ts'
import { debianFolder, formatOnnxNodes, onnxNodesPassed, type OnnxNodeReport, runOnnxNodeCases } from './onnxNodes.node.ts'
import { type EngineTally, formatFailures, formatTally, tallyAll } from './tally.ts'
import { torchPrograms } from './torch.ts'

/** How to run the foreign vectors. */
export interface ForeignOptions {
  /** Who is checked beside the reference. */
  readonly backends: readonly Backend[]
  /** The folder of ONNX's cases; that of Debian's libonnx-testdata unless given. */
  readonly folder?: string
  /** Whether every reason for leaving a case out is listed. */
  readonly verbose?: boolean
  /** Takes the report, text by text. */
  readonly write: (text: string) => void
  /** Called after each case. */
  readonly onCase?: (done: number, total: number, id: string) => void
}

/** What a run found, for machines. */
export interface ForeignReport {
  readonly torch: { readonly total: number; readonly engines: readonly EngineTally[] }
  readonly onnx: OnnxNodeReport
  /** Whether all that ran passed. */
  readonly passed: boolean
}

/**
 * Runs PyTorch's fixtures and ONNX's node cases.
 *
 * @throws ValueError when ONNX's cases are not there
 */
export async function runForeign(options: ForeignOptions): Promise<ForeignReport> {
  const { backends, folder = debianFolder, write, onCase } = options
  await checkFolder(folder)
  const fixtures = await torchFixtures()
  const programs = fixtures.flatMap(torchPrograms)
  const engines = await tallyAll(programs, backends, onCase)
  const versions = [...new Set(fixtures.map((fixture) => fixture.metadata.get('torch') ?? 'of unknown version'))]
  write(`PyTorch ${versions.join(', ')}: ${programs.length} programs from ${fixtures.length} fixtures`)
  for (const e of engines) write(`  ${formatTally(e, programs.length)}`)
  for (const e of engines) [...formatFailures(`FAILED on ${e.name}:`, e.failures), ...formatFailures(`unsupported on ${e.name}:`, e.unsupported)].forEach(write)

  const onnx = await runOnnxNodeCases(folder, backends, onCase ? { onCase } : {})
  write(formatOnnxNodes(onnx, options.verbose))
  return { torch: { total: programs.length, engines }, onnx, passed: onnxNodesPassed(onnx) && engines.every((e) => e.failures.length === 0) }
}

// Before minutes of work, not after.
async function checkFolder(folder: string): Promise<void> {
  try {
    await access(folder)
  } catch {
    throw new ValueError(`foreign vectors: there are no ONNX node cases at '${folder}'; on Debian: apt-get install --no-install-recommends libonnx-testdata`)
  }
}
