// Constant folding: a node whose inputs are all known is computed now, by its op's own reference in float64, and rounded
// to its dtype as an engine would round it. Only small results are folded, so that a program never grows by a big constant.
//
// A uniform result becomes a scalar and a broadcastTo. Broadcasts and ramps of known values stay as they are (they are
// smaller than what they stand for), but what is computed from them is folded.

import type { Graph, Node } from '../graph/graph.ts'
import type { OpName } from '../ops/attrs.ts'
import type { OpDef, RefTensor } from '../ops/define.ts'
import { fromNumbers, hostTensor, type HostTensor, toFloat64 } from '../tensor/hostTensor.ts'
import { isStatic, type StaticShape, sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { copyNode, rewrite, type Rewriting } from './rewrite.ts'

/** How far to go. */
export interface FoldOptions {
  /** The most elements of a folded result; 4096 unless given. */
  readonly maxElements?: number
}

// A small result of inputs this much larger is still worth computing (a reduction of a table); beyond it compiling would
// take longer than it saves.
const inputsPerResult = 16

/**
 * The graph with small results of constants computed.
 *
 * @throws RangeError where a constant index is out of bounds, as a run of the reference would
 */
export function fold(graph: Graph, options: FoldOptions = {}): Graph {
  const maxElements = options.maxElements ?? 4096
  const values = new Map<number, RefTensor>()
  const remember = (t: Tensor | undefined, value: RefTensor | undefined): void => {
    if (t && value) values.set(t.id, value)
  }
  return rewrite(graph, (node, inputs, rewriting) => {
    const { builder } = rewriting
    if (node.op === 'constant') {
      const [t] = copyNode(builder, node, inputs)
      if (!t) return undefined
      const { value } = node.attrs
      if (value.data.length <= maxElements * inputsPerResult) remember(t, { shape: value.shape, data: toFloat64(value) })
      return [t]
    }
    const known = inputs.flatMap((t) => values.get(t.id) ?? [])
    if (known.length < inputs.length) return undefined
    const results = compute(node, known, rewriting, maxElements)
    if (!results) return undefined
    const outputs = isView(node) ? copyNode(builder, node, inputs) : results.map((r) => emitKnown(r, rewriting))
    outputs.forEach((t, i) => {
      const r = results[i]
      if (r) remember(t, { shape: r.shape, data: toFloat64(r) })
    })
    return outputs
  })
}

// broadcastTo and iota say in a few bytes what their elements are.
function isView(node: Node): boolean {
  return node.op === 'broadcastTo' || node.op === 'iota'
}

function compute(node: Node, inputs: readonly RefTensor[], { builder, source }: Rewriting, maxElements: number): readonly HostTensor[] | undefined {
  const types = node.outputs.flatMap((id) => {
    const type = source.values[id]
    return type && isStatic(type.shape) ? [{ dtype: type.dtype, shape: type.shape }] : []
  })
  if (types.length < node.outputs.length || types.some(({ shape }) => sizeOf(shape) > maxElements)) return undefined
  const def = builder.ops[node.op] as OpDef<OpName>
  const result = def.reference(node.attrs, inputs, types)
  const list = Array.isArray(result) ? (result as readonly RefTensor[]) : [result as RefTensor]
  return types.flatMap(({ dtype, shape }, i) => {
    const data = list[i]?.data
    return data ? [fromNumbers(dtype, shape, data)] : []
  })
}

function emitKnown(value: HostTensor, { emit }: Rewriting): Tensor {
  const splat = uniform(value)
  if (!splat) return emit('constant', { value }, [])
  const scalar = emit('constant', { value: splat }, [])
  return emit('broadcastTo', { shape: value.shape }, [scalar])
}

// The one element that a tensor of at least one axis repeats, as a scalar. Storage is compared, so 0 and -0 differ in
// float16; float32 tells them apart by Object.is.
function uniform({ dtype, shape, data }: HostTensor): HostTensor | undefined {
  const scalar: StaticShape = []
  if (shape.length === 0 || data.length === 0) return undefined
  const first = data[0]
  for (const x of data) if (!Object.is(x, first)) return undefined
  return hostTensor(dtype, scalar, data.slice(0, 1))
}
