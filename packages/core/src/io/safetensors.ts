// Named tensors in one file, in the safetensors format (https://huggingface.co/docs/safetensors, "Format"):
//
//     8 bytes   N, the header's length, little endian
//     N bytes   UTF-8 JSON: { "name": { "dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end] }, ...,
//               "__metadata__": { "key": "text" } }, padded with spaces to a multiple of 8
//     the rest  row-major little-endian data; the offsets count from its start and cover it without a gap
//
// It knows nothing of files (files.ts) or of models (checkpoint.ts). Reading trusts nothing: whatever the bytes are, it
// gives tensors or throws a FormatError that names the byte. Elements are taken as the machine stores them, which is little
// endian wherever JavaScript engines run.

import { FormatError, ValueError } from '../backend/errors.ts'
import { bytesPerElement, type DType, dtypes } from '../tensor/dtype.ts'
import { checkData, type HostTensor, hostTensor } from '../tensor/hostTensor.ts'
import { formatShape } from '../tensor/shape.ts'

/** What a safetensors file holds. */
export interface Safetensors {
  /** By name, in the order of their data. */
  readonly tensors: Map<string, HostTensor>
  readonly metadata: ReadonlyMap<string, string>
}

const METADATA = '__metadata__'
/** The reference implementation's limit too. */
const MAX_HEADER_BYTES = 100_000_000
const PREFIX_BYTES = 8

const names = { float32: 'F32', float16: 'F16', int32: 'I32', bool: 'BOOL' } as const satisfies Record<DType, string>

/**
 * The file as its bytes; equal content gives equal bytes, in whatever order it comes.
 *
 * @example encodeSafetensors(layer.state(), new Map([['format', 'pt']]))
 * @throws ValueError for a name that occurs twice or is `__metadata__`; ShapeError, DTypeError for data that are not what shape and dtype say
 */
export function encodeSafetensors(tensors: Iterable<readonly [string, HostTensor]>, metadata: ReadonlyMap<string, string> = new Map()): Uint8Array {
  // Larger elements first keeps every tensor aligned without gaps.
  const sorted = [...tensors].sort(([a, s], [b, t]) => bytesPerElement(t.dtype) - bytesPerElement(s.dtype) || order(dtypes.indexOf(s.dtype), dtypes.indexOf(t.dtype)) || order(a, b))
  const entries: [string, unknown][] = []
  if (metadata.size) entries.push([METADATA, Object.fromEntries([...metadata].sort(([a], [b]) => order(a, b)))])
  let end = 0
  const seen = new Set([METADATA])
  for (const [name, { dtype, shape, data }] of sorted) {
    if (seen.has(name)) throw new ValueError(`encodeSafetensors: the name '${name}' ${name === METADATA ? 'is reserved' : 'occurs twice'}; rename one tensor`)
    seen.add(name)
    checkData(`encodeSafetensors: '${name}'`, { dtype, shape, data })
    const begin = end
    end += data.byteLength
    entries.push([name, { dtype: names[dtype], shape, data_offsets: [begin, end] }])
  }
  // Joined by hand: an object literal would put names like '0' before all others.
  const json = new TextEncoder().encode(`{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`)
  const dataAt = PREFIX_BYTES + Math.ceil(json.length / 8) * 8
  const bytes = new Uint8Array(dataAt + end)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(dataAt - PREFIX_BYTES), true)
  bytes.fill(0x20, PREFIX_BYTES, dataAt)
  bytes.set(json, PREFIX_BYTES)
  let at = dataAt
  for (const [, { data }] of sorted) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at)
    at += data.byteLength
  }
  return bytes
}

/**
 * The tensors and the metadata of a file given as its bytes; all are copies. Element types that have no counterpart here
 * are converted: BF16 to float32 (exact), F64 to float32 (rounded to nearest; a finite number too large for float32 is an
 * error), I64 to int32 (a number outside int32 is an error). `file` is the name that errors give.
 *
 * @example const { tensors } = decodeSafetensors(bytes, 'net.safetensors'); layer.loadState(tensors)
 * @throws FormatError for anything but a complete, valid file
 */
export function decodeSafetensors(bytes: Uint8Array, file: string = '<bytes>'): Safetensors {
  const { entries, metadata, dataAt } = readHeader(bytes, file)
  // Sorted by their data, ties (empty tensors) kept before what begins at the same byte; then each must begin where the
  // last one ended, which excludes overlaps and gaps alike.
  const sorted = entries.sort((a, b) => a.begin - b.begin || a.end - b.end)
  const dataBytes = bytes.length - dataAt
  let end = 0
  for (const entry of sorted) {
    const fail = (problem: string): never => {
      throw new FormatError(`tensor '${entry.name}': ${problem}`, { file, offset: entry.offset })
    }
    if (entry.begin !== end) fail(`its data begins at ${entry.begin}, expected ${end}: data must neither overlap nor leave gaps`)
    if (entry.end > dataBytes) fail(`its data ends at ${entry.end}, but only ${dataBytes} bytes of data are there; the file is cut off`)
    end = entry.end
  }
  if (end !== dataBytes) throw new FormatError(`${dataBytes - end} bytes follow the last tensor's data`, { file, offset: dataAt + end })
  const tensors = new Map<string, HostTensor>()
  for (const { name, storage, shape, begin, end: stop } of sorted) {
    const from = dataAt + begin
    // A fresh buffer: aligned for every element type, which the format does not ask of the file, and free of the file's. (`slice` of a Node Buffer is no copy.)
    const buffer = new ArrayBuffer(stop - begin)
    new Uint8Array(buffer).set(bytes.subarray(from, dataAt + stop))
    tensors.set(
      name,
      storage.read(buffer, shape, (problem, element) => new FormatError(`tensor '${name}': ${problem}`, { file, offset: from + element * storage.bytes })),
    )
  }
  return { tensors, metadata }
}

type Refuse = (problem: string, element: number) => FormatError

/** How one element type of the format becomes one of ours. */
interface Storage {
  readonly bytes: number
  read(buffer: ArrayBuffer, shape: readonly number[], refuse: Refuse): HostTensor
}

const INT32_MIN = -(2n ** 31n)
const INT32_MAX = 2n ** 31n - 1n

const storages: ReadonlyMap<string, Storage> = new Map<string, Storage>([
  ['F32', { bytes: 4, read: (buffer, shape) => hostTensor('float32', shape, new Float32Array(buffer)) }],
  ['F16', { bytes: 2, read: (buffer, shape) => hostTensor('float16', shape, new Uint16Array(buffer)) }],
  ['I32', { bytes: 4, read: (buffer, shape) => hostTensor('int32', shape, new Int32Array(buffer)) }],
  ['BOOL', { bytes: 1, read: readBool }],
  ['BF16', { bytes: 2, read: readBFloat16 }],
  ['F64', { bytes: 8, read: readFloat64 }],
  ['I64', { bytes: 8, read: readInt64 }],
])

function readBool(buffer: ArrayBuffer, shape: readonly number[], refuse: Refuse): HostTensor {
  const data = new Uint8Array(buffer)
  const wrong = data.findIndex((v) => v > 1)
  if (wrong >= 0) throw refuse(`a BOOL must be 0 or 1, got ${data[wrong]}`, wrong)
  return hostTensor('bool', shape, data)
}

// A bfloat16 is the upper half of the float32 of the same value.
function readBFloat16(buffer: ArrayBuffer, shape: readonly number[]): HostTensor {
  const bits = Uint32Array.from(new Uint16Array(buffer), (half) => half * 2 ** 16)
  return hostTensor('float32', shape, new Float32Array(bits.buffer))
}

function readFloat64(buffer: ArrayBuffer, shape: readonly number[], refuse: Refuse): HostTensor {
  const values = new Float64Array(buffer)
  const data = Float32Array.from(values)
  const wrong = values.findIndex((v, i) => Number.isFinite(v) && !Number.isFinite(data[i]))
  if (wrong >= 0) throw refuse(`the F64 number ${values[wrong]} does not fit float32`, wrong)
  return hostTensor('float32', shape, data)
}

function readInt64(buffer: ArrayBuffer, shape: readonly number[], refuse: Refuse): HostTensor {
  const values = new BigInt64Array(buffer)
  const wrong = values.findIndex((v) => v < INT32_MIN || v > INT32_MAX)
  if (wrong >= 0) throw refuse(`the I64 number ${values[wrong]} does not fit int32`, wrong)
  return hostTensor('int32', shape, Int32Array.from(values, Number))
}

interface Entry {
  readonly name: string
  readonly storage: Storage
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
  /** The byte of the file at which the header speaks of it. */
  readonly offset: number
}

function readHeader(bytes: Uint8Array, file: string): { readonly entries: Entry[]; readonly metadata: ReadonlyMap<string, string>; readonly dataAt: number } {
  const fail = (problem: string, offset: number, cause?: unknown): never => {
    throw new FormatError(problem, { file, offset, cause })
  }
  if (bytes.length < PREFIX_BYTES) fail(`a safetensors file has at least ${PREFIX_BYTES} bytes, this one has ${bytes.length}`, bytes.length)
  const length = new DataView(bytes.buffer, bytes.byteOffset, PREFIX_BYTES).getBigUint64(0, true)
  if (length > MAX_HEADER_BYTES) fail(`the header claims ${length} bytes, more than the format's limit of ${MAX_HEADER_BYTES}; this is no safetensors file`, 0)
  const dataAt = PREFIX_BYTES + Number(length)
  if (dataAt > bytes.length) fail(`the header claims ${length} bytes, but only ${bytes.length - PREFIX_BYTES} follow; the file is cut off`, 0)
  const header = bytes.subarray(PREFIX_BYTES, dataAt)
  const parse = (json: Uint8Array, at: number): unknown => {
    try {
      return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json))
    } catch (cause) {
      return fail(`the header is not UTF-8 JSON: ${cause instanceof Error ? cause.message : String(cause)}`, PREFIX_BYTES + at, cause)
    }
  }
  const offsets = keyOffsets(header, parse, (problem, at) => fail(problem, PREFIX_BYTES + at))
  const parsed = parse(header, 0)
  if (!isObject(parsed)) return fail('the header must be a JSON object', PREFIX_BYTES)
  const entries: Entry[] = []
  let metadata: ReadonlyMap<string, string> = new Map()
  for (const [name, value] of Object.entries(parsed)) {
    const offset = PREFIX_BYTES + (offsets.get(name) ?? 0)
    if (name === METADATA) metadata = readMetadata(value) ?? fail(`${METADATA} must map names to texts`, offset)
    else entries.push(readEntry(name, value, offset, (problem) => fail(`tensor '${name}': ${problem}`, offset)))
  }
  return { entries, metadata, dataAt }
}

function readMetadata(value: unknown): ReadonlyMap<string, string> | undefined {
  if (!isObject(value)) return undefined
  const texts = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return texts.length === Object.keys(value).length ? new Map(texts) : undefined
}

function readEntry(name: string, value: unknown, offset: number, fail: (problem: string) => never): Entry {
  if (!isObject(value)) return fail('must be described by an object')
  const { dtype, shape, data_offsets: range } = value
  const storage = typeof dtype === 'string' ? storages.get(dtype) : undefined
  if (!storage) return fail(`dtype must be one of ${[...storages.keys()].join(', ')}, got ${shown(dtype)}`)
  if (!isSizes(shape)) return fail(`shape must be a list of non-negative integers, got ${shown(shape)}`)
  if (!isSizes(range) || range.length !== 2) return fail(`data_offsets must be two non-negative integers, got ${shown(range)}`)
  const [begin = 0, end = 0] = range
  let size = storage.bytes
  for (const d of shape) {
    size *= d
    if (!Number.isSafeInteger(size)) return fail(`shape ${formatShape(shape)} is too large`)
  }
  if (end - begin !== size) return fail(`shape ${formatShape(shape)} of ${shown(dtype)} takes ${size} bytes, but data_offsets [${begin}, ${end}] give ${end - begin}`)
  return { name, storage, shape, begin, end, offset }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((d) => Number.isSafeInteger(d) && d >= 0)
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 60)}...` : text
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d

// Deeper than any field of the format needs; it bounds what parsing can cost.
const MAX_DEPTH = 16

/**
 * Where the keys of the outermost object stand. It runs ahead of JSON.parse, which would let repeated keys pass: an object
 * that repeats one, at any depth, is refused here. What is no JSON at all it leaves to the parser.
 *
 * In UTF-8 the structural bytes occur as themselves only. A string is a key when the innermost bracket is an object's and
 * the last structural byte before it was that brace or a comma.
 */
function keyOffsets(json: Uint8Array, parse: (json: Uint8Array, at: number) => unknown, fail: (problem: string, at: number) => never): ReadonlyMap<string, number> {
  const outermost = new Map<string, number>()
  const open: (Map<string, number> | undefined)[] = []
  let last = 0
  for (let i = 0; i < json.length; i++) {
    const byte = json[i] ?? 0
    if (byte === QUOTE) {
      const start = i
      for (i++; i < json.length && json[i] !== QUOTE; i++) if (json[i] === BACKSLASH) i++
      const keys = open.at(-1)
      if (keys && (last === OPEN_OBJECT || last === COMMA)) {
        const key = String(parse(json.subarray(start, i + 1), start))
        if (keys.has(key)) fail(`the header has the key ${shown(key)} twice`, start)
        keys.set(key, start)
      }
      last = QUOTE
    } else if (byte === OPEN_OBJECT || byte === OPEN_LIST) {
      if (open.length === MAX_DEPTH) fail(`the header nests more than ${MAX_DEPTH} levels`, i)
      open.push(byte === OPEN_LIST ? undefined : open.length ? new Map() : outermost)
      last = byte
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) {
      open.pop()
      last = byte
    } else if (byte === COMMA) {
      last = byte
    }
  }
  return outermost
}

function order<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0
}
