// Runs the node cases of the ONNX project (Debian's libonnx-testdata; elsewhere onnx/backend/test/data): one op a case,
// with inputs and outputs that the ONNX project computed. Each becomes one of our graphs, which the reference and every
// backend run. What ONNX has and we do not is counted, with the reason.

import { readdir, readFile } from 'node:fs/promises'
import { type Backend, type RefTensor, ValueError } from '@dynconv/core'
import type { ForeignProgram } from './foreignProgram.ts'
import { importModel } from './onnx/importer.ts'
import { dtypeOf, NotOurs, type NotOursKind } from './onnx/node.ts'
import { decodeModel, decodeTensor, type OnnxPort, type OnnxTensor } from './onnx/proto.ts'
import { describe, type EngineTally, type Failure, formatFailures, formatTally, talliesOf } from './tally.ts'

/** Where Debian's package puts the cases. */
export const debianFolder = '/usr/share/libonnx-testdata/data'

/** Why cases are out: `op`: we have no such op; `dtype`; `attribute`: our op does less there. */
export interface OnnxNodeGroup {
  readonly kind: NotOursKind
  readonly what: string
  readonly ids: readonly string[]
}

/** What a run found. */
export interface OnnxNodeReport {
  /** How many cases the folder holds. */
  readonly total: number
  /** How many of them are graphs of ours. */
  readonly ran: number
  /** The same by folder (`node`, `pytorch-converted`). */
  readonly suites: ReadonlyMap<string, { readonly ran: number; readonly total: number }>
  /** The ops of ONNX in those, and the ops of ours. */
  readonly onnxOps: readonly string[]
  readonly ops: readonly string[]
  readonly out: readonly OnnxNodeGroup[]
  /** The cases that could not be read, or that the importer failed on: each fails the run. */
  readonly broken: readonly Failure[]
  /** The reference first. */
  readonly engines: readonly EngineTally[]
}

/** How to run. */
export interface OnnxNodeOptions {
  /** Called after each case. */
  readonly onCase?: (done: number, total: number, id: string) => void
}

/**
 * Runs every case under `folder` (`node/test_add/model.onnx`, ...) on the reference and on `backends`.
 *
 * @example runOnnxNodeCases('/usr/share/libonnx-testdata/data', [await onnx()])
 * @throws ValueError when there is no case
 */
export async function runOnnxNodeCases(folder: string, backends: readonly Backend[], options: OnnxNodeOptions = {}): Promise<OnnxNodeReport> {
  const cases = await findCases(folder)
  if (!cases.length) throw new ValueError(`runOnnxNodeCases: there are no cases (CASE/model.onnx) in '${folder}'; on Debian: apt-get install libonnx-testdata`)
  const engines = talliesOf(backends)
  const [out, broken] = [new Map<string, { kind: NotOursKind; what: string; ids: string[] }>(), [] as Failure[]]
  const [onnxOps, ops] = [new Set<string>(), new Set<string>()]
  const suites = new Map<string, { ran: number; total: number }>()
  for (const [done, id] of cases.entries()) {
    const name = id.includes('/') ? id.slice(0, id.indexOf('/')) : '.'
    const suite = suites.get(name) ?? { ran: 0, total: 0 }
    suites.set(name, suite)
    suite.total++
    try {
      const { foreign, opTypes } = await readCase(`${folder}/${id}`, id)
      suite.ran++
      for (const op of opTypes) onnxOps.add(op)
      for (const node of foreign.program.graph.nodes) ops.add(node.op)
      for (const engine of engines) await engine.run(foreign)
    } catch (error) {
      if (error instanceof NotOurs) {
        const group = out.get(error.message) ?? { kind: error.kind, what: error.what, ids: [] }
        group.ids.push(id)
        out.set(error.message, group)
      } else broken.push({ id, problems: [describe(error)] })
    }
    options.onCase?.(done + 1, cases.length, id)
  }
  return {
    total: cases.length,
    ran: [...suites.values()].reduce((n, suite) => n + suite.ran, 0),
    suites,
    onnxOps: [...onnxOps].sort(),
    ops: [...ops].sort(),
    out: [...out.values()].sort((a, b) => b.ids.length - a.ids.length || (a.what < b.what ? -1 : 1)),
    broken,
    engines: engines.map((engine) => engine.result()),
  }
}

/** Whether all that ran passed, on every engine. */
export function onnxNodesPassed(report: OnnxNodeReport): boolean {
  return report.ran > 0 && report.broken.length === 0 && report.engines.every((e) => e.failures.length === 0)
}

/** The report as text. `verbose` lists every reason for being out; otherwise the ten of each kind that are most frequent. */
export function formatOnnxNodes(report: OnnxNodeReport, verbose: boolean = false): string {
  const { total, ran, suites, out, broken, engines } = report
  const count = (kind: NotOursKind): number => out.filter((g) => g.kind === kind).reduce((n, g) => n + g.ids.length, 0)
  const titles: Readonly<Record<NotOursKind, string>> = { op: 'ops that we do not have', dtype: 'dtypes that we do not have', attribute: 'attributes that our ops do not have' }
  const reasons = (Object.keys(titles) as NotOursKind[]).flatMap((kind) => {
    const groups = out.filter((g) => g.kind === kind)
    const some = verbose ? groups : groups.slice(0, 10)
    const rest = groups.slice(some.length).reduce((n, g) => n + g.ids.length, 0)
    return [`  ${count(kind)} for ${titles[kind]}`, ...some.map((g) => `    ${g.ids.length}  ${g.what}`), ...(rest ? [`    ${rest}  others`] : [])]
  })
  return [
    `ONNX node cases: ${ran} of ${total} are graphs of ours (${report.onnxOps.length} ops of ONNX, by ${report.ops.length} of ours)`,
    ...(suites.size > 1 ? [...suites].map(([name, suite]) => `  ${name}: ${suite.ran} of ${suite.total}`) : []),
    ...engines.map((e) => `  ${formatTally(e, ran)}`),
    `${total - ran} are out:`,
    ...reasons,
    ...formatFailures('BROKEN', broken),
    ...engines.flatMap((e) => [...formatFailures(`FAILED on ${e.name}:`, e.failures), ...formatFailures(`unsupported on ${e.name}:`, e.unsupported)]),
  ].join('\n')
}

// Folders with a model.onnx and data, at most two levels down, as ids relative to `folder`.
async function findCases(folder: string): Promise<readonly string[]> {
  const found: string[] = []
  const visit = async (id: string, depth: number): Promise<void> => {
    const entries = await readdir(`${folder}/${id}`, { withFileTypes: true })
    const names = entries.map((e) => e.name)
    if (names.includes('model.onnx') && names.includes('test_data_set_0')) found.push(id)
    else if (depth > 0) for (const e of entries) if (e.isDirectory()) await visit(id ? `${id}/${e.name}` : e.name, depth - 1)
  }
  await visit('', 2)
  return found.sort()
}

async function readCase(path: string, id: string): Promise<{ readonly foreign: ForeignProgram; readonly opTypes: readonly string[] }> {
  const file = `${id}/model.onnx`
  const model = decodeModel(await readFile(`${path}/model.onnx`), file)
  const { graph } = model
  const given = new Set(graph.initializer.map((t) => t.name))
  const inputs = await readTensors(path, id, 'input', graph.input.filter(({ name }) => !given.has(name)))
  const outputs = await readTensors(path, id, 'output', graph.output)
  for (const t of outputs.values()) dtypeOf(t.type)
  const imported = importModel(model, inputs, file)
  return {
    opTypes: graph.node.map((node) => node.opType),
    foreign: {
      id,
      program: { graph: imported.graph, states: [], runs: [imported.feeds] },
      outputs: [new Map([...outputs].map(([name, { dims, data }]): [string, RefTensor] => [name, { shape: dims, data }]))],
      after: new Map(),
      precision: 'float32',
    },
  }
}

async function readTensors(path: string, id: string, kind: 'input' | 'output', ports: readonly OnnxPort[]): Promise<ReadonlyMap<string, OnnxTensor>> {
  const tensors = new Map<string, OnnxTensor>()
  for (const [i, { name, type }] of ports.entries()) {
    if (!type?.tensorType) throw new NotOurs('dtype', 'sequences, maps and optionals')
    const file = `test_data_set_0/${kind}_${i}.pb`
    tensors.set(name, decodeTensor(await readFile(`${path}/${file}`), `${id}/${file}`))
  }
  return tensors
}
