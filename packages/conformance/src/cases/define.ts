// What a case is, and how cases are made: from an op and its attributes, or from a function or module. A case gives
// programs: itself (order 0), its gradient (1) and its gradient's gradient (2).

import {
  type DType,
  dce,
  gradients,
  type Graph,
  inMode,
  isFloat,
  type Module,
  type OpAttrs,
  type OpName,
  ops,
  type StateInit,
  staticShape,
  type StateSource,
  type Tensor,
  trace,
  typeOf,
  withSeed,
} from '@dynconv/core'
import type { Program } from '../expect/program.ts'
import { type Data, spread } from './data.ts'

/** How often a case is differentiated. */
export type Order = 0 | 1 | 2

/** Something that every engine must compute. */
export interface Case {
  /** `conv2d[kernel=3x2 stride=2,1 ...]` */
  readonly id: string
  /** What the list is divided by: an op's name, `layers`, `networks`, ... */
  readonly family: string
  /** The dtype that it is about. */
  readonly dtype: DType
  /** Up to which order it can be differentiated. */
  readonly orders: Order
  /** Whether its derivatives are checked against differences too: false where it has kinks. */
  readonly differences: boolean
  /** Whether the passes that every user's graph goes through come before the engine. */
  readonly prepared: boolean
  /** The program of an order up to `orders`. */
  readonly program: (order: Order) => DerivedProgram
}

/** A program, and what its outputs of order 1 and 2 are derivatives of. */
export interface DerivedProgram extends Program {
  /** Inputs of the program of the order below; after them come the numbers that its outputs are weighted by. */
  readonly lowerInputs: number
  /** What each output is the derivative by: an input's position, or a state's name. */
  readonly by: readonly (number | string)[]
}

/** What a case is made of. */
export interface CaseOptions {
  readonly id: string
  readonly family: string
  readonly inputs: readonly Data[]
  readonly fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[]
  /** What `fn` belongs to; its parameters are differentiated by too. */
  readonly module?: Module
  /** Whether the module is traced for training. */
  readonly training?: boolean
  /** Which inputs are differentiated by; all floating-point ones unless given. */
  readonly by?: readonly number[]
  readonly orders?: Order
  readonly differences?: boolean
  readonly prepared?: boolean
  readonly dtype?: DType
}

/** A case from a function on tensors. */
export function defineCase(options: CaseOptions): Case {
  const { id, family, inputs, orders = 0 } = options
  const dtype = options.dtype ?? inputs[0]?.dtype ?? 'float32'
  return {
    id,
    family,
    dtype,
    orders,
    differences: (options.differences ?? true) && orders > 0 && dtype === 'float32',
    prepared: options.prepared ?? false,
    program: (order) => derive(options, order),
  }
}

/** A case from a module, built anew (from one seed) for each program. */
export function moduleCase(options: Omit<CaseOptions, 'fn' | 'module'> & { readonly build: () => Module }): Case {
  const { build, ...rest } = options
  const orders = options.orders ?? 1
  const shell = defineCase({ ...rest, orders, fn: () => [] })
  return {
    ...shell,
    program: (order) => {
      const module = withSeed(1, build)
      return derive({ ...rest, orders, module, fn: (...xs) => module.forward(...xs) }, order)
    },
  }
}

function derive(options: CaseOptions, order: Order): DerivedProgram {
  const { module, inputs } = options
  if (order === 0) {
    const { graph, states } = traceWith(options, inputs, (xs) => list(options.fn(...xs)))
    return { graph, states, runs: [inputs.map((d, i) => d.make(i + 1))], lowerInputs: inputs.length, by: [] }
  }
  // The outputs of the order below, each weighted by an input of its own.
  const lower = derive(options, order === 1 ? 0 : 1)
  const weights = lower.graph.outputs.map(({ value }): Data => {
    const { dtype, shape } = typeOf(lower.graph, value)
    return spread(staticShape(options.id, shape), { low: -1, high: 1, dtype: isFloat(dtype) ? dtype : 'float32' })
  })
  const [given] = lower.runs
  if (!given) throw new RangeError(`${options.id}: the program has no run`)
  const specs = [...given.map((t): Data => ({ dtype: t.dtype, shape: t.shape, make: () => t })), ...weights]
  const parameters = module ? [...module.namedParameters()] : []
  const chosen = options.by ?? inputs.flatMap((d, i) => (isFloat(d.dtype) ? [i] : []))
  const byInputs = order === 1 ? chosen : [...chosen, ...given.flatMap((t, i) => (i >= inputs.length && isFloat(t.dtype) ? [i] : []))]
  let by: readonly (number | string)[] = []
  const { graph, states } = traceWith(options, specs, (xs) => {
    const ys = order === 1 ? list(options.fn(...xs.slice(0, inputs.length))) : firstOrder(options, xs, chosen)
    const used = parameters.filter(([, p]) => p.trainable)
    by = [...byInputs, ...used.map(([name]) => name)]
    return pullBack(ys, xs.slice(given.length), [...byInputs.flatMap((i) => xs.slice(i, i + 1)), ...used.map(([, p]) => p.value)])
  })
  return { graph: dce(graph), states, runs: [specs.map((d, i) => d.make(i + 1))], lowerInputs: given.length, by }
}

// The program of order 1 again, inside the trace of order 2.
function firstOrder(options: CaseOptions, xs: readonly Tensor[], chosen: readonly number[]): readonly Tensor[] {
  const { inputs, module } = options
  const ys = list(options.fn(...xs.slice(0, inputs.length)))
  const parameters = module ? [...module.namedParameters().values()].filter((p) => p.trainable) : []
  return pullBack(ys, xs.slice(inputs.length, inputs.length + ys.length), [...chosen.flatMap((i) => xs.slice(i, i + 1)), ...parameters.map((p) => p.value)])
}

// The gradients of sum_i <y_i, w_i>. With one output the weights are the seed itself, and nothing else is added.
function pullBack(ys: readonly Tensor[], weights: readonly Tensor[], by: readonly Tensor[]): readonly Tensor[] {
  const [y] = ys
  const [w] = weights
  if (y && w && ys.length === 1) return gradients(y, by, w)
  const terms = ys.flatMap((t, i) => (isFloat(t.dtype) && weights[i] ? [t.mul(weights[i]).sum()] : []))
  const [first, ...rest] = terms
  if (!first) throw new RangeError('pullBack: nothing to differentiate')
  return gradients(rest.reduce((a, b) => a.add(b), first), by)
}

function traceWith(
  { module, training }: Pick<CaseOptions, 'module' | 'training'>,
  inputs: readonly Data[],
  fn: (xs: readonly Tensor[]) => readonly Tensor[],
): { readonly graph: Graph; readonly states: readonly StateInit[] } {
  const specs = inputs.map(({ dtype, shape }) => ({ dtype, shape }))
  const run = (): ReturnType<typeof trace> => trace((...xs) => fn(xs), { inputs: specs, ...(module ? { names: module.paths() } : {}) })
  const { graph, sources } = module ? inMode(module, training ? 'train' : 'eval', run) : run()
  return { graph, states: startOf(sources) }
}

/** The start of every state that a trace used. */
export function startOf(sources: ReadonlyMap<string, StateSource>): readonly StateInit[] {
  return [...sources].map(([name, { kind, data }]) => ({ name, kind, data }))
}

function list(result: Tensor | readonly Tensor[]): readonly Tensor[] {
  return Array.isArray(result) ? (result as readonly Tensor[]) : [result as Tensor]
}

/** Options of an op's case that do not follow from the op. */
export interface OpCaseOptions extends Pick<CaseOptions, 'by' | 'orders' | 'differences' | 'prepared' | 'dtype'> {
  /** In place of the attributes and shapes. */
  readonly label?: string
}

/** A case of one op, its inputs by name. */
export function opCase<K extends OpName>(op: K, attrs: OpAttrs[K], inputs: Readonly<Record<string, Data>>, options: OpCaseOptions = {}): Case {
  const { label, ...rest } = options
  const parts = label ?? [...Object.entries(inputs).map(([name, d]) => `${name}=${describeData(d)}`), ...describeAttrs(attrs)].join(' ')
  return defineCase({
    id: parts ? `${op}[${parts}]` : op,
    family: op,
    inputs: Object.values(inputs),
    fn: (...xs) => {
      const [x] = xs
      if (!x) throw new RangeError(`${op}: an op without inputs is traced by its own function`)
      return x.graph.emit(op, attrs, xs)
    },
    ...rest,
    orders: ops[op].gradient === 'none' || !Object.values(inputs).some((d) => isFloat(d.dtype)) ? 0 : (rest.orders ?? 2),
  })
}

/** The same cases about float16: first order only, for a second of ten bits says nothing. */
export function asFloat16(cases: readonly Case[]): readonly Case[] {
  return cases.map((c) => ({ ...c, orders: c.orders > 1 ? 1 : c.orders, differences: false }))
}

/** `2x3x4`, `scalar`, `2x3:int32` */
export function describeData({ dtype, shape, note }: Data): string {
  const size = shape.length ? shape.join('x') : 'scalar'
  return [size, ...(dtype === 'float32' ? [] : [dtype]), ...(note === undefined ? [] : [note])].join(':')
}

/** `stride=2,1 groups=2` */
export function describeAttrs(attrs: object): readonly string[] {
  return Object.entries(attrs).map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(',') || 'none' : String(value)}`)
}
