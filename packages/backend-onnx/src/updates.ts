// The next values of many small states, computed together. A training step updates every vector (a normalisation's gamma
// and beta, their momenta, running statistics) by the same few elementwise ops, and an op on sixteen numbers costs the
// engine as much as one on ten thousand. So vectors whose updates are the same expression, on other vectors, are put one
// after another, go through the expression once, and are cut apart again.

import { type Graph, isStatic, type Node, producers, type StaticShape, sizeOf, typeOf, type ValueId } from '@dynconv/core'
import { input } from './kernels/shared.ts'
import type { Lowering } from './lowering.ts'

/** States whose next values are one expression. */
export interface UpdateGroup {
  readonly states: readonly string[]
  /** Their next values, in the same order. */
  readonly updates: readonly ValueId[]
}

/** What is computed together. */
export interface UpdatePlan {
  readonly groups: readonly UpdateGroup[]
  /** The values that the groups start from. */
  readonly leaves: ReadonlySet<ValueId>
}

const together: ReadonlySet<Node['op']> = new Set<Node['op']>(['add', 'sub', 'mul', 'div', 'neg', 'sqrt', 'abs', 'min', 'max'])

/** Fewer than this many save nothing. */
const leastStates = 3
const mostElements = 4096

/** Finds the groups of `graph`. */
export function planUpdates(graph: Graph): UpdatePlan {
  const made = producers(graph)
  const makerOf = (id: ValueId): Node | undefined => graph.nodes[made.get(id) ?? -1]
  const shapeOf = (id: ValueId): StaticShape | undefined => {
    const { shape } = typeOf(graph, id)
    return isStatic(shape) ? shape : undefined
  }
  const isScalar = (id: ValueId): boolean => shapeOf(id)?.length === 0
  const inner = (id: ValueId): Node | undefined => {
    const node = makerOf(id)
    if (!node || !together.has(node.op) || typeOf(graph, id).dtype !== 'float32') return undefined
    const shape = shapeOf(id)?.join()
    return node.inputs.every((other) => isScalar(other) || shapeOf(other)?.join() === shape) ? node : undefined
  }
  // The expression, with a dot for each vector that it starts from.
  const expression = (id: ValueId): string => {
    if (isScalar(id)) return `%${id}`
    const node = inner(id)
    return node ? `${node.op}(${node.inputs.map(expression).join(',')})` : '.'
  }
  const byExpression = new Map<string, { states: string[]; updates: ValueId[] }>()
  for (const { name, dtype, shape, update } of graph.states) {
    if (update === undefined || dtype !== 'float32' || shape.length !== 1 || !isStatic(shape) || sizeOf(shape) > mostElements || !inner(update)) continue
    const key = expression(update)
    const group = byExpression.get(key) ?? { states: [], updates: [] }
    group.states.push(name)
    group.updates.push(update)
    byExpression.set(key, group)
  }
  const groups = [...byExpression.values()].filter((g) => g.states.length >= leastStates)
  const leaves = new Set<ValueId>()
  const collect = (id: ValueId): void => {
    const node = isScalar(id) ? undefined : inner(id)
    if (node) node.inputs.forEach(collect)
    else leaves.add(id)
  }
  for (const group of groups) group.updates.forEach(collect)
  return { groups, leaves }
}

/** Emits the groups, when all leaves are there: the names of the next values by state. */
export function emitUpdates(plan: UpdatePlan, lowering: Lowering): ReadonlyMap<string, string> {
  const { model } = lowering
  const done = new Map<string, string>()
  // One name for the values `ids`, one after another.
  const emit = (ids: readonly ValueId[]): string => {
    const [first = -1] = ids
    if (lowering.shape(first).length === 0) return lowering.get(first)
    const key = ids.join()
    const known = done.get(key)
    if (known !== undefined) return known
    const nodes = plan.leaves.has(first) ? [] : ids.flatMap((id) => lowering.producer(id) ?? [])
    const [node] = nodes
    const name = node ? model.op(onnxNames[node.op] ?? '', node.inputs.map((_, i) => emit(nodes.map((n) => input(n, i))))) : model.concat(lowering.getAll(ids), 0)
    done.set(key, name)
    return name
  }
  const results = new Map<string, string>()
  for (const { states, updates } of plan.groups) {
    const sizes = updates.map((id) => sizeOf(lowering.type(id).shape))
    const parts = model.ops('Split', [emit(updates), model.ints(sizes)], { axis: 0 }, updates.length)
    states.forEach((name, i) => results.set(name, parts[i] ?? ''))
  }
  return results
}

const onnxNames: { readonly [op: string]: string } = { add: 'Add', sub: 'Sub', mul: 'Mul', div: 'Div', neg: 'Neg', sqrt: 'Sqrt', abs: 'Abs', min: 'Min', max: 'Max' }
