// The suite on an engine with a planted bug: each must be caught, and by nothing but the bug, for the sound engine passes
// the very same cases. These are all cases of the suite's own list.

import { type Backend, type OpAttrs, toFloat64 } from '@dynconv/core'
import { expect, test } from 'vitest'
import { roundTo } from './expect/ulp.ts'
import { formatResult } from './run/report.ts'
import type { Mode } from './run/plan.ts'
import { type Report, runSuite } from './run/suite.ts'
import { floatTarget, type Sabotage, written } from './testing/floatEngine.ts'

interface Bug extends Sabotage {
  readonly name: string
  /** Where to look, for speed. */
  readonly modes: readonly Mode[]
  readonly filters: readonly string[]
}

type Conv = OpAttrs['conv2d']

const bugs: readonly Bug[] = [
  {
    name: 'wrong padding side',
    modes: ['forward'],
    filters: ['conv2d['],
    kernels: (sound) => ({
      conv2d: (attrs, inputs, types) => {
        const [top, bottom, left, right] = attrs.padding
        return sound.conv2d({ ...attrs, padding: [bottom, top, right, left] }, inputs, types)
      },
    }),
  },
  {
    name: 'swapped groups',
    modes: ['forward'],
    filters: ['conv2d['],
    kernels: (sound) => ({
      // The kernels of the groups, from the last to the first.
      conv2d: (attrs, [x, weight, ...bias], types) => {
        if (!x || !weight) throw new RangeError('conv2d needs x and weight')
        const size = weight.data.length / attrs.groups
        const source = toFloat64(weight)
        const swapped = source.map((_, i) => source[(attrs.groups - 1 - Math.floor(i / size)) * size + (i % size)] ?? 0)
        return sound.conv2d(attrs, [x, written(weight, swapped), ...bias], types)
      },
    }),
  },
  {
    name: 'off-by-one tile',
    modes: ['forward'],
    filters: ['add['],
    kernels: (sound) => ({
      // Tiles of 8; in the last one, where it is not full, the last element is forgotten.
      add: async (attrs, inputs, types) => {
        const result = await sound.add(attrs, inputs, types)
        const [y] = Array.isArray(result) ? result : [result]
        if (y && y.data.length % 8) y.data[y.data.length - 1] = 0
        return y
      },
    }),
  },
  {
    name: 'missing dilation in the gradient',
    modes: ['gradient'],
    filters: ['conv2d['],
    kernels: (sound) => ({
      conv2dFilterGrad: (attrs, inputs, types) => sound.conv2dFilterGrad({ ...attrs, dilation: [1, 1] }, inputs, types),
    }),
  },
  {
    name: 'stale buffer',
    modes: ['forward'],
    filters: ['reduceSum['],
    kernels: (sound) => {
      // Sums are added to what the last run of the same shape left behind.
      const pool = new Map<string, Float64Array>()
      return {
        reduceSum: async (attrs, inputs, types) => {
          const result = await sound.reduceSum(attrs, inputs, types)
          const [y] = Array.isArray(result) ? result : [result]
          const key = `${y.dtype} ${y.shape.join()}`
          const old = pool.get(key)
          const sums = toFloat64(y)
          pool.set(key, sums)
          return old ? written(y, sums.map((v, i) => v + (old[i] ?? 0))) : y
        },
      }
    },
  },
  {
    name: 'leaked tensor',
    modes: ['forward'],
    filters: ['constant['],
    // Programs are thrown away, but their constants stay.
    wrap: (backend) => around(backend, { compile: async (...args) => ({ ...bound(await backend.compile(...args)), dispose: () => undefined }) }),
  },
  {
    name: 'f32 accumulate in f16',
    modes: ['forward'],
    filters: ['matmul['],
    kernels: (sound) => ({
      // Where the inputs are float16, so are the partial sums.
      matmul: (attrs, inputs, types) => {
        const [a, b] = inputs
        const [type] = types
        if (a?.dtype !== 'float16' || a.shape.length !== 2 || !b || !type || attrs.transposeA) return sound.matmul(attrs, inputs, types)
        const [x, y] = [toFloat64(a), toFloat64(b)]
        const [rows = 0, columns = 0] = type.shape
        const inner = a.shape[1] ?? 0
        const values = Array.from({ length: rows * columns }, (_, at) => {
          const [i, j] = [Math.floor(at / columns), at % columns]
          let sum = 0
          for (let l = 0; l < inner; l++) sum = roundTo('float16', sum + (x[i * inner + l] ?? 0) * (y[attrs.transposeB ? j * inner + l : l * columns + j] ?? 0))
          return sum
        })
        return written(type, values)
      },
    }),
  },
  {
    name: 'wrong broadcasting',
    modes: ['forward'],
    filters: ['mul['],
    kernels: () => ({
      // Right for a row, a scalar and equal shapes; wrong for a column.
      mul: (_attrs, [a, b], [type]) => {
        if (!a || !b || !type) throw new RangeError('mul needs a, b and the type')
        const [x, y] = [toFloat64(a), toFloat64(b)]
        const length = type.shape.reduce((n, d) => n * d, 1)
        return written(type, Array.from({ length }, (_, i) => (x[i % x.length] ?? 0) * (y[i % y.length] ?? 0)))
      },
    }),
  },
  {
    name: 'NaN swallowed',
    modes: ['forward'],
    filters: ['relu['],
    kernels: () => ({
      relu: (_attrs, [x], [type]) => {
        if (!x || !type) throw new RangeError('relu needs x and the type')
        return written(type, toFloat64(x).map((v) => (v > 0 ? v : 0)))
      },
    }),
  },
  {
    name: 'transposed kernel',
    modes: ['forward'],
    filters: ['conv2d['],
    kernels: (sound) => ({
      conv2d: (attrs: Conv, [x, weight, ...bias], types) => {
        const [, , height = 0, width = 0] = weight?.shape ?? []
        if (!x || !weight || height !== width) return sound.conv2d(attrs, [x, weight, ...bias].filter((t) => t !== undefined), types)
        const source = toFloat64(weight)
        const turned = source.map((_, i) => {
          const [plane, r, s] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width]
          return source[(plane * height + s) * width + r] ?? 0
        })
        return sound.conv2d(attrs, [x, written(weight, turned), ...bias], types)
      },
    }),
  },
  // Beyond the ten: what only sentinels see.
  {
    name: 'stray write behind a result',
    modes: ['forward'],
    filters: ['softmax['],
    kernels: (sound) => ({
      softmax: async (attrs, inputs, types) => {
        const result = await sound.softmax(attrs, inputs, types)
        const [y] = Array.isArray(result) ? result : [result]
        new Uint8Array(y.data.buffer)[y.data.byteOffset + y.data.byteLength] = 0
        return y
      },
    }),
  },
  {
    name: 'an output that the next run overwrites',
    modes: ['forward'],
    filters: ['tanh['],
    wrap: (backend) =>
      around(backend, {
        compile: async (...args) => {
          const executable = await backend.compile(...args)
          let last: readonly { readonly data: { set(from: ArrayLike<number>): void; readonly length: number } }[] | undefined
          return {
            ...bound(executable),
            run: async (inputs) => {
              const outputs = await executable.run(inputs)
              last?.forEach((t) => t.data.set(new Float32Array(t.data.length)))
              last = outputs
              return outputs
            },
          }
        },
      }),
  },
]

// The same object with some methods replaced; methods stay bound to the original.
function around(backend: Backend, replaced: Partial<Backend>): Backend {
  return {
    name: backend.name,
    capabilities: backend.capabilities,
    supports: backend.supports.bind(backend),
    createState: backend.createState.bind(backend),
    compile: backend.compile.bind(backend),
    upload: backend.upload.bind(backend),
    memory: backend.memory.bind(backend),
    dispose: backend.dispose.bind(backend),
    ...replaced,
  }
}

function bound(executable: Awaited<ReturnType<Backend['compile']>>): typeof executable {
  return { graph: executable.graph, run: executable.run.bind(executable), explain: executable.explain.bind(executable), dispose: executable.dispose.bind(executable) }
}

const run = (name: string, bug: Bug, sabotage: Sabotage): Promise<Report> =>
  runSuite({ targets: [floatTarget(name, sabotage)], modes: bug.modes, filters: bug.filters })

test.each(bugs)('$name is caught', async (bug) => {
  const sound = await run('sound', bug, {})
  expect(sound.results.filter((r) => r.status !== 'passed').map(formatResult)).toEqual([])
  expect(sound.passed).toBe(true)
  const broken = await run('broken', bug, bug)
  expect(broken.passed).toBe(false)
  expect(broken.results.filter((r) => r.status === 'failed').length).toBeGreaterThan(0)
  // Most of what the bug does not touch still passes: it is a needle that was found.
  expect(broken.results.length).toBe(sound.results.length)
})
