// Random graphs of most of the op set: as they are, after the passes that every user's graph goes through, and with their
// products in float16.

import { castPolicy, optimise, randomGraph } from '@dynconv/core'
import type { Case } from './define.ts'

const count = 60
const halfCount = 15

/** The case of random graph number `seed`. */
export function randomCase(seed: number, kind: 'plain' | 'optimised' | 'float16' = 'plain'): Case {
  return {
    id: `random[seed=${seed}${kind === 'plain' ? '' : ` ${kind}`}]`,
    family: 'random',
    dtype: kind === 'float16' ? 'float16' : 'float32',
    orders: 0,
    differences: false,
    prepared: kind === 'optimised',
    program: () => {
      const { graph, inputs, states } = randomGraph(seed)
      const passed = kind === 'float16' ? castPolicy(optimise(graph), { compute: 'float16' }) : graph
      return { graph: passed, states, runs: [inputs], lowerInputs: 0, by: [] }
    },
  }
}

/** All of them. */
export function randomCases(): readonly Case[] {
  const seeds = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i)
  return [
    ...seeds(count).flatMap((seed) => [randomCase(seed), randomCase(seed, 'optimised')]),
    ...seeds(halfCount).map((seed) => randomCase(1000 + seed, 'float16')),
  ]
}
