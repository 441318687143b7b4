// Static against dynamic convolution on one adapter, interleaved: benchmark.ts [BATCHES] [ROUNDS] [SHAPES], `1,8 5 64@56,512@7`.
// Prints the smallest time of each (the machine may be busy), their ratio, first-run times with compilation, dispatches, bytes
// of the buffers that the dispatches bind, and the share of multiply-adds that is not spent on the rims of tiles.

import { conv2d, dynamicConv2d, fromNumbers, type Graph, GraphBuilder, type HostTensor, ops, Random, sizeOf, type StaticShape, type Tensor } from '@dynconv/core'
import { tileFor, forwardAxis } from '../src/kernels/convDirect.ts'
import { webgpu } from '../src/index.ts'
import { lower } from '../src/plan/lower.ts'

const [batches = '1,8', rounds = '5', shapes = '64@56,128@28,256@14,512@7'] = process.argv.slice(2)
const numBases = 4
const say = (line: string): boolean => process.stdout.write(`${line}\n`)

function randn(shape: StaticShape): HostTensor {
  const random = new Random(1, ...shape)
  return fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.normal()))
}

interface Bench {
  readonly name: string
  readonly graph: Graph
  readonly states: readonly { readonly name: string; readonly kind: 'buffer'; readonly data: HostTensor }[]
}

// Everything is state, and one element comes back, so that a run is the work and not the way to the device and back.
function bench(name: string, parts: Readonly<Record<string, StaticShape>>, fn: (...xs: Tensor[]) => Tensor): Bench {
  const b = new GraphBuilder(ops)
  const y = fn(...Object.entries(parts).map(([part, shape]) => b.readState(part, 'buffer', 'float32', shape)))
  b.output('y', y.slice(y.shape.map(() => 0), y.shape.map(() => 1)))
  return { name, graph: b.build(), states: Object.entries(parts).map(([part, shape]) => ({ name: part, kind: 'buffer', data: randn(shape) })) }
}

const backend = await webgpu()
say(backend.capabilities.device)
const target = { f16: false, kind: 'software', tiledMacs: 2 ** 20, maxGroups: 65535, maxBindings: 8 } as const
for (const shape of shapes.split(',')) {
  const [channels = 64, size = 56] = shape.split('@').map(Number)
  for (const batch of batches.split(',').map(Number)) {
    const x = [batch, channels, size, size]
    const kernel = [channels, channels, 3, 3]
    const list = [
      bench('static', { x, w: kernel }, (t, w) => conv2d(t, w, { padding: 1 })),
      bench('dynamic', { x, bases: [numBases, ...kernel], pi: [batch, numBases] }, (t, w, pi) => dynamicConv2d(t, w, pi, { padding: 1, form: 'kernels' })),
    ]
    const running = []
    for (const { name, graph, states } of list) {
      const state = await backend.createState(states)
      const start = performance.now()
      const executable = await backend.compile(graph, { state })
      await executable.run([])
      const { program } = lower(graph, target)
      const bytes = program.steps.reduce((sum, s) => sum + (s.kind === 'dispatch' ? s.buffers.reduce((n, b) => n + b.bytes, 0) : 0), 0)
      running.push({ name, state, executable, firstMs: performance.now() - start, times: [] as number[], dispatches: program.steps.length, megabytes: bytes / 1e6 })
    }
    for (let round = 0; round < Number(rounds); round++) {
      for (const { executable, times } of running) {
        const start = performance.now()
        await executable.run([])
        times.push(performance.now() - start)
      }
    }
    const best = running.map(({ times }) => Math.min(...times))
    const axes = { kernelSize: [3, 3], inSize: [size, size], outSize: [size, size], attrs: { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 }, target, dtype: 'float32', batch, inChannels: channels, outChannels: channels, perSample: false } as const
    const tile = tileFor(forwardAxis(axes, 0), forwardAxis(axes, 1), channels / 4)
    const useful = size ** 2 / (Math.ceil(size / tile.rows) * tile.rows * Math.ceil(size / tile.columns) * tile.columns)
    const gflops = (2 * 9 * batch * channels ** 2 * size ** 2) / 1e6
    running.forEach(({ name, firstMs, dispatches, megabytes }, i) => {
      say(
        `${shape} B${batch} ${name.padEnd(7)} ${best[i]?.toFixed(1)} ms (${(gflops / (best[i] ?? 1)).toFixed(1)} GFLOP/s), first run ${firstMs.toFixed(0)} ms, ` +
          `${dispatches} dispatches, ${megabytes.toFixed(1)} MB bound, ${(useful * 100).toFixed(0)} % useful`,
      )
    })
    say(`${shape} B${batch} dynamic/static ${((best[1] ?? 0) / (best[0] ?? 1)).toFixed(2)}`)
    for (const { state, executable } of running) {
      executable.dispose()
      state.dispose()
    }
  }
}
process.exit(0)
