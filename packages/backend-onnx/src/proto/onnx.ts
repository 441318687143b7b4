// The messages of the ONNX format that this package writes and reads, as plain objects, and their bytes (protobufjs).
// Only the fields in use are described; unknown ones are skipped on reading. Field numbers: onnx.proto of the ONNX project
// (IR version 8).

import protobuf from 'protobufjs/light.js'

/** Element types, by their number in TensorProto.DataType. */
export const elementTypes = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9, float16: 10 } as const

/** Attribute types, by their number in AttributeProto.AttributeType. */
export const attributeTypes = { float: 1, int: 2, string: 3, tensor: 4, graph: 5, floats: 6, ints: 7 } as const

export interface TensorProto {
  readonly dims: readonly number[]
  readonly dataType: number
  readonly name?: string
  /** Little-endian, row-major. */
  readonly rawData: Uint8Array
}

export interface AttributeProto {
  readonly name: string
  readonly type: number
  readonly f?: number
  readonly i?: number
  readonly s?: Uint8Array
  readonly t?: TensorProto
  readonly g?: GraphProto
  readonly floats?: readonly number[]
  readonly ints?: readonly number[]
}

export interface NodeProto {
  readonly input: readonly string[]
  readonly output: readonly string[]
  readonly name?: string
  readonly opType: string
  readonly domain?: string
  readonly attribute: readonly AttributeProto[]
}

export interface ValueInfoProto {
  readonly name: string
  readonly type: {
    /** Left out where it is no tensor. */
    readonly tensorType?: {
      readonly elemType: number
      /** Left out where the engine may find out. */
      readonly shape?: { readonly dim: readonly { readonly dimValue?: number; readonly dimParam?: string }[] }
    }
  }
}

export interface GraphProto {
  readonly name: string
  readonly node: readonly NodeProto[]
  readonly initializer: readonly TensorProto[]
  readonly input: readonly ValueInfoProto[]
  readonly output: readonly ValueInfoProto[]
}

export interface ModelProto {
  readonly irVersion: number
  readonly producerName?: string
  readonly producerVersion?: string
  readonly docString?: string
  readonly graph: GraphProto
  readonly opsetImport: readonly { readonly domain?: string; readonly version: number }[]
  readonly metadataProps?: readonly { readonly key: string; readonly value: string }[]
}

const one = (type: string, id: number): protobuf.IField => ({ type, id })
const many = (type: string, id: number): protobuf.IField => ({ type, id, rule: 'repeated' })
// onnx.proto is a proto2 file: numbers of repeated fields are written one by one, and a 0 that was set is written.
const message = (fields: protobuf.IType['fields']): protobuf.IType => ({ edition: 'proto2', fields })

const root = protobuf.Root.fromJSON({
  nested: {
    TensorProto: message({ dims: many('int64', 1), dataType: one('int32', 2), name: one('string', 8), rawData: one('bytes', 9) }),
    AttributeProto: message({
      name: one('string', 1),
      f: one('float', 2),
      i: one('int64', 3),
      s: one('bytes', 4),
      t: one('TensorProto', 5),
      g: one('GraphProto', 6),
      floats: many('float', 7),
      ints: many('int64', 8),
      type: one('int32', 20),
    }),
    NodeProto: message({
      input: many('string', 1),
      output: many('string', 2),
      name: one('string', 3),
      opType: one('string', 4),
      attribute: many('AttributeProto', 5),
      domain: one('string', 7),
    }),
    Dimension: message({ dimValue: one('int64', 1), dimParam: one('string', 2) }),
    TensorShapeProto: message({ dim: many('Dimension', 1) }),
    TensorTypeProto: message({ elemType: one('int32', 1), shape: one('TensorShapeProto', 2) }),
    TypeProto: message({ tensorType: one('TensorTypeProto', 1) }),
    ValueInfoProto: message({ name: one('string', 1), type: one('TypeProto', 2) }),
    GraphProto: message({
      node: many('NodeProto', 1),
      name: one('string', 2),
      initializer: many('TensorProto', 5),
      input: many('ValueInfoProto', 11),
      output: many('ValueInfoProto', 12),
    }),
    OperatorSetIdProto: message({ domain: one('string', 1), version: one('int64', 2) }),
    StringStringEntryProto: message({ key: one('string', 1), value: one('string', 2) }),
    ModelProto: message({
      irVersion: one('int64', 1),
      producerName: one('string', 2),
      producerVersion: one('string', 3),
      docString: one('string', 6),
      graph: one('GraphProto', 7),
      opsetImport: many('OperatorSetIdProto', 8),
      metadataProps: many('StringStringEntryProto', 14),
    }),
  },
})
const modelType = root.lookupType('ModelProto')

/** The bytes of a model, as in an .onnx file. */
export function encodeModel(model: ModelProto): Uint8Array {
  return modelType.encode(model).finish()
}

/** A model from the bytes of an .onnx file. @throws Error when they are no protobuf message of this kind */
export function decodeModel(bytes: Uint8Array): ModelProto {
  const plain = modelType.toObject(modelType.decode(bytes), { longs: Number, arrays: true })
  // Boundary: toObject gives the fields that `root` describes, which ModelProto spells out.
  return plain as unknown as ModelProto
}
