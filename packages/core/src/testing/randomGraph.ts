// Small random graphs over most of the op set, the same for the same seed: for properties that must hold of every graph
// (a pass changes no result, a backend agrees with the oracle). What they are made of stands in randomRecipes.ts.
//
// Results stay small and far from cliffs: magnitudes are bounded, nothing divides by numbers near 0, and what decides
// (comparisons, argMax, casts to integers) reads only values that no rounding has touched. So float32 and float64 agree to
// ordinary roundings, and graphs contain what passes look for: repeated, idle, constant and dead nodes.

import { gradients } from '../autodiff/gradients.ts'
import type { StateInit } from '../backend/contract.ts'
import { GraphBuilder } from '../graph/builder.ts'
import type { Graph, StateKind } from '../graph/graph.ts'
import { ops } from '../ops/table.ts'
import { Random } from '../random.ts'
import { fromNumbers, type HostTensor } from '../tensor/hostTensor.ts'
import { type Dim, type Shape, sizeOf, type StaticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Item, Kitchen } from './randomKitchen.ts'
import { recipes } from './randomRecipes.ts'

/** What to generate. */
export interface RandomGraphOptions {
  /** The first axis of every input; 2 or 3 unless given. */
  readonly batch?: Dim
  /**
   * Whether nothing is done that needs the batch to be known. Then a graph with a named batch and one with a number there
   * (no size that occurs elsewhere) have the same nodes.
   */
  readonly openBatch?: boolean
  /** Whether gradients by an input and the last parameters come out too: many more nodes, of the ops that only gradients need. */
  readonly gradients?: boolean
}

/** A graph, and what to run it on. */
export interface RandomGraph {
  /** 5 to 30 nodes, gradients apart. */
  readonly graph: Graph
  /** In the graph's order; for a named batch, tensors of batch 2. */
  readonly inputs: readonly HostTensor[]
  readonly states: readonly StateInit[]
}

const largestTensor = 2048

/**
 * The random graph number `seed`.
 *
 * @example const { graph, inputs, states } = randomGraph(7)
 */
export function randomGraph(seed: number, options: RandomGraphOptions = {}): RandomGraph {
  // Streams of their own, so that neither the batch nor the numbers have a say in which nodes there are.
  const random = new Random(seed, 1)
  const weights = new Random(seed, 2)
  const images = new Random(seed, 3)
  const builder = new GraphBuilder(ops)
  const batch = options.batch ?? 2 + random.int(2)
  const pool: Item[] = []
  const inputs: HostTensor[] = []
  const states: StateInit[] = []

  const state = (kind: StateKind, shape: StaticShape, bound: number): Tensor => {
    const name = `${kind}${states.length}`
    states.push({ name, kind, data: uniform(weights, shape, bound) })
    return builder.readState(name, kind, 'float32', shape)
  }
  const input = (rest: StaticShape): void => {
    const t = builder.input(`x${inputs.length}`, 'float32', [batch, ...rest])
    inputs.push(uniform(images, [typeof batch === 'number' ? batch : 2, ...rest], 2))
    pool.push({ t, bound: 2, exact: true })
  }
  const kitchen: Kitchen = {
    random,
    pool,
    state,
    constant: (shape, bound) => at(pool, 0).t.constant(uniform(weights, shape, bound)),
    indices: (shape, below) => at(pool, 0).t.constant(fromNumbers('int32', shape, Array.from({ length: sizeOf(shape) }, () => random.int(below)))),
    isBatch: (d) => (options.openBatch ?? false) && d === batch,
    update: (target, value) => {
      for (const s of states) if (builder.readState(s.name, s.kind, 'float32', s.data.shape) === target) builder.writeState(s.name, s.kind, 'float32', s.data.shape, value)
    },
  }

  const channels = pickFrom(random, [2, 4, 6])
  input([channels, 3 + random.int(4), 3 + random.int(4)])
  if (random.int(2)) input([pickFrom(random, [3, 4, 8])])

  const target = 5 + random.int(16)
  while (builder.nodes.length < target) {
    for (const item of at(recipes, random.int(recipes.length))(kitchen)) {
      if (elements(item.t.shape, kitchen) <= largestTensor) pool.push(calm(item))
    }
  }
  emitOutputs(builder, pool, random)
  if (options.gradients) {
    const parameters = states.filter((s) => s.kind === 'parameter').slice(-3)
    const wrt = [at(pool, 0).t, ...parameters.map((s) => builder.readState(s.name, s.kind, 'float32', s.data.shape))]
    gradients(at(pool, pool.length - 1).t.square().sum(), wrt).forEach((g, i) => builder.output(`dy_d${i}`, g))
  }
  return { graph: builder.build(), inputs, states }
}

function uniform(random: Random, shape: StaticShape, bound: number): HostTensor {
  return fromNumbers('float32', shape, Array.from({ length: sizeOf(shape) }, () => (2 * random.uniform() - 1) * bound))
}

// Squashes what has grown too large for float32 and float64 to stay close.
function calm(item: Item): Item {
  return item.bound <= 64 ? item : { t: item.t.tanh(), bound: 1, exact: false }
}

// The last value and up to two others come out; what nobody needs stays in the graph, dead.
function emitOutputs(builder: GraphBuilder, pool: readonly Item[], random: Random): void {
  const chosen = new Set([at(pool, pool.length - 1).t, at(pool, random.int(pool.length)).t, at(pool, random.int(pool.length)).t])
  let count = 0
  for (const t of chosen) builder.output(`y${count++}`, t)
}

function elements(shape: Shape, kitchen: Kitchen): number {
  return shape.reduce<number>((n, d) => (typeof d === 'number' && !kitchen.isBatch(d) ? n * d : n), 1)
}

function pickFrom<T>(random: Random, list: readonly T[]): T {
  return at(list, random.int(list.length))
}

function at<T>(list: readonly T[], i: number): T {
  const x = list[i]
  if (x === undefined) throw new RangeError(`randomGraph: no element ${i} of ${list.length}`)
  return x
}
