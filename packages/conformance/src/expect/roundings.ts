// A quick comparison for tests of a backend's own: a function on tensors, run as it is (no passes), against the float64 oracle,
// with a tolerance that is said rather than derived (expectation.ts derives them).
//
// A result made of about n roundings may be off by n u (|y| + m), with u half the distance from 1 to the next number and m
// the largest finite magnitude of the whole tensor, which stands in for what cancelled on the way to y (0 for functions of
// single elements, where nothing does). Results below the smallest normal number may be 0.

import { type Backend, evaluate, type HostTensor, type RefTensor, type Tensor, toRef, trace } from '@dynconv/core'
import { compare, formatDifference } from './compare.ts'
import { isFloatType, roundTo, smallestNormal, spacing } from './ulp.ts'

/** A function on symbolic tensors. */
export type TensorFunction = (...inputs: Tensor[]) => Tensor | readonly Tensor[]

/** Something to run and to compare. */
export interface RoundedCase {
  /** What it is called where it is off. */
  readonly name: string
  readonly fn: TensorFunction
  readonly inputs: readonly HostTensor[]
  /** About how many roundings an element of the result takes; 4 unless given. */
  readonly roundings?: number
  /** Whether every element is judged by its own magnitude alone. */
  readonly elementwise?: boolean
}

/**
 * Runs a function on `backend` and on the oracle: what is wrong with the first result that is, or undefined.
 *
 * @example await roundedDifference(backend, { name: 'product', fn: (a, b) => a.matmul(b), inputs: [randn([3, 4]), randn([4, 5])], roundings: 8 })
 * @throws what the backend throws
 */
export async function roundedDifference(backend: Backend, { name, fn, inputs, roundings = 4, elementwise = false }: RoundedCase): Promise<string | undefined> {
  const { graph } = trace(fn, { inputs: inputs.map(({ dtype, shape }) => ({ dtype, shape })) })
  const expected = evaluate(graph, inputs.map(toRef)).outputs
  const executable = await backend.compile(graph)
  try {
    const outputs = await executable.run(inputs)
    return outputs.map((t, i) => differenceOf(outputs.length === 1 ? name : `${name}, result ${i}`, t, expected[i], roundings, elementwise)).find((d) => d !== undefined)
  } finally {
    executable.dispose()
  }
}

/** What is wrong with `got`, a result of about `roundings` roundings whose true value is `want`; undefined where it is right. */
export function compareRounded(got: HostTensor, want: RefTensor | undefined, roundings: number, elementwise: boolean = false): string | undefined {
  return differenceOf('the result', got, want, roundings, elementwise)
}

function differenceOf(name: string, got: HostTensor, want: RefTensor | undefined, roundings: number, elementwise: boolean): string | undefined {
  if (!want) return `${name}: there is no such result`
  const difference = compare(got, { name, type: { dtype: got.dtype, shape: want.shape }, value: want, allowed: allowedBy(got.dtype, want, roundings, elementwise) })
  return difference && formatDifference(difference)
}

function allowedBy(dtype: HostTensor['dtype'], { data }: RefTensor, roundings: number, elementwise: boolean): Float64Array {
  if (!isFloatType(dtype)) return new Float64Array(data.length)
  const [unit, smallest] = [spacing(dtype, 1) / 2, smallestNormal(dtype)]
  // What the format cannot hold is infinite, and must be.
  const finite = data.map((v) => (Number.isFinite(roundTo(dtype, v)) ? Math.abs(v) : Number.NaN))
  const magnitude = elementwise ? 0 : finite.reduce((m, v) => (v > m ? v : m), 0)
  return finite.map((v) => (Number.isNaN(v) ? 0 : roundings * unit * (v + magnitude) + smallest))
}
