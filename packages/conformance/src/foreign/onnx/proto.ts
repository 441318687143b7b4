// Reading .onnx models and the tensors beside them (protobufjs): just the fields that node cases use. Field numbers:
// onnx.proto of the ONNX project (IR version 8). It only reads; backend-onnx has its own description for writing, because a
// conformance suite that shared it would share its mistakes.

import { float16Value, FormatError } from '@dynconv/core'
import protobuf from 'protobufjs/light.js'

/** Element types, by their number in TensorProto.DataType. */
const elementTypes = [
  'undefined', 'float', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16', 'double', 'uint32',
  'uint64', 'complex64', 'complex128', 'bfloat16',
] as const

/** An element type of ONNX. */
export type OnnxType = (typeof elementTypes)[number]

/** The element type of that number. */
export function onnxType(number: number): OnnxType {
  return elementTypes[number] ?? 'undefined'
}

/** A tensor of a file: numbers, row-major. Strings and complex numbers have no elements here. */
export interface OnnxTensor {
  readonly type: OnnxType
  readonly dims: readonly number[]
  readonly data: Float64Array
}

interface TensorProto {
  readonly dims: readonly number[]
  readonly dataType: number
  readonly floatData: readonly number[]
  readonly int32Data: readonly number[]
  readonly int64Data: readonly number[]
  readonly doubleData: readonly number[]
  readonly name?: string
  readonly rawData?: Uint8Array
}

/** An attribute of a node; which field is set depends on its type. */
export interface OnnxAttribute {
  readonly name: string
  readonly f?: number
  readonly i?: number
  readonly s?: Uint8Array
  readonly t?: TensorProto
  readonly floats: readonly number[]
  readonly ints: readonly number[]
}

/** A node; an empty name stands for an input or output that is left out. */
export interface OnnxNode {
  readonly input: readonly string[]
  readonly output: readonly string[]
  readonly opType: string
  readonly domain?: string
  readonly attribute: readonly OnnxAttribute[]
}

/** An input or output of a graph; without `tensorType` it is a sequence, a map or an optional. */
export interface OnnxPort {
  readonly name: string
  readonly type?: { readonly tensorType?: { readonly elemType: number } }
}

/** A model. */
export interface OnnxModel {
  readonly graph: {
    readonly node: readonly OnnxNode[]
    readonly initializer: readonly TensorProto[]
    readonly input: readonly OnnxPort[]
    readonly output: readonly OnnxPort[]
  }
  readonly opsetImport: readonly { readonly domain?: string; readonly version: number }[]
}

const one = (type: string, id: number): protobuf.IField => ({ type, id })
const many = (type: string, id: number): protobuf.IField => ({ type, id, rule: 'repeated' })
const message = (fields: protobuf.IType['fields']): protobuf.IType => ({ edition: 'proto2', fields })

const root = protobuf.Root.fromJSON({
  nested: {
    TensorProto: message({
      dims: many('int64', 1),
      dataType: one('int32', 2),
      floatData: many('float', 4),
      int32Data: many('int32', 5),
      int64Data: many('int64', 7),
      name: one('string', 8),
      rawData: one('bytes', 9),
      doubleData: many('double', 10),
    }),
    AttributeProto: message({
      name: one('string', 1),
      f: one('float', 2),
      i: one('int64', 3),
      s: one('bytes', 4),
      t: one('TensorProto', 5),
      floats: many('float', 7),
      ints: many('int64', 8),
    }),
    NodeProto: message({
      input: many('string', 1),
      output: many('string', 2),
      opType: one('string', 4),
      attribute: many('AttributeProto', 5),
      domain: one('string', 7),
    }),
    TensorTypeProto: message({ elemType: one('int32', 1) }),
    TypeProto: message({ tensorType: one('TensorTypeProto', 1) }),
    ValueInfoProto: message({ name: one('string', 1), type: one('TypeProto', 2) }),
    GraphProto: message({
      node: many('NodeProto', 1),
      initializer: many('TensorProto', 5),
      input: many('ValueInfoProto', 11),
      output: many('ValueInfoProto', 12),
    }),
    OperatorSetIdProto: message({ domain: one('string', 1), version: one('int64', 2) }),
    ModelProto: message({ graph: one('GraphProto', 7), opsetImport: many('OperatorSetIdProto', 8) }),
  },
})

function decode(type: string, bytes: Uint8Array, file: string): unknown {
  const found = root.lookupType(type)
  try {
    return found.toObject(found.decode(bytes), { longs: Number, arrays: true })
  } catch (cause) {
    throw new FormatError(`it is no ${type}: ${cause instanceof Error ? cause.message : String(cause)}`, { file, offset: 0, cause })
  }
}

/** A model from the bytes of an .onnx file. @throws FormatError */
export function decodeModel(bytes: Uint8Array, file: string): OnnxModel {
  // Boundary: toObject gives the fields that `root` describes, which OnnxModel spells out.
  const model = decode('ModelProto', bytes, file) as Partial<OnnxModel>
  if (!model.graph) throw new FormatError('the model has no graph', { file, offset: 0 })
  return { graph: model.graph, opsetImport: model.opsetImport ?? [] }
}

/** A tensor from the bytes of a .pb file. @throws FormatError */
export function decodeTensor(bytes: Uint8Array, file: string): OnnxTensor {
  // Boundary: as above.
  return tensorOfProto(decode('TensorProto', bytes, file) as TensorProto, file)
}

type RawReader = (view: DataView, at: number) => number
const raw: { readonly [T in OnnxType]?: readonly [bytes: number, read: RawReader] } = {
  float: [4, (view, at) => view.getFloat32(at, true)],
  uint8: [1, (view, at) => view.getUint8(at)],
  int8: [1, (view, at) => view.getInt8(at)],
  uint16: [2, (view, at) => view.getUint16(at, true)],
  int16: [2, (view, at) => view.getInt16(at, true)],
  int32: [4, (view, at) => view.getInt32(at, true)],
  int64: [8, (view, at) => Number(view.getBigInt64(at, true))],
  bool: [1, (view, at) => view.getUint8(at)],
  float16: [2, (view, at) => float16Value(view.getUint16(at, true))],
  double: [8, (view, at) => view.getFloat64(at, true)],
  uint32: [4, (view, at) => view.getUint32(at, true)],
  uint64: [8, (view, at) => Number(view.getBigUint64(at, true))],
}

/** The numbers of a tensor that stands inside a model. @throws FormatError when they do not fill its shape */
export function tensorOfProto(proto: TensorProto, file: string): OnnxTensor {
  const type = onnxType(proto.dataType)
  const count = proto.dims.reduce((n, d) => n * d, 1)
  const reader = raw[type]
  // Strings, complex numbers, bfloat16: nobody here computes with them.
  if (!reader) return { type, dims: proto.dims, data: new Float64Array(0) }
  const data = proto.rawData?.length ? rawNumbers(proto.rawData, reader) : typedNumbers(proto, type)
  if (data.length !== count) throw new FormatError(`tensor '${proto.name ?? ''}' of shape [${proto.dims.join(', ')}] has ${data.length} elements`, { file, offset: 0 })
  return { type, dims: proto.dims, data }
}

function rawNumbers(bytes: Uint8Array, [size, read]: readonly [number, RawReader]): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float64Array.from({ length: Math.floor(bytes.length / size) }, (_, i) => read(view, i * size))
}

// Small integers, bools and halves (as their bits) share int32Data.
function typedNumbers(proto: TensorProto, type: OnnxType): Float64Array {
  if (type === 'float') return Float64Array.from(proto.floatData)
  if (type === 'double') return Float64Array.from(proto.doubleData)
  if (type === 'int64') return Float64Array.from(proto.int64Data)
  return Float64Array.from(proto.int32Data, type === 'float16' ? float16Value : Number)
}
