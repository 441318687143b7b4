// A node of an ONNX model as the rules see it (rules*.ts), and what they may answer. The values come from importer.ts.

import { type DType, fromNumbers, type HostTensor, type StaticShape, staticShape, Tensor } from '@dynconv/core'
import { type OnnxAttribute, type OnnxNode, type OnnxTensor, type OnnxType, tensorOfProto } from './proto.ts'

/** Why a model cannot be one of our graphs. */
export type NotOursKind = 'op' | 'dtype' | 'attribute'

/** Thrown for what ONNX has and we do not: no failure, but no pass either. */
export class NotOurs extends Error {
  override readonly name: string = 'NotOurs'
  readonly kind: NotOursKind
  /** `Conv.auto_pad=VALID`, `uint8`, `LSTM` */
  readonly what: string

  constructor(kind: NotOursKind, what: string) {
    super(`${kind} not ours: ${what}`)
    this.kind = kind
    this.what = what
  }
}

/** What a rule gives for an output: a value of the graph, or numbers that are known already. */
export type Result = Tensor | OnnxTensor

/** From a node to its outputs. */
export type Rule = (node: NodeView) => Result | readonly Result[]

const dtypes: { readonly [T in OnnxType]?: DType } = { float: 'float32', float16: 'float16', int32: 'int32', int64: 'int32', bool: 'bool' }

/** Our dtype for `type`. @throws NotOurs */
export function dtypeOf(type: OnnxType): DType {
  const dtype = dtypes[type]
  if (!dtype) throw new NotOurs('dtype', type)
  return dtype
}

/** Numbers as one of our host tensors. @throws NotOurs for another dtype, and for an int64 outside int32 */
export function hostOf({ type, dims, data }: OnnxTensor): HostTensor {
  const dtype = dtypeOf(type)
  if (dtype === 'int32' && data.some((v) => v !== (v | 0))) throw new NotOurs('dtype', `${type} beyond int32`)
  return fromNumbers(dtype, dims, data)
}

/** Where a node's values come from. */
export interface ValueSource {
  readonly opset: number
  readonly file: string
  /** The value of that name, if it is made. */
  value(name: string): Result | undefined
  /** A value as one of the graph. */
  tensor(value: Result): Tensor
  /** A value as numbers; computed by the oracle where they are not known. */
  numbers(value: Result): readonly number[]
  constant(host: HostTensor): Tensor
  iota(shape: StaticShape, axis: number, dtype: DType): Tensor
}

/** A node as a rule sees it. It notes which attributes are read: one that no rule reads is not ours. */
export class NodeView {
  readonly #source: ValueSource
  readonly #node: OnnxNode
  readonly #read: Set<string> = new Set()

  constructor(source: ValueSource, node: OnnxNode) {
    this.#source = source
    this.#node = node
  }

  get op(): string {
    return this.#node.opType
  }

  get opset(): number {
    return this.#source.opset
  }

  /** How many inputs there are, those left out at the end not counted. */
  get count(): number {
    return this.#node.input.filter((name) => name !== '').length
  }

  /** How many outputs are asked for. */
  get outputs(): number {
    return this.#node.output.filter((name) => name !== '').length
  }

  /** All inputs. */
  all(): readonly Tensor[] {
    return this.#node.input.map((_, i) => this.x(i))
  }

  has(i: number): boolean {
    return this.#result(i) !== undefined
  }

  /** Input `i`. */
  x(i: number): Tensor {
    return this.#source.tensor(this.#result(i) ?? missing(`${this.op}: input ${i}`))
  }

  /** Input `i`, or undefined where it is left out. */
  maybe(i: number): Tensor | undefined {
    return this.has(i) ? this.x(i) : undefined
  }

  /** Input `i` as it came: numbers where they are known. */
  result(i: number): Result {
    return this.#result(i) ?? missing(`${this.op}: input ${i}`)
  }

  /** The numbers of input `i`, or undefined where it is left out. */
  known(i: number): readonly number[] | undefined {
    const result = this.#result(i)
    return result && this.#source.numbers(result)
  }

  /** The shape of input `i`. */
  shape(i: number): StaticShape {
    const result = this.result(i)
    return result instanceof Tensor ? staticShape(this.op, result.shape) : result.dims
  }

  int(name: string, otherwise: number): number {
    return this.#attribute(name)?.i ?? otherwise
  }

  float(name: string, otherwise: number): number {
    return this.#attribute(name)?.f ?? otherwise
  }

  text(name: string, otherwise: string): string {
    const bytes = this.#attribute(name)?.s
    return bytes ? new TextDecoder().decode(bytes) : otherwise
  }

  ints(name: string): readonly number[] | undefined {
    return this.#attribute(name)?.ints
  }

  floats(name: string): readonly number[] | undefined {
    return this.#attribute(name)?.floats
  }

  numbers(name: string): OnnxTensor | undefined {
    const proto = this.#attribute(name)?.t
    return proto && tensorOfProto(proto, this.#source.file)
  }

  constant(host: HostTensor): Tensor {
    return this.#source.constant(host)
  }

  /** 0, 1, 2, ... along `axis`. */
  iota(shape: StaticShape, axis: number, dtype: DType): Tensor {
    return this.#source.iota(shape, axis, dtype)
  }

  /** Gives up: the value that an attribute has is none of ours. */
  refuse(attribute: string): never {
    throw new NotOurs('attribute', `${this.op}.${attribute}`)
  }

  unread(): readonly string[] {
    return this.#node.attribute.map(({ name }) => name).filter((name) => !this.#read.has(name))
  }

  #attribute(name: string): OnnxAttribute | undefined {
    this.#read.add(name)
    return this.#node.attribute.find((a) => a.name === name)
  }

  #result(i: number): Result | undefined {
    const name = this.#node.input[i]
    return name ? this.#source.value(name) : undefined
  }
}

/** Throws for a value that is not there. */
export function missing(name: string): never {
  throw new RangeError(`importModel: '${name}' is read before it is made`)
}
