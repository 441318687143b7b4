import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FormatError } from '../backend/errors.ts'
import { fromNumbers, type HostTensor, hostTensor, tensor, toFloat64 } from '../tensor/hostTensor.ts'
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts'

// A file from its parts, with a header of any text.
function file(header: string, data: ArrayLike<number> = []): Uint8Array {
  const json = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + json.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
  bytes.set(json, 8)
  bytes.set(Uint8Array.from(data), 8 + json.length)
  return bytes
}

function refusal(bytes: Uint8Array): FormatError {
  try {
    decodeSafetensors(bytes, 'x.safetensors')
  } catch (error) {
    if (error instanceof FormatError) return error
    throw error
  }
  throw new Error('expected a FormatError')
}

const contents: [string, HostTensor][] = [
  ['b.weight', tensor([0, 0.25, 0.5, 0.75, 1, 1.25], [2, 3])],
  ['a', fromNumbers('int32', [2], [1, -2])],
  ['half', fromNumbers('float16', [2], [0.5, 65504])],
  ['mask', fromNumbers('bool', [3], [1, 0, 1])],
  ['0', tensor(7.5)],
  ['empty', tensor([], [0, 3])],
]

// Written by the reference implementation (Python, safetensors 0.8.0: `save(tensors, {'format': 'np'})`) from `contents`.
const reference = file(
  '{"__metadata__":{"format":"np"},"0":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},' +
    '"empty":{"dtype":"F32","shape":[0,3],"data_offsets":[28,28]},"a":{"dtype":"I32","shape":[2],"data_offsets":[28,36]},' +
    '"half":{"dtype":"F16","shape":[2],"data_offsets":[36,40]},"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[40,43]}}    ',
  Buffer.from('0000f040000000000000803e0000003f0000403f0000803f0000a03f01000000feffffff0038ff7b010001', 'hex'),
)

test('writes the bytes that the reference implementation writes', () => {
  expect(encodeSafetensors(contents, new Map([['format', 'np']]))).toEqual(reference)
})

test('reads what the reference implementation wrote', () => {
  const { tensors, metadata } = decodeSafetensors(reference)
  expect([...metadata]).toEqual([['format', 'np']])
  expect(tensors).toEqual(new Map(contents))
})

test('reads F64, I64 and BF16 by conversion', () => {
  // The first file is the reference implementation's; it does not write BF16 from NumPy.
  const wide = Buffer.from(
    'cAAAAAAAAAB7ImwiOnsiZHR5cGUiOiJJNjQiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlswLDE2XX0sImQiOnsiZHR5cGUiOiJGNjQiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlsxNiwzMl19fSAgAwAAAAAAAAD8/////////5qZmZmZmfE/exSuR+F6ZL8=',
    'base64',
  )
  const { tensors } = decodeSafetensors(wide)
  expect(tensors.get('l')).toEqual(fromNumbers('int32', [2], [3, -4]))
  expect(tensors.get('d')).toEqual(tensor([1.1, -2.5e-3]))
  const brain = decodeSafetensors(file('{"x":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}', [0x80, 0x3f, 0x49, 0xc0, 0x80, 0x7f])).tensors.get('x')
  expect(brain && [...toFloat64(brain)]).toEqual([1, -3.140625, Number.POSITIVE_INFINITY])
})

test('F64 becomes float32 as PyTorch copies a double into a float: rounded to nearest, ties to even, what is tiny to 0', () => {
  const values = [1 + 2 ** -24, 1 + 2 ** -24 + 2 ** -50, 1 + 3 * 2 ** -24, -1e-50, 3.4028235e38, Number.NaN, Number.NEGATIVE_INFINITY]
  const bytes = new Uint8Array(new Float64Array(values).buffer)
  const { tensors } = decodeSafetensors(file(`{"x":{"dtype":"F64","shape":[7],"data_offsets":[0,${bytes.length}]}}`, bytes))
  expect(tensors.get('x')).toEqual(tensor([1, 1 + 2 ** -23, 1 + 2 ** -22, -0, (2 - 2 ** -23) * 2 ** 127, Number.NaN, Number.NEGATIVE_INFINITY]))
})

test('refuses F64 and I64 numbers that have no counterpart, at their byte', () => {
  const f64 = new Uint8Array(new Float64Array([1, Number.POSITIVE_INFINITY, 1e300]).buffer)
  const header = '{"x":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}}'
  const error = refusal(file(header, f64))
  expect(error.message).toContain('1e+300 does not fit float32')
  expect(error.offset).toBe(8 + header.length + 16)
  const i64 = new Uint8Array(new BigInt64Array([2n ** 31n]).buffer)
  expect(refusal(file('{"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}', i64)).message).toContain('2147483648 does not fit int32')
})

test('gives back what it was given, in deterministic bytes with aligned data', () => {
  const anyTensor = fc.record({ dtype: fc.constantFrom('float32', 'float16', 'int32', 'bool'), shape: fc.array(fc.nat(3), { maxLength: 3 }) }).chain(({ dtype, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1)
    return fc.array(fc.integer({ min: -2, max: 2 }), { minLength: size, maxLength: size }).map((values) => fromNumbers(dtype, shape, values))
  })
  const name = fc.string({ unit: 'grapheme' }).filter((s) => s !== '__metadata__')
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, anyTensor), { selector: ([s]) => s, maxLength: 6 }), fc.dictionary(name, fc.string({ unit: 'grapheme' })), (entries, texts) => {
      const metadata = new Map(Object.entries(texts))
      const bytes = encodeSafetensors(entries, metadata)
      const decoded = decodeSafetensors(bytes)
      expect(new Map(decoded.tensors)).toEqual(new Map(entries))
      expect(new Map(decoded.metadata)).toEqual(metadata)
      expect(new DataView(bytes.buffer).getBigUint64(0, true) % 8n).toBe(0n)
      expect(encodeSafetensors([...entries].reverse(), new Map([...metadata].reverse()))).toEqual(bytes)
    }),
  )
})

test('reads from the middle of a larger buffer, and copies', () => {
  const around = new Uint8Array(reference.length + 16)
  around.set(reference, 3)
  const { tensors } = decodeSafetensors(around.subarray(3, 3 + reference.length))
  around.fill(0)
  expect(tensors).toEqual(new Map(contents))
  expect(decodeSafetensors(Buffer.from(reference)).tensors).toEqual(new Map(contents))
})

test('a name that is reserved, given twice, or whose data does not fill its shape is refused', () => {
  const x = tensor([1])
  expect(() => encodeSafetensors([['__metadata__', x]])).toThrow("encodeSafetensors: the name '__metadata__' is reserved")
  expect(() => encodeSafetensors([['a', x], ['a', x]])).toThrow("the name 'a' occurs twice")
  expect(() => encodeSafetensors([['a', { dtype: 'float32', shape: [2], data: x.data }]])).toThrow("'a': shape [2] needs 2 elements, got 1")
})

const f32 = (name: string, shape: string, begin: number, end: number, dtype = 'F32') => `"${name}":{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`

// The last column is the byte that the error must name, or the text that stands there (its last occurrence).
test.each<[problem: string, bytes: Uint8Array, message: string, offset: number | string]>([
  ['nothing', new Uint8Array(0), 'has at least 8 bytes, this one has 0', 0],
  ['half a prefix', new Uint8Array(5), 'has at least 8 bytes, this one has 5', 5],
  ['an absurd header length', new Uint8Array(16).fill(255), 'the header claims 18446744073709551615 bytes', 0],
  ['a header longer than the file', reference.subarray(0, 100), 'the file is cut off', 0],
  ['an empty header', file(''), 'not UTF-8 JSON', 8],
  ['a header that is no JSON', file('{"a":'), 'not UTF-8 JSON', 8],
  ['a header that is no UTF-8', file('{"a":"\u00ff"}').map((b) => (b === 0xc3 ? 0xff : b)), 'not UTF-8 JSON', 8],
  ['a header that is a list', file('[]'), 'must be a JSON object', 8],
  ['a header that nests without end', file('{"a":'.repeat(1000)), 'nests more than 16 levels', 8 + 16 * 5],
  ['a tensor twice', file(`{${f32('a', '[1]', 0, 4)},${f32('a', '[1]', 4, 8)}}`, new Uint8Array(8)), 'has the key "a" twice', '"a"'],
  ['a tensor twice, spelled differently', file(`{${f32('a', '[1]', 0, 4)},${f32('\\u0061', '[1]', 4, 8)}}`, new Uint8Array(8)), 'has the key "a" twice', '"\\u0061"'],
  ['a field twice', file('{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', new Uint8Array(4)), 'has the key "dtype" twice', '"dtype"'],
  ['metadata that is no text', file('{"__metadata__":{"a":1}}'), 'must map names to texts', 9],
  ['a tensor that is no object', file('{"a":1}'), "tensor 'a': must be described by an object", 9],
  ['an unknown dtype', file(`{${f32('a', '[1]', 0, 1, 'F8_E4M3')}}`, [0]), 'must be one of F32, F16, I32, BOOL, BF16, F64, I64, got "F8_E4M3"', 9],
  ['a dtype of an object', file('{"a":{"dtype":"toString","shape":[],"data_offsets":[0,0]}}'), 'got "toString"', 9],
  ['a negative size', file(`{${f32('a', '[-1]', 0, 4)}}`, new Uint8Array(4)), 'non-negative integers, got [-1]', 9],
  ['a fractional size', file(`{${f32('a', '[1.5]', 0, 6)}}`, new Uint8Array(6)), 'non-negative integers, got [1.5]', 9],
  ['no shape', file('{"a":{"dtype":"F32","data_offsets":[0,4]}}', new Uint8Array(4)), 'got nothing', 9],
  ['a product beyond exact integers', file(`{${f32('a', '[4294967296,4294967296]', 0, 4)}}`, new Uint8Array(4)), 'is too large', 9],
  ['a product beyond exact integers, times 0', file(`{${f32('a', '[4294967296,4294967296,0]', 0, 0)}}`), 'is too large', 9],
  ['three offsets', file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', new Uint8Array(8)), 'must be two', 9],
  ['offsets that do not fit the shape', file(`{${f32('a', '[2]', 0, 4)}}`, new Uint8Array(4)), 'takes 8 bytes, but data_offsets [0, 4] give 4', 9],
  ['offsets in reverse', file(`{${f32('a', '[1]', 4, 0)}}`, new Uint8Array(4)), 'give -4', 9],
  ['data that overlap', file(`{${f32('a', '[2]', 0, 8)},${f32('b', '[1]', 4, 8)}}`, new Uint8Array(8)), "tensor 'b': its data begins at 4, expected 8", '"b"'],
  ['the same data twice', file(`{${f32('a', '[1]', 0, 4)},${f32('b', '[1]', 0, 4)}}`, new Uint8Array(4)), 'its data begins at 0, expected 4', '"b"'],
  ['a gap', file(`{${f32('a', '[1]', 0, 4)},${f32('b', '[1]', 8, 12)}}`, new Uint8Array(12)), 'its data begins at 8, expected 4', '"b"'],
  ['data before the first tensor', file(`{${f32('a', '[1]', 4, 8)}}`, new Uint8Array(8)), 'expected 0', 9],
  ['data that end too early', file(`{${f32('a', '[2]', 0, 8)}}`, new Uint8Array(7)), 'ends at 8, but only 7 bytes of data are there', 9],
  ['a promise of a terabyte', file(`{${f32('a', '[274877906944]', 0, 1099511627776)}}`, new Uint8Array(4)), 'the file is cut off', 9],
  ['trailing bytes', file(`{${f32('a', '[1]', 0, 4)}}`, [0, 0, 0, 0, 255]), "1 bytes follow the last tensor's data", '\xff'],
  ['a BOOL that is neither', file(`{${f32('a', '[2]', 0, 2, 'BOOL')}}`, [1, 2]), 'must be 0 or 1, got 2', '\x02'],
])('%s is refused', (_, bytes, message, offset) => {
  const error = refusal(bytes)
  expect(error.message).toContain(message)
  expect(error.file).toBe('x.safetensors')
  expect(error.offset).toBe(typeof offset === 'number' ? offset : Buffer.from(bytes).lastIndexOf(offset, 'latin1'))
})

test('data need not be aligned: other writers keep the order of their tensors', () => {
  const header = `{${f32('a', '[1]', 0, 1, 'BOOL')},${f32('b', '[1]', 1, 5)},${f32('c', '[1]', 5, 7, 'F16')},${f32('d', '[1]', 7, 15, 'F64')}}`
  const { tensors } = decodeSafetensors(file(header, [1, 0, 0, 0x20, 0x40, 0, 0x3e, 0, 0, 0, 0, 0, 0, 0xe0, 0xbf]))
  expect([...tensors]).toEqual([['a', tensor([1], [1], 'bool')], ['b', tensor([2.5])], ['c', tensor([1.5], [1], 'float16')], ['d', tensor([-0.5])]])
})

test('names that objects treat specially are plain names', () => {
  const entries: [string, HostTensor][] = [['__proto__', tensor([1])], ['constructor', tensor([2])]]
  const { tensors, metadata } = decodeSafetensors(encodeSafetensors(entries, new Map([['__proto__', 'text']])))
  expect(new Map(tensors)).toEqual(new Map(entries))
  expect(metadata.get('__proto__')).toBe('text')
})

// What reading gives: tensors that are what they say, or a FormatError at a byte of the file; anything else fails the test.
function outcome(bytes: Uint8Array): unknown {
  try {
    const { tensors, metadata } = decodeSafetensors(bytes)
    for (const { dtype, shape, data } of tensors.values()) hostTensor(dtype, shape, data)
    return { tensors, metadata }
  } catch (error) {
    if (!(error instanceof FormatError) || error.offset < 0 || error.offset > bytes.length) throw error
    return error.message
  }
}

// The same file between other bytes: a read outside it would see them, and give another outcome.
function amid(bytes: Uint8Array): Uint8Array {
  const around = new Uint8Array(bytes.length + 64).fill(0x31)
  around.set(bytes, 32)
  return around.subarray(32, 32 + bytes.length)
}

test('random bytes give tensors or a FormatError', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(outcome(amid(bytes))).toEqual(outcome(bytes))
    }), { numRuns: 2000 })
  const framed = fc.tuple(fc.oneof(fc.string(), fc.json()), fc.uint8Array({ maxLength: 40 }))
  fc.assert(fc.property(framed, ([header, data]) => {
      const bytes = file(header, data)
      expect(outcome(amid(bytes))).toEqual(outcome(bytes))
    }), { numRuns: 2000 })
})

test('random changes of a valid file give tensors or a FormatError', () => {
  const change = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), at: fc.nat(reference.length - 1), value: fc.nat(255) }),
    fc.record({ kind: fc.constant('cut' as const), at: fc.nat(reference.length - 1), value: fc.nat(20) }),
    fc.record({ kind: fc.constant('insert' as const), at: fc.nat(reference.length - 1), value: fc.nat(255) }),
    // Digits and structure are where a changed header stays JSON but lies.
    fc.record({ kind: fc.constant('set' as const), at: fc.integer({ min: 8, max: reference.length - 44 }), value: fc.constantFrom(...Buffer.from('0123456789-.e[]{},:" ')) }),
  )
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.boolean(), (changes, mend) => {
      let bytes = [...reference]
      for (const { kind, at, value } of changes) bytes = bytes.toSpliced(at, kind === 'insert' ? 0 : kind === 'cut' ? value : 1, ...(kind === 'cut' ? [] : [value]))
      const changed = Uint8Array.from(bytes)
      // With the header's length made right again, the change reaches the deeper checks.
      if (mend && changed.length >= 51) new DataView(changed.buffer).setBigUint64(0, BigInt(changed.length - 51), true)
      expect(outcome(amid(changed))).toEqual(outcome(changed))
    }),
    { numRuns: 5000 },
  )
})
