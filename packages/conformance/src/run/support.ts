// What a backend says it runs: every node of every case, asked one by one, and SUPPORT.md made of the answers.

import { type Backend, type Capabilities, type DType, dtypes, type Graph, isFloat, type Node, type OpName, ops, typeOf } from '@dynconv/core'

/** Why an engine does not run a node. */
export interface Refused {
  readonly op: OpName
  readonly reason: string
}

/** The answers about one op in one dtype. */
export interface SupportCell {
  readonly op: OpName
  readonly dtype: DType
  /** How many instances were asked about. */
  readonly asked: number
  /** Reasons, with how many instances each keeps out. */
  readonly refused: Readonly<Record<string, number>>
}

/** The answers of one backend. */
export interface SupportColumn {
  readonly backend: string
  readonly dtypes: Capabilities['dtypes']
  readonly cells: readonly SupportCell[]
  /** Ops whose results may differ from run to run. */
  readonly notDeterministic: readonly OpName[]
}

/** The nodes of `graph` that `backend` says it does not run. */
export function refusals(backend: Backend, graph: Graph): readonly Refused[] {
  return graph.nodes.flatMap((node) => {
    const answer = backend.supports(node, graph)
    return answer === true ? [] : [{ op: node.op, reason: answer.reason }]
  })
}

/** The dtype that a node is about: of its first floating-point value, or else of what it computes with. */
export function dtypeOf(node: Node, graph: Graph): DType {
  // A condition and an index are not what is computed with.
  const inputs = node.op === 'select' ? node.inputs.slice(1) : node.op === 'oneHot' ? [] : node.inputs
  const types = [...inputs, ...node.outputs].map((id) => typeOf(graph, id).dtype)
  return types.find(isFloat) ?? types[0] ?? 'float32'
}

// Nothing is left of these when a graph is compiled, whatever dtype they hand on.
const passedOn: ReadonlySet<OpName> = new Set<OpName>(['stopGradient', 'customGradient'])

/** Asks one backend about many graphs. */
export class SupportSurvey {
  readonly #backend: Backend
  readonly #answers: Map<string, { readonly op: OpName; readonly dtype: DType; asked: number; readonly refused: Map<string, number> }> = new Map()

  constructor(backend: Backend) {
    this.#backend = backend
  }

  /** Asks about every node; gives what is wrong with the answers themselves, a text each. */
  ask(graph: Graph): readonly string[] {
    return graph.nodes.flatMap((node) => {
      const answer = this.#backend.supports(node, graph)
      const dtype = dtypeOf(node, graph)
      const key = `${node.op} ${dtype}`
      const cell = this.#answers.get(key) ?? { op: node.op, dtype, asked: 0, refused: new Map<string, number>() }
      this.#answers.set(key, cell)
      cell.asked++
      if (answer === true) return this.#backend.capabilities.dtypes[dtype] === 'none' && !passedOn.has(node.op) ? [`supports() accepts ${node.op} in ${dtype}, which capabilities say it has not`] : []
      if (typeof answer.reason !== 'string' || answer.reason === '') return [`supports() refuses ${node.op} in ${dtype} without a reason`]
      cell.refused.set(answer.reason, (cell.refused.get(answer.reason) ?? 0) + 1)
      return []
    })
  }

  column(notDeterministic: readonly OpName[]): SupportColumn {
    const cells = [...this.#answers.values()].map(({ refused, ...cell }) => ({ ...cell, refused: Object.fromEntries(refused) }))
    return { backend: this.#backend.name, dtypes: this.#backend.capabilities.dtypes, cells, notDeterministic }
  }
}

/**
 * SUPPORT.md: op by backend by dtype, and why not.
 *
 * @param failing for each backend, the ops whose own cases it failed
 */
export function supportDocument(columns: readonly SupportColumn[], failing: ReadonlyMap<string, ReadonlySet<string>>): string {
  const notes = new Map<string, number>()
  const note = (reason: string): string => {
    const number = notes.get(reason) ?? notes.size + 1
    notes.set(reason, number)
    return `[${number}]`
  }
  const rows = (Object.keys(ops) as OpName[]).map((op) => {
    const cells = columns.map((c) => {
      const about = dtypes.flatMap((dtype) => {
        const cell = c.cells.find((x) => x.op === op && x.dtype === dtype)
        return cell ? [[answerOf(cell), ...Object.keys(cell.refused).map(note)].join(' ')] : []
      })
      const varies = c.notDeterministic.includes(op) ? [note('The result may differ from run to run.')] : []
      return [about.join(', '), ...varies, ...(failing.get(c.backend)?.has(op) ? ['**wrong**'] : [])].join(' ')
    })
    return `| ${op} | ${cells.join(' | ')} |`
  })
  const storage = columns.map((c) => `- ${c.backend}: ${dtypes.map((d) => `${d} ${described[c.dtypes[d]]}`).join(', ')}.`)
  return [
    '# What runs where',
    '',
    'Written by `pnpm conformance --support SUPPORT.md`; do not edit. Every backend was asked about every node of every case',
    'of the conformance suite, derivatives included. A dtype alone: all instances run; "some": all but those that a note names;',
    '"no": none. What is not listed has no case. An op without a kernel of its own runs where its decomposition does.',
    '',
    ...storage,
    '',
    `| op | ${columns.map((c) => c.backend).join(' | ')} |`,
    `| --- |${columns.map(() => ' --- |').join('')}`,
    ...rows,
    ...(notes.size ? ['', ...[...notes].map(([reason, number]) => `- [${number}] ${reason}`)] : []),
    '',
  ].join('\n')
}

const described = { arithmetic: 'is computed in', storage: 'is stored, and computed in float32', none: 'is not there' } as const

function answerOf({ dtype, asked, refused }: SupportCell): string {
  const count = Object.values(refused).reduce((a, b) => a + b, 0)
  if (count === 0) return dtype
  return count === asked ? `no ${dtype}` : `some ${dtype}`
}
