// Writes an ONNX model node by node: names, shared constants, opset imports, inputs and outputs. It knows ONNX, not the
// graph that is being lowered (lowering.ts).

import { type DType, GraphError, type HostTensor, type Shape } from '@dynconv/core'
import {
  type AttributeProto,
  attributeTypes,
  elementTypes,
  encodeModel,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './proto/onnx.ts'

/** Standard ops, in the newest set that the checkers of older tools accept. */
export const opsetVersion = 17
/** The file format that belongs to that opset. */
export const irVersion = 8

/** An attribute: a number is an integer (a float is `{ float }`), a list a list of integers. */
export type Attr = number | string | readonly number[] | { readonly float: number } | { readonly floats: readonly number[] } | { readonly tensor: HostTensor }

/** Attributes by name; an undefined one is left out. */
export type Attrs = { readonly [name: string]: Attr | undefined }

/** Where an op lives and how many results it has. */
export interface OpOptions {
  /** The standard domain unless given. */
  readonly domain?: string
}

/** What an encoded model says of itself. */
export interface ModelInfo {
  readonly name: string
  readonly doc?: string
  readonly producerVersion?: string
  readonly metadata?: ReadonlyMap<string, string>
}

interface Live {
  readonly node: readonly NodeProto[]
  readonly initializer: readonly TensorProto[]
}

/** An ONNX model under construction. */
export class ModelBuilder {
  // Where nodes go: the model itself, or a branch of it.
  #nodes: NodeProto[] = []
  readonly #initializers: TensorProto[] = []
  readonly #inputs: ValueInfoProto[] = []
  readonly #outputs: ValueInfoProto[] = []
  readonly #domains: Set<string> = new Set([''])
  readonly #taken: Set<string> = new Set()
  readonly #reserved: Set<string> = new Set()
  readonly #constants: Map<string, { readonly name: string; readonly bytes: Uint8Array }[]> = new Map()
  readonly #counters: Map<string, number> = new Map()
  /** What a reshape was made from, and reshapes by source and shape. */
  readonly #reshaped: Map<string, string> = new Map()
  readonly #reshapes: Map<string, string> = new Map()
  #inBranch: boolean = false

  /** Appends a node with one result and gives the result's name. An input '' is left out. */
  op(type: string, inputs: readonly string[], attrs: Attrs = {}, options: OpOptions = {}): string {
    const [name = ''] = this.ops(type, inputs, attrs, 1, options)
    return name
  }

  /** Appends a node with `count` results and gives their names. */
  ops(type: string, inputs: readonly string[], attrs: Attrs, count: number, options: OpOptions = {}): readonly string[] {
    const name = this.unique(type)
    const output = count === 1 ? [name] : Array.from({ length: count }, (_, i) => this.#take(`${name}.${i}`))
    this.#node(type, name, inputs, output, attrs, options)
    return output
  }

  #node(type: string, name: string, inputs: readonly string[], output: readonly string[], attrs: Attrs, options: OpOptions): void {
    const domain = options.domain ?? ''
    this.#domains.add(domain)
    // Trailing inputs that are left out are not written at all.
    const last = inputs.findLastIndex((i) => i !== '')
    this.#nodes.push({
      input: inputs.slice(0, last + 1),
      output,
      name,
      opType: type,
      ...(domain ? { domain } : {}),
      attribute: Object.entries(attrs).flatMap(([key, value]) => (value === undefined ? [] : [attribute(key, value)])),
    })
  }

  /** A name that nothing has yet: `base`, or `base_1`, `base_2`, ... */
  unique(base: string): string {
    let count = this.#counters.get(base) ?? 0
    let name = count === 0 ? base : `${base}_${count}`
    while (this.#taken.has(name)) name = `${base}_${++count}`
    this.#counters.set(base, count + 1)
    return this.#take(name)
  }

  #take(name: string): string {
    if (this.#taken.has(name)) throw new GraphError(`onnx: the name '${name}' is used twice`)
    this.#taken.add(name)
    return name
  }

  /** An initialiser; equal ones are shared. */
  constant(t: HostTensor, base: string = 'const'): string {
    return this.#initializer(elementTypes[t.dtype], t.shape, bytesOf(t.data), base)
  }

  /** An int64 vector, shared. */
  ints(values: readonly number[]): string {
    return this.#initializer(elementTypes.int64, [values.length], bytesOf(BigInt64Array.from(values, BigInt)), 'ints')
  }

  /** An int64 scalar, shared. */
  int(value: number): string {
    return this.#initializer(elementTypes.int64, [], bytesOf(BigInt64Array.of(BigInt(value))), 'int')
  }

  /** A float32 scalar, shared. */
  float(value: number): string {
    return this.#initializer(elementTypes.float32, [], bytesOf(Float32Array.of(value)), 'float')
  }

  /** An initialiser under its own name, never shared: a weight of an exported model. */
  weight(name: string, t: HostTensor): string {
    this.#initializers.push({ ...tensorProto(t), name: this.#take(name) })
    return name
  }

  #initializer(dataType: number, dims: readonly number[], bytes: Uint8Array, base: string): string {
    const key = `${dataType}:${dims.join(',')}:${hash(bytes)}`
    const bucket = this.#constants.get(key) ?? []
    const known = bucket.find((c) => equalBytes(c.bytes, bytes))
    if (known) return known.name
    const name = this.unique(base)
    this.#initializers.push({ dims: [...dims], dataType, name, rawData: bytes })
    this.#constants.set(key, [...bucket, { name, bytes }])
    return name
  }

  /** An input of the model; a dimension given by name is free. */
  input(name: string, dtype: DType, shape: Shape): string {
    this.#inputs.push(valueInfo(this.#take(name), dtype, shape))
    return name
  }

  /** Keeps a name for an output that is made later. */
  reserve(name: string): string {
    this.#reserved.add(this.#take(name))
    return name
  }

  /** An output of the model: `value` under the name `name`. */
  output(name: string, value: string, dtype: DType, shape: Shape): void {
    if (!this.#reserved.delete(name)) this.#take(name)
    this.#outputs.push(valueInfo(name, dtype, shape))
    // An output may not itself be an input or an initialiser, nor stand twice: Identity is right in every case, and
    // `build` removes it where it can.
    this.#node('Identity', this.unique('Identity'), [value], [name], {}, {})
  }

  /**
   * The value of one of two branches, chosen when the model runs. What `whenTrue` and `whenFalse` append belongs to their
   * branch alone; they may read everything that was made before.
   */
  branch(condition: string, type: { readonly dtype: DType; readonly shape: Shape }, whenTrue: () => string, whenFalse: () => string): string {
    const name = this.unique('If')
    const graphs = [whenTrue, whenFalse].map((body): GraphProto => {
      const [outer, wasInBranch] = [this.#nodes, this.#inBranch]
      this.#nodes = []
      this.#inBranch = true
      const output = this.unique('branch')
      this.#node('Identity', this.unique('Identity'), [body()], [output], {}, {})
      const node = this.#nodes
      this.#nodes = outer
      this.#inBranch = wasInBranch
      return { name: output, node, initializer: [], input: [], output: [valueInfo(output, type.dtype, type.shape)] }
    })
    const attribute = graphs.map((g, i): AttributeProto => ({ name: i === 0 ? 'then_branch' : 'else_branch', type: attributeTypes.graph, g }))
    this.#nodes.push({ input: [condition], output: [name], name, opType: 'If', attribute })
    return name
  }

  // The few shape ops that everything is made of.

  /** `x` in another shape; at most one dimension may be free (a name). A dimension of 0 is 0. Equal ones are shared. */
  reshape(x: string, shape: Shape): string {
    const isStatic = shape.every((d) => typeof d === 'number' && d > 0)
    // What is made in a branch cannot be read outside.
    if (!isStatic || this.#inBranch) return this.#reshape(x, shape)
    const source = this.#reshaped.get(x) ?? x
    const key = `${source}:${shape.join()}`
    const known = this.#reshapes.get(key)
    if (known !== undefined) return known
    const name = this.#reshape(source, shape)
    this.#reshaped.set(name, source)
    this.#reshapes.set(key, name)
    return name
  }

  #reshape(x: string, shape: Shape): string {
    const free = shape.filter((d) => typeof d === 'string').length
    if (free > 1) throw new GraphError(`onnx: reshape to [${shape.join(', ')}]: more than one free dimension`)
    const zero = shape.includes(0)
    if (free && zero) throw new GraphError(`onnx: reshape to [${shape.join(', ')}]: a free dimension beside an empty one`)
    return this.op('Reshape', [x, this.ints(shape.map((d) => (typeof d === 'string' ? -1 : d)))], { allowzero: zero ? 1 : undefined })
  }

  /** Permuted axes (`x` itself when they stay). */
  transpose(x: string, perm: readonly number[]): string {
    return perm.every((p, i) => p === i) ? x : this.op('Transpose', [x], { perm })
  }

  /** Elements [start, end) of each axis in `axes`, every `step`-th. */
  slice(x: string, starts: readonly number[], ends: readonly number[], axes: readonly number[], steps: readonly number[] = axes.map(() => 1)): string {
    return this.op('Slice', [x, this.ints(starts), this.ints(ends), this.ints(axes), steps.some((s) => s !== 1) ? this.ints(steps) : ''])
  }

  /** One after another along `axis`. */
  concat(parts: readonly string[], axis: number): string {
    const [first] = parts
    return parts.length === 1 && first !== undefined ? first : this.op('Concat', parts, { axis })
  }

  /** Sums over `axes`. */
  sum(x: string, axes: readonly number[], keepDims: boolean): string {
    return this.op('ReduceSum', [x, this.ints(axes)], { keepdims: keepDims ? 1 : 0 })
  }

  // Outputs take their names where they are made, as far as that is possible: an Identity would copy them.
  #named({ node, initializer }: Live): Live {
    const outputs = new Set(this.#outputs.map((o) => o.name))
    const made = new Set(node.flatMap((n) => n.output))
    const inBranches = new Set(node.flatMap((n) => n.attribute.flatMap((a) => a.g?.node.flatMap(readBy) ?? [])))
    const renamed = new Map<string, string>()
    const dropped = new Set<NodeProto>()
    for (const n of node) {
      const [from = '', to = ''] = [n.input[0], n.output[0]]
      if (n.opType !== 'Identity' || !outputs.has(to) || !made.has(from) || outputs.has(from) || renamed.has(from) || inBranches.has(from)) continue
      renamed.set(from, to)
      dropped.add(n)
    }
    const rename = (name: string): string => renamed.get(name) ?? name
    return { initializer, node: node.filter((n) => !dropped.has(n)).map((n) => ({ ...n, input: n.input.map(rename), output: n.output.map(rename) })) }
  }

  // Nodes and initialisers that an output needs: the engine itself runs what nobody reads.
  #live(): Live {
    const outputs = this.#outputs.map((o) => o.name)
    const node = neededFor(outputs, this.#nodes)
    const read = new Set([...outputs, ...node.flatMap(readBy)])
    return { node, initializer: this.#initializers.filter((t) => read.has(t.name ?? '')) }
  }

  /** The finished model. */
  build(info: ModelInfo): ModelProto {
    return {
      irVersion,
      producerName: 'dynconv',
      ...(info.producerVersion === undefined ? {} : { producerVersion: info.producerVersion }),
      ...(info.doc === undefined ? {} : { docString: info.doc }),
      graph: { name: info.name, ...this.#named(this.#live()), input: this.#inputs, output: this.#outputs },
      opsetImport: [...this.#domains].map((domain) => (domain === '' ? { version: opsetVersion } : { domain, version: 1 })),
      metadataProps: [...(info.metadata ?? [])].map(([key, value]) => ({ key, value })),
    }
  }

  /** The finished model's bytes. */
  encode(info: ModelInfo = { name: 'dynconv' }): Uint8Array {
    return encodeModel(this.build(info))
  }
}

/** What a node reads, its branches included (and what they make for themselves). */
export function readBy(node: NodeProto): readonly string[] {
  return [...node.input.filter((name) => name !== ''), ...node.attribute.flatMap((a) => a.g?.node.flatMap(readBy) ?? [])]
}

/** Those of `nodes` that the values called `names` need, in order. */
export function neededFor(names: readonly string[], nodes: readonly NodeProto[]): readonly NodeProto[] {
  const read = new Set(names)
  const result: NodeProto[] = []
  for (const node of nodes.toReversed()) {
    if (!node.output.some((name) => read.has(name))) continue
    for (const name of readBy(node)) read.add(name)
    result.push(node)
  }
  return result.reverse()
}

function attribute(name: string, value: Attr): AttributeProto {
  if (typeof value === 'number') {
    if (!Number.isInteger(value)) throw new GraphError(`onnx: attribute ${name}=${value} is no integer; pass { float: ${value} }`)
    return { name, type: attributeTypes.int, i: value }
  }
  if (typeof value === 'string') return { name, type: attributeTypes.string, s: new TextEncoder().encode(value) }
  if ('float' in value) return { name, type: attributeTypes.float, f: value.float }
  if ('floats' in value) return { name, type: attributeTypes.floats, floats: value.floats }
  if ('tensor' in value) {
    return { name, type: attributeTypes.tensor, t: tensorProto(value.tensor) }
  }
  return { name, type: attributeTypes.ints, ints: value }
}

function valueInfo(name: string, dtype: DType, shape: Shape): ValueInfoProto {
  const dim = shape.map((d) => (typeof d === 'string' ? { dimParam: d } : { dimValue: d }))
  return { name, type: { tensorType: { elemType: elementTypes[dtype], shape: { dim } } } }
}

// The engines that this library runs on are little-endian, as ONNX files are.
/** A tensor of a model, over the memory of `t`. */
export function tensorProto({ dtype, shape, data }: HostTensor): TensorProto {
  return { dims: [...shape], dataType: elementTypes[dtype], rawData: bytesOf(data) }
}

/** The bytes of an array, over its memory. */
export function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

// FNV-1a over at most 4096 evenly spaced bytes: it only sorts candidates into buckets, equality is checked byte by byte.
function hash(bytes: Uint8Array): number {
  const step = Math.max(1, Math.floor(bytes.length / 4096))
  let h = 0x811c9dc5 ^ bytes.length
  for (let i = 0; i < bytes.length; i += step) h = Math.imul(h ^ (bytes[i] ?? 0), 0x01000193)
  return h >>> 0
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
