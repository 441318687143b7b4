// Reads fixtures: what functions give in another library, with gradients and gradients of gradients (tools/oracle writes
// them and describes the roles of their tensors). Bytes in, plain data out; files are fixtures.node.ts's business.

import { type DType, decodeSafetensors, FormatError, type HostTensor, hostTensor, type RefTensor, toFloat64 } from '@dynconv/core'

/** A tensor of a fixture: its dtype and its elements in float64. */
export interface FixtureTensor extends RefTensor {
  readonly dtype: DType
}

/** One function at one point. */
export interface FixtureCase {
  readonly id: string
  /** What was computed: a name of `torchOps`. */
  readonly op: string
  readonly args: Readonly<Record<string, unknown>>
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** The inputs that it was differentiated by. */
  readonly wrt: readonly string[]
  /** Whether there are gradients of gradients. */
  readonly second: boolean
}

/** A fixture file. */
export interface Fixture {
  readonly file: string
  /** Who wrote it, how: `script`, `arguments`, `torch` (the version). */
  readonly metadata: ReadonlyMap<string, string>
  readonly cases: readonly FixtureCase[]
  /** By `case/role/name`. */
  readonly tensors: ReadonlyMap<string, FixtureTensor>
}

/**
 * A fixture from the bytes of its file.
 *
 * @throws FormatError for a file that is not complete and valid, or that lists no cases
 */
export function readFixture(bytes: Uint8Array, file: string): Fixture {
  const { tensors, metadata } = decodeSafetensors(bytes, file)
  const exact = float64Data(bytes)
  const cases = parseCases(metadata.get('cases'), file)
  return { file, metadata, cases, tensors: new Map([...tensors].map(([name, t]) => [name, withDigits(t, exact.get(name))])) }
}

/** The tensors of one role of a case, by name. */
export function tensorsOf(fixture: Fixture, id: string, role: string): ReadonlyMap<string, FixtureTensor> {
  const prefix = `${id}/${role}/`
  return new Map([...fixture.tensors].flatMap(([name, t]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), t] as const] : [])))
}

/** The tensor `case/role/name`. @throws FormatError when the fixture lacks it */
export function tensorOf(fixture: Fixture, id: string, role: string, name: string): FixtureTensor {
  const t = fixture.tensors.get(`${id}/${role}/${name}`)
  if (!t) throw new FormatError(`the case '${id}' lists ${role} '${name}', but the tensor is not there`, { file: fixture.file, offset: 0 })
  return t
}

function withDigits(t: HostTensor, exact: Float64Array | undefined): FixtureTensor {
  return { dtype: t.dtype, shape: t.shape, data: exact ?? toFloat64(t) }
}

// decodeSafetensors rounds F64 to float32, the widest float of a host tensor. These are the digits as they stand in the
// file, which it has checked before.
function float64Data(bytes: Uint8Array): ReadonlyMap<string, Float64Array> {
  const dataAt = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, dataAt))) as Readonly<Record<string, { readonly dtype?: string; readonly data_offsets?: readonly number[] }>>
  const doubles = Object.entries(header).filter(([, entry]) => entry.dtype === 'F64')
  return new Map(
    doubles.map(([name, { data_offsets: [begin = 0, end = 0] = [] }]) => {
      const copy = new Uint8Array(end - begin)
      copy.set(bytes.subarray(dataAt + begin, dataAt + end))
      return [name, new Float64Array(copy.buffer)]
    }),
  )
}

function parseCases(text: string | undefined, file: string): readonly FixtureCase[] {
  const fail = (problem: string): never => {
    throw new FormatError(`its metadata 'cases' ${problem}; this is no fixture of tools/oracle`, { file, offset: 8 })
  }
  if (text === undefined) return fail('is missing')
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return fail('is not JSON')
  }
  if (!Array.isArray(parsed) || parsed.length === 0) return fail('is not a list of cases')
  return parsed.map((entry: unknown) => (isCase(entry) ? entry : fail(`has an entry that is no case: ${JSON.stringify(entry).slice(0, 80)}`)))
}

function isCase(value: unknown): value is FixtureCase {
  if (typeof value !== 'object' || value === null) return false
  const { id, op, args, inputs, outputs, wrt, second } = value as Readonly<Record<string, unknown>>
  const names = [inputs, outputs, wrt].every((list) => Array.isArray(list) && list.every((name) => typeof name === 'string'))
  return typeof id === 'string' && typeof op === 'string' && typeof args === 'object' && args !== null && names && typeof second === 'boolean'
}

/** A fixture's tensor as engines take it: floats are float32 there, exactly. */
export function hostOf(t: FixtureTensor): HostTensor {
  return t.dtype === 'int32' ? hostTensor('int32', t.shape, Int32Array.from(t.data)) : hostTensor('float32', t.shape, Float32Array.from(t.data))
}
