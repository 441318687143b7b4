// The messages of a TensorFlow SavedModel that this package writes, as plain objects, and their bytes (protobufjs). Only the
// fields in use are described. Field numbers: saved_model.proto, meta_graph.proto, graph.proto, node_def.proto,
// attr_value.proto, tensor.proto and tensor_shape.proto of TensorFlow.

import protobuf from 'protobufjs/light.js'

/** Element types, by their number in DataType. */
export const elementTypes = { float32: 1, int32: 3, bool: 10, float16: 19, resource: 20 } as const

/** An element type of TensorFlow that programs use. */
export type ElementType = keyof typeof elementTypes

/** A value of an attribute: one of the fields is set. */
export interface AttrValue {
  readonly s?: Uint8Array
  readonly i?: number
  readonly f?: number
  readonly b?: boolean
  readonly type?: number
  readonly shape?: TensorShape
  readonly tensor?: { readonly dtype: number; readonly tensorShape: TensorShape; readonly tensorContent: Uint8Array }
  readonly list?: { readonly i: readonly number[] }
}

/** A shape, all sizes known. */
export interface TensorShape {
  readonly dim: readonly { readonly size: number }[]
}

/** A node. Inputs are `name`, `name:output` or, for order only, `^name`. */
export interface NodeDef {
  readonly name: string
  readonly op: string
  readonly input: readonly string[]
  readonly attr: Readonly<Record<string, AttrValue>>
}

// The version of the graph format that TensorFlow 2.15 writes (versions.producer).
const producer = 1645

const one = (type: string, id: number): protobuf.IField => ({ type, id })
const many = (type: string, id: number): protobuf.IField => ({ type, id, rule: 'repeated' })
const byName = (type: string, id: number): protobuf.IMapField => ({ keyType: 'string', type, id })
const message = (fields: protobuf.IType['fields']): protobuf.IType => ({ edition: 'proto2', fields })

const root = protobuf.Root.fromJSON({
  nested: {
    Dim: message({ size: one('int64', 1) }),
    TensorShape: message({ dim: many('Dim', 2) }),
    Tensor: message({ dtype: one('int32', 1), tensorShape: one('TensorShape', 2), tensorContent: one('bytes', 4) }),
    ListValue: message({ i: many('int64', 3) }),
    AttrValue: message({
      list: one('ListValue', 1),
      s: one('bytes', 2),
      i: one('int64', 3),
      f: one('float', 4),
      b: one('bool', 5),
      type: one('int32', 6),
      shape: one('TensorShape', 7),
      tensor: one('Tensor', 8),
    }),
    NodeDef: message({ name: one('string', 1), op: one('string', 2), input: many('string', 3), attr: byName('AttrValue', 5) }),
    Versions: message({ producer: one('int32', 1) }),
    GraphDef: message({ node: many('NodeDef', 1), versions: one('Versions', 4) }),
    MetaInfo: message({ tags: many('string', 4) }),
    MetaGraph: message({ metaInfoDef: one('MetaInfo', 1), graphDef: one('GraphDef', 2) }),
    SavedModel: message({ savedModelSchemaVersion: one('int64', 1), metaGraphs: many('MetaGraph', 2) }),
  },
})
const savedModel = root.lookupType('SavedModel')

/** The tag under which a program is saved. */
export const savedModelTag = 'serve'

/** The bytes of `saved_model.pb` for a graph of these nodes. */
export function encodeSavedModel(node: readonly NodeDef[]): Uint8Array {
  const metaGraphs = [{ metaInfoDef: { tags: [savedModelTag] }, graphDef: { node, versions: { producer } } }]
  return savedModel.encode({ savedModelSchemaVersion: 1, metaGraphs }).finish()
}
