// `dynconv-conformance foreign`: the foreign vectors on the reference and on the backends that are named. Exit code 0:
// all ran and passed; 1: a case failed, a backend did not start, or ONNX's cases are not installed.

import { writeFileAtomic } from '@dynconv/core/node'
import type { Backend } from '@dynconv/core'
import { targetOf } from '../targets.node.ts'
import { type ForeignReport, runForeign } from './foreign.node.ts'

/** What was asked for. */
export interface ForeignArguments {
  /** As `targetOf` takes them. `reference` is always there. */
  readonly backend: readonly string[]
  /** Where ONNX's cases lie; Debian's folder unless given. */
  readonly cases?: string | undefined
  /** Whether every reason for leaving a case out is listed. */
  readonly verbose?: boolean | undefined
  /** The file that takes the report as JSON. */
  readonly json?: string | undefined
}

const secondsBetweenLines = 10

/** Runs the command and gives its exit code. */
export async function foreignCommand({ backend: names, cases, verbose, json }: ForeignArguments): Promise<number> {
  const backends: Backend[] = []
  try {
    for (const name of new Set(names)) if (name !== 'reference') backends.push(await (await targetOf(name)).create())
    let last = performance.now()
    const report = await runForeign({
      backends,
      ...(cases === undefined ? {} : { folder: cases }),
      ...(verbose === undefined ? {} : { verbose }),
      write: (text) => process.stdout.write(`${text}\n`),
      onCase: (done, total, id) => {
        if (performance.now() - last < secondsBetweenLines * 1000) return
        last = performance.now()
        process.stderr.write(`${done} of ${total}: ${id}\n`)
      },
    })
    if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify(foreignData(report), undefined, 1)}\n`)
    return report.passed ? 0 : 1
  } catch (error) {
    process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  } finally {
    for (const backend of backends) await backend.dispose()
  }
}

/** The report as plain data for a JSON file. */
export function foreignData(report: ForeignReport): unknown {
  return { ...report, onnx: { ...report.onnx, suites: Object.fromEntries(report.onnx.suites) } }
}
