// Runs a function of tensors on a backend and on the float64 oracle, and compares. For the tests of this package.
//
// Tolerance: a result made of about n float32 roundings may be off by n u (|y| + m), with u = 2^-24 and m the largest
// finite magnitude of the whole tensor, which stands in for what cancelled on the way to y (0 for functions of single
// elements, where nothing does). Beyond the range of float32 the right result is infinite; below its smallest normal number
// it may be 0. NaN and infinity match exactly, integers and bools too.

import {
  type Backend,
  type DType,
  evaluate,
  float16Bits,
  float16Value,
  fromNumbers,
  type Graph,
  type HostTensor,
  Random,
  type RefTensor,
  sizeOf,
  type StaticShape,
  type Tensor,
  toFloat64,
  toRef,
  trace,
} from '@dynconv/core'

/** A function on symbolic tensors. */
export type TensorFunction = (...inputs: Tensor[]) => Tensor | readonly Tensor[]

/** Something to run and to compare. */
export interface Case {
  readonly name: string
  readonly fn: TensorFunction
  readonly inputs: readonly HostTensor[]
  /** About how many roundings an element of the result takes; 4 unless given. */
  readonly roundings?: number
  /** Whether every element is judged by its own magnitude alone. */
  readonly elementwise?: boolean
}

/** Where a result differs, or undefined. */
export type Difference = string | undefined

/** The graph of a case, as it is (no passes). */
export function graphOf(fn: TensorFunction, inputs: readonly HostTensor[]): Graph {
  return trace(fn, { inputs: inputs.map(({ dtype, shape }) => ({ dtype, shape })) }).graph
}

/** Runs a case on both and says how they differ. */
export async function difference(backend: Backend, { fn, inputs, roundings = 4, elementwise = false }: Case): Promise<Difference> {
  const graph = graphOf(fn, inputs)
  const expected = evaluate(graph, inputs.map(toRef)).outputs
  const executable = await backend.compile(graph)
  try {
    const outputs = await executable.run(inputs)
    return outputs.map((t, i) => compare(t, expected[i], roundings, elementwise)).find((d) => d !== undefined)
  } finally {
    executable.dispose()
  }
}

/** How `got` differs from `want` by more than `roundings` roundings. */
export function compare(got: HostTensor, want: RefTensor | undefined, roundings: number, elementwise: boolean = false): Difference {
  if (!want) return 'there is no such result'
  if (got.shape.join() !== want.shape.join()) return `shape [${got.shape.join()}], expected [${want.shape.join()}]`
  const values = toFloat64(got)
  if (values.length !== sizeOf(got.shape)) return `${values.length} elements in shape [${got.shape.join()}]`
  const { unit, smallest, round } = precision[got.dtype]
  const magnitude = elementwise ? 0 : want.data.reduce((m, v) => (Number.isFinite(round(v)) ? Math.max(m, Math.abs(v)) : m), 0)
  for (let i = 0; i < values.length; i++) {
    const [a = Number.NaN, exact = Number.NaN] = [values[i], want.data[i]]
    const b = Number.isFinite(round(exact)) ? exact : round(exact)
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue
    const allowed = roundings * unit * (Math.abs(b) + magnitude) + smallest
    if (!(Math.abs(a - b) <= allowed)) return `element ${i} of [${got.shape.join()}]: ${a}, expected ${b} (allowed ${allowed})`
  }
  return undefined
}

interface Precision {
  /** Half the distance from 1 to the next number. */
  readonly unit: number
  /** The smallest normal number: results below may be flushed to 0. */
  readonly smallest: number
  readonly round: (x: number) => number
}

const same = (x: number): number => x
const precision: { readonly [D in DType]: Precision } = {
  float32: { unit: 2 ** -24, smallest: 2 ** -126, round: Math.fround },
  float16: { unit: 2 ** -11, smallest: 2 ** -14, round: (x) => float16Value(float16Bits(x)) },
  int32: { unit: 0, smallest: 0, round: same },
  bool: { unit: 0, smallest: 0, round: same },
}

/** Normal numbers in float32, the same for the same seed. */
export function randn(shape: StaticShape, seed: number = 1): HostTensor {
  const random = new Random(seed, ...shape)
  return fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.normal()))
}

/** Normal numbers in float32 that float16 holds exactly. */
export function halves(shape: StaticShape, seed: number = 1): HostTensor {
  const { data } = randn(shape, seed)
  return fromNumbers('float32', shape, Float64Array.from(data, (v) => float16Value(float16Bits(v))))
}

/** Integers in [0, below). */
export function randint(shape: StaticShape, below: number, seed: number = 1): HostTensor {
  const random = new Random(seed, ...shape)
  return fromNumbers('int32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.int(below)))
}
