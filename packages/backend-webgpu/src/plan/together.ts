// Elementwise groups that are alike but for their tensors, as one dispatch: the updates of a network's parameters, a hundred of
// them, each too small to be worth a dispatch. What they read and write lies in few buffers. States lie together anyway
// (tensors.ts); temporaries that are read become parts of one buffer, and so do the results, in the order of the states that
// take them, so that few copies are enough. A table says for each workgroup where its elements are.

import { sizeOf } from '@dynconv/core'
import { elementwiseKernel, type ElementwiseGroup, elementwiseOnManyKernel, vectorsOfRow } from '../kernels/elementwise.ts'
import { range } from '../wgsl/kernel.ts'
import { denseLayout, isDense } from '../wgsl/views.ts'
import type { Group, Lazy } from './fuse.ts'
import { type PlanBuffer, type ProgramBuilder, type StatePlace, type Value } from './program.ts'

// Tensors beyond are worth a dispatch, and what lies together cannot share its memory piece by piece.
const maxElements = 2 ** 18
const maxBytes = 32 * 2 ** 20

/** What is known of the states. */
export interface States {
  /** Where a state stands; undefined where that is not known. */
  readonly placeOf: (name: string) => StatePlace | undefined
  /** The state that takes a result. */
  readonly takerOf: (result: Lazy) => string | undefined
}

type Input =
  /** One for all groups. */
  | { readonly kind: 'same'; readonly value: Value }
  | { readonly kind: 'state'; readonly place: StatePlace }
  | { readonly kind: 'temporary'; readonly buffer: PlanBuffer }

interface Output {
  readonly result: Lazy
  /** Of the state that takes it. */
  readonly place: StatePlace | undefined
}

// A group that gives states new values.
interface Update {
  readonly group: Group
  readonly outputs: readonly Output[]
}

// One that may go with others.
interface Candidate extends Update {
  readonly inputs: readonly Input[]
  readonly text: ElementwiseGroup
  /** Those with the same may go together. */
  readonly key: string
}

/**
 * Dispatches those groups that go together, and says which. Nothing may have been made of their results yet. Of the other groups
 * too the states' new values get a place among the rest.
 */
export function dispatchTogether(builder: ProgramBuilder, groups: Iterable<Group>, states: States): ReadonlySet<Group> {
  const fitting = small([...groups].flatMap((group) => updateOf(group, states)))
  const candidates = fitting.flatMap((update) => candidateOf(builder, update, states))
  const taken = new Set<PlanBuffer>()
  const clusters = alike(candidates).flatMap((cluster) => {
    const free = withoutConflicts(
      builder,
      cluster.filter((candidate) => temporariesOf(candidate).every((buffer) => !taken.has(buffer))),
    )
    if (free.length < 2) return []
    for (const buffer of free.flatMap(temporariesOf)) taken.add(buffer)
    return [free]
  })
  const chosen = new Set(clusters.flat().map(({ group }) => group))
  const outputs = fitting.flatMap(({ group, outputs: all }) => (chosen.has(group) ? all : all.filter(({ place }) => place)))
  if (outputs.length === 0) return chosen
  outputs.sort((a, b) => order(a.place) - order(b.place))
  const values = outputs.map(({ result }) => builder.tensor(result.dtype, result.shape))
  const results = builder.joined(
    values.map(({ buffer }) => buffer),
    'what is written together',
  )
  for (const [i, { result }] of outputs.entries()) result.value = values[i]
  for (const cluster of clusters) dispatchCluster(builder, cluster, results)
  return chosen
}

const order = (place: StatePlace | undefined): number => (place ? place.shared * 2 ** 40 + place.offset : Number.MAX_SAFE_INTEGER)

function updateOf(group: Group, { placeOf, takerOf }: States): readonly Update[] {
  const size = sizeOf(group.shape)
  if (size === 0 || size > maxElements) return []
  const outputs = group.results.flatMap((result): readonly Output[] => {
    const taker = takerOf(result)
    return result.uses > 0 ? [{ result, place: taker === undefined ? undefined : placeOf(taker) }] : []
  })
  return outputs.some(({ place }) => place) ? [{ group, outputs }] : []
}

function candidateOf({ parts, target }: ProgramBuilder, { group, outputs }: Update, { placeOf }: States): readonly Candidate[] {
  if (group.root || outputs.some(({ result }) => result.dtype !== 'float32')) return []
  const inputs = group.inputs.flatMap((value): readonly Input[] => {
    const { buffer, dtype, layout } = value
    if (layout.strides.every((stride) => stride === 0)) return [{ kind: 'same', value }]
    if (!isDense(layout) || dtype !== 'float32') return []
    if (buffer.source.kind === 'temporary' && !parts.has(buffer.id)) return [{ kind: 'temporary', buffer }]
    const place = buffer.source.kind === 'state' ? placeOf(buffer.source.name) : undefined
    return place ? [{ kind: 'state', place }] : []
  })
  if (inputs.length < group.inputs.length) return []
  const text: ElementwiseGroup = {
    target,
    members: group.members,
    dtypes: group.inputs.map((v) => v.dtype),
    layouts: inputs.map((input) => (input.kind === 'same' ? { shape: [4], strides: [0], offset: input.value.layout.offset } : denseLayout([4]))),
    outputs: outputs.map(({ result }) => result.index),
    shape: [4],
  }
  const where = inputs.map((input) => (input.kind === 'same' ? input.value.buffer.id : input.kind === 'state' ? `state ${input.place.shared}` : input.kind))
  const candidate = { group, inputs, outputs, text, key: [elementwiseKernel(text).code, ...where].join('\n') }
  return bindingsOf(candidate) > target.maxBindings ? [] : [candidate]
}

function temporariesOf({ inputs }: Candidate): readonly PlanBuffer[] {
  return inputs.flatMap((input) => (input.kind === 'temporary' ? [input.buffer] : []))
}

// A dispatch may not write a buffer of which it reads another part.
function withoutConflicts({ steps }: ProgramBuilder, candidates: readonly Candidate[]): readonly Candidate[] {
  const readers = new Map<PlanBuffer, Set<Candidate>>()
  for (const candidate of candidates) for (const buffer of temporariesOf(candidate)) readers.set(buffer, (readers.get(buffer) ?? new Set()).add(candidate))
  const kept = new Set(candidates)
  for (const step of steps) {
    if (step.kind !== 'dispatch') continue
    const touching = (access: string): readonly Candidate[] =>
      step.buffers.flatMap((buffer, i) => (step.kernel.access[i] === access ? [...(readers.get(buffer) ?? [])].filter((c) => kept.has(c)) : []))
    const written = touching('read_write')
    if (touching('read').length > 0) for (const candidate of written) kept.delete(candidate)
  }
  return [...kept]
}

// As many as may lie together.
function small(updates: readonly Update[]): readonly Update[] {
  let bytes = 0
  return updates.filter(({ group, outputs }) => {
    bytes += 4 * sizeOf(group.shape) * Math.max(group.inputs.length, outputs.length)
    return bytes <= maxBytes
  })
}

function alike(candidates: readonly Candidate[]): readonly (readonly Candidate[])[] {
  const byKey = new Map<string, Candidate[]>()
  for (const candidate of candidates) byKey.set(candidate.key, [...(byKey.get(candidate.key) ?? []), candidate])
  return [...byKey.values()].filter((cluster) => cluster.length > 1)
}

// The array that an input is in: states by the buffer that they share, and the temporaries.
function arrayOf(input: Input): number | 'temporaries' | undefined {
  if (input.kind === 'same') return undefined
  return input.kind === 'state' ? input.place.shared : 'temporaries'
}

// Its inputs that are the same for all, arrays, the table and the results.
function bindingsOf({ inputs }: Pick<Candidate, 'inputs'>): number {
  const arrays = inputs.map(arrayOf)
  return arrays.filter((array) => array === undefined).length + new Set(arrays.filter((array) => array !== undefined)).size + 2
}

function dispatchCluster(builder: ProgramBuilder, cluster: readonly Candidate[], results: PlanBuffer): void {
  const [first] = cluster
  if (!first) return
  const arrays = [...new Set(first.inputs.flatMap((input) => arrayOf(input) ?? []))]
  const buffers = arrays.map((array) => {
    if (array === 'temporaries') return builder.joined([...new Set(cluster.flatMap(temporariesOf))], 'what is read together')
    const bytes = first.inputs.reduce((most, input) => (input.kind === 'state' && input.place.shared === array ? input.place.bytes : most), 0)
    return builder.buffer(bytes, 'states', { kind: 'states', shared: array })
  })
  const startOf = (buffer: PlanBuffer | undefined): number => (buffer && builder.parts.get(buffer.id)?.offset) ?? 0
  const rows = cluster.flatMap(({ group, inputs, outputs }) => {
    const starts = [
      ...inputs.flatMap((input) => (input.kind === 'same' ? [] : [input.kind === 'state' ? input.place.offset : startOf(input.buffer)])),
      ...outputs.map(({ result }) => startOf(result.value?.buffer)),
    ]
    const vectors = Math.ceil(sizeOf(group.shape) / 4)
    return range(Math.ceil(vectors / vectorsOfRow)).map((row) => {
      const start = row * vectorsOfRow
      return [Math.min(vectorsOfRow, vectors - start), ...starts.map((bytes) => bytes / 16 + start)]
    })
  })
  const indices = first.inputs.map((input) => {
    const array = arrayOf(input)
    return array === undefined ? undefined : arrays.indexOf(array)
  })
  const kernel = elementwiseOnManyKernel({ group: first.text, arrays: indices, rows: rows.length })
  const same = first.inputs.flatMap((input) => (input.kind === 'same' ? [input.value.buffer] : []))
  builder.dispatch(kernel, [...same, ...buffers, builder.constant('int32', rows.flat()).buffer, results])
}
