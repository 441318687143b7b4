// Compares what an engine gave with what was wanted, element by element.

import { formatShape, type HostTensor, sameShape, sizeOf, toFloat64 } from '@dynconv/core'
import type { Wanted } from './expectation.ts'
import { isFloatType, overflowAt, roundTo, spacing } from './ulp.ts'

/** An element that is off. */
export interface Mismatch {
  readonly index: readonly number[]
  readonly got: number
  readonly expected: number
  /** The distance in units of the expected number's last place. */
  readonly ulp: number
  readonly allowed: number
}

/** What is wrong with one result. */
export interface Difference {
  readonly name: string
  /** `float32[2, 3]` */
  readonly type: string
  /** Set where dtype, shape or length are wrong. */
  readonly problem?: string
  /** How many elements are off, of how many. */
  readonly count: number
  readonly total: number
  /** The first five of them. */
  readonly first: readonly Mismatch[]
}

const shown = 5

/**
 * What is wrong with `got`; undefined where it is right. NaN and infinities must be where they are expected; a result that
 * is large enough to be rounded to infinity may be infinite. The signs of zeros do not count.
 */
export function compare(got: HostTensor | undefined, wanted: Wanted): Difference | undefined {
  const { dtype, shape } = wanted.type
  const about = { name: wanted.name, type: `${dtype}${formatShape(shape)}`, count: 0, total: sizeOf(shape), first: [] }
  if (!got) return { ...about, problem: 'it is missing' }
  if (got.dtype !== dtype || !sameShape(got.shape, shape)) return { ...about, problem: `it is ${got.dtype}${formatShape(got.shape)}` }
  if (got.data.length !== about.total) return { ...about, problem: `it has ${got.data.length} elements instead of ${about.total}` }
  const data = toFloat64(got)
  const wrong = Array.from(data.keys()).filter((i) => !fits(dtype, data[i] ?? Number.NaN, wanted.value.data[i] ?? Number.NaN, wanted.allowed[i] ?? 0))
  if (wrong.length === 0) return undefined
  const first = wrong.slice(0, shown).map((i) => mismatch(wanted, i, data[i] ?? Number.NaN))
  return { ...about, count: wrong.length, first }
}

function fits(dtype: HostTensor['dtype'], got: number, expected: number, allowed: number): boolean {
  if (Number.isNaN(expected)) return Number.isNaN(got)
  const rounded = roundTo(dtype, expected)
  if (got === rounded) return true
  if (!isFloatType(dtype)) return false
  if (Number.isFinite(got)) return Number.isFinite(expected) && Math.abs(got - expected) <= allowed
  // An infinite result is right where what is allowed reaches beyond the largest number, on the right side.
  return Number.isFinite(expected) && Math.sign(got) === Math.sign(expected) && Math.abs(expected) + allowed >= overflowAt(dtype)
}

function mismatch({ type, value, allowed }: Wanted, flat: number, got: number): Mismatch {
  const expected = roundTo(type.dtype, value.data[flat] ?? Number.NaN)
  const unit = isFloatType(type.dtype) ? spacing(type.dtype, expected) : 1
  return { index: coordinates(type.shape, flat), got, expected, ulp: Math.abs(got - expected) / unit, allowed: (allowed[flat] ?? 0) / unit }
}

function coordinates(shape: readonly number[], flat: number): readonly number[] {
  let rest = flat
  return shape
    .map((_, i) => shape.length - 1 - i)
    .map((axis) => {
      const size = shape[axis] ?? 1
      const at = rest % size
      rest = Math.floor(rest / size)
      return at
    })
    .reverse()
}

/** A difference as text: the first five positions with got, expected, distance and tolerance. */
export function formatDifference(d: Difference): string {
  if (d.problem !== undefined) return `${d.name}: expected ${d.type}, but ${d.problem}`
  const rows = d.first.map((m) => {
    const where = `[${m.index.join(', ')}]`
    return `\n  ${where}  got ${number(m.got)}  expected ${number(m.expected)}  ${units(m.ulp)} ulp  allowed ${units(m.allowed)} ulp`
  })
  return `${d.name} ${d.type}: ${d.count} of ${d.total} elements are off${rows.join('')}`
}

// Nine digits tell every float32 from its neighbours.
function number(x: number): string {
  return Object.is(x, -0) ? '-0' : String(Number.isInteger(x) && Math.abs(x) < 2 ** 32 ? x : Number(x.toPrecision(9)))
}

function units(x: number): string {
  if (!Number.isFinite(x)) return String(x)
  return x >= 1e6 ? x.toExponential(1) : String(Number(x.toPrecision(3)))
}
