// From an ONNX model, with the inputs that it is to run on, to one of our graphs. What ONNX computes from data but our ops
// take as attributes (the shape of a Reshape, the pads of a Pad) is read from those inputs, or computed by the oracle where
// the model computes it. int64 values are int32 here.

import { type DType, DTypeError, evaluate, type Graph, GraphBuilder, type HostTensor, ops, type StaticShape, Tensor, toRef } from '@dynconv/core'
import { hostOf, missing, NodeView, NotOurs, type Result, type ValueSource } from './node.ts'
import { type OnnxModel, type OnnxNode, type OnnxTensor, tensorOfProto } from './proto.ts'
import { rules } from './rules.ts'

/** A model as our graph, with its inputs. */
export interface Imported {
  readonly graph: Graph
  readonly feeds: readonly HostTensor[]
}

/**
 * The graph of `model` for inputs of these very shapes (and, where an op of ours takes them as attributes, values).
 *
 * @throws NotOurs for ops, dtypes and attributes that we do not have
 */
export function importModel(model: OnnxModel, inputs: ReadonlyMap<string, OnnxTensor>, file: string): Imported {
  return new Importer(model, file).run(inputs)
}

class Importer implements ValueSource {
  readonly #builder: GraphBuilder = new GraphBuilder(ops)
  readonly file: string
  readonly opset: number
  readonly #model: OnnxModel
  readonly #values: Map<string, Result> = new Map()
  readonly #given: Map<OnnxTensor, Tensor> = new Map()
  readonly #names: Map<OnnxTensor, string> = new Map()
  readonly #feeds: HostTensor[] = []

  constructor(model: OnnxModel, file: string) {
    this.#model = model
    this.file = file
    this.opset = model.opsetImport.find(({ domain }) => !domain || domain === 'ai.onnx')?.version ?? 1
  }

  run(inputs: ReadonlyMap<string, OnnxTensor>): Imported {
    const { node: nodes, initializer, output } = this.#model.graph
    for (const t of initializer) this.#values.set(t.name ?? '', tensorOfProto(t, this.file))
    for (const [name, t] of inputs) {
      this.#values.set(name, t)
      this.#names.set(t, name)
    }
    for (const node of nodes) this.#node(node)
    for (const { name } of output) this.#builder.output(name, this.tensor(this.value(name) ?? missing(name)))
    return { graph: this.#builder.build(), feeds: this.#feeds }
  }

  value(name: string): Result | undefined {
    return this.#values.get(name)
  }

  // The test's inputs are inputs of the graph too, as far as they are used; all else that is known is a constant.
  tensor(value: Result): Tensor {
    if (value instanceof Tensor) return value
    const made = this.#given.get(value)
    if (made) return made
    const host = hostOf(value)
    const name = this.#names.get(value)
    const t = name === undefined ? this.constant(host) : this.#builder.input(name, host.dtype, host.shape)
    if (name !== undefined) this.#feeds.push(host)
    this.#given.set(value, t)
    return t
  }

  constant(host: HostTensor): Tensor {
    const [t] = this.#builder.emit('constant', { value: host }, [])
    return t ?? missing('constant')
  }

  iota(shape: StaticShape, axis: number, dtype: DType): Tensor {
    const [t] = this.#builder.emit('iota', { shape, axis, dtype }, [])
    return t ?? missing('iota')
  }

  numbers(value: Result): readonly number[] {
    if (!(value instanceof Tensor)) return Array.from(value.data)
    const graph = { ...this.#builder.build(), outputs: [{ name: 'known', value: value.id }] }
    return Array.from(evaluate(graph, this.#feeds.map(toRef)).outputs[0]?.data ?? [])
  }

  #node(node: OnnxNode): void {
    const rule = node.domain && node.domain !== 'ai.onnx' ? undefined : Object.hasOwn(rules, node.opType) ? rules[node.opType] : undefined
    if (!rule) throw new NotOurs('op', node.opType)
    const view = new NodeView(this, node)
    const results = list(withDTypes(node.opType, () => rule(view)))
    const unread = view.unread()
    if (unread.length) throw new NotOurs('attribute', `${node.opType}.${unread.join(', ')}`)
    node.output.forEach((name, i) => {
      const result = results[i]
      if (name && !result) throw new NotOurs('attribute', `${node.opType}: output ${i}`)
      if (name && result) this.#values.set(name, result)
    })
  }
}

// An op of ours that refuses a dtype: ONNX allows it there, we do not.
function withDTypes<T>(op: string, body: () => T): T {
  try {
    return body()
  } catch (error) {
    if (error instanceof DTypeError) throw new NotOurs('dtype', `${op}: ${error.message}`)
    throw error
  }
}

function list(result: Result | readonly Result[]): readonly Result[] {
  return Array.isArray(result) ? (result as readonly Result[]) : [result as Result]
}
