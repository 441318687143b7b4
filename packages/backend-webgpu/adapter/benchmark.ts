// Static against dynamic convolution on one adapter, and against others (rivals.ts) in the same run, interleaved:
//   benchmark.ts [--batches 1,8] [--rounds 5] [--shapes 64@56,128@28,256@14,512@7] [--rivals onnx,tfjs] [--kernels gpu] [--convolutions winograd]
// Each layer has a process of its own, since a rival may end it: then the layer is measured again without that one.
// Prints the smallest time of each (the machine may be busy) and the ratios; of ours also the first run with all compilation,
// dispatches, bytes of the buffers that they bind, and how many multiply-adds the kernels do for one that the plain sum needs
// (rims of tiles make it more, Winograd's filtering less). Where the adapter has a clock, also the time of the kernels alone by
// it, and the share in it of the lower bound: the plain sum's multiply-adds, or the reading and writing of x, weights (bases)
// and y once, at what the adapter does at most (ceilings.ts).

import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { conv2d, dynamicConv2d, fromNumbers, GraphBuilder, type HostTensor, ops, Random, sizeOf, type StaticShape } from '@dynconv/core'
import { WebGpuExecutable } from '../src/executable.ts'
import { requestDevice } from '../src/device.ts'
import { kindOf } from '../src/engine.ts'
import { profile, webgpu } from '../src/index.ts'
import { type Ceilings, exactClock, measureCeilings } from './ceilings.ts'
import { type Contestant, type Layer, onnxRuntime, startTfjs, tensorFlow } from './rivals.ts'

const { values: options } = parseArgs({
  options: {
    batches: { type: 'string', default: '1,8' },
    rounds: { type: 'string', default: '5' },
    shapes: { type: 'string', default: '64@56,128@28,256@14,512@7' },
    kernels: { type: 'string' },
    convolutions: { type: 'string' },
    rivals: { type: 'string', default: '' },
    // One layer, in this process.
    here: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const numBases = 4
const rivalNames = options.rivals.split(',')
const say = (line: string): boolean => process.stdout.write(`${line}\n`)
if (options.help) {
  say('benchmark [--batches 1,8] [--rounds 5] [--shapes 64@56,128@28,256@14,512@7] [--rivals onnx,tfjs] [--kernels gpu|software] [--convolutions direct|tiled|winograd]')
  process.exit(0)
}

function randn(shape: StaticShape): HostTensor {
  const random = new Random(1, ...shape)
  return fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.normal()))
}

const kernels = (['gpu', 'software'] as const).find((kind) => kind === options.kernels)
const convolutions = (['direct', 'tiled', 'winograd'] as const).find((algorithm) => algorithm === options.convolutions)
const found = await requestDevice({ dawnFlags: exactClock })
const backend = await webgpu({ kernels, convolutions, device: found.device })
const hasClock = found.device.features.has('timestamp-query')
// What a processor does at most, shaders do not tell.
const ceilings = options.here && hasClock && kindOf(found.info) === 'gpu' ? await measureCeilings(found) : undefined

interface Ours extends Contestant {
  readonly firstMs: number
  readonly details: string
  /** Milliseconds of the kernels by the adapter's clock. */
  readonly byClock: () => Promise<number>
}

// Weights are states, x and pi are inputs that are on the device already, and one element comes back: a run is the work, mixing
// included, and not the way to the device and back.
async function ours(name: 'static' | 'dynamic', layer: Layer): Promise<Ours> {
  const b = new GraphBuilder(ops)
  const input = b.input('x', 'float32', layer.x.shape)
  const data = name === 'static' ? layer.w : layer.bases
  const w = b.readState('w', 'buffer', 'float32', data.shape)
  const y = name === 'static' ? conv2d(input, w, { padding: 1 }) : dynamicConv2d(input, w, b.input('pi', 'float32', layer.pi.shape), { padding: 1, form: 'kernels' })
  b.output('y', y.slice(y.shape.map(() => 0), y.shape.map(() => 1)))
  const state = await backend.createState([{ name: 'w', kind: 'buffer', data }])
  const inputs = await Promise.all((name === 'static' ? [layer.x] : [layer.x, layer.pi]).map((tensor) => backend.upload(tensor)))
  const start = performance.now()
  const executable = await backend.compile(b.build(), { state })
  await executable.run(inputs)
  const firstMs = performance.now() - start
  if (!(executable instanceof WebGpuExecutable)) throw new Error('not ours')
  const { dispatches, boundBytes, multiplyAdds } = executable.work()
  const needed = 9 * layer.batch * layer.channels ** 2 * layer.size ** 2
  return {
    name,
    firstMs,
    details: `first run ${firstMs.toFixed(0)} ms, ${dispatches} dispatches, ${(boundBytes / 1e6).toFixed(1)} MB bound, ${(multiplyAdds / needed).toFixed(2)} multiply-adds for one needed`,
    byClock: async () => (await profile(executable, inputs)).reduce((sum, { milliseconds }) => sum + milliseconds, 0),
    run: async () => Number((await executable.run(inputs))[0]?.data[0]),
    dispose: () => [...inputs, executable, state].forEach((each) => each.dispose()),
  }
}

// Milliseconds that the plain sum takes at least.
function lowerBound(name: string, { batch, channels, size }: Layer, { multiplyAddsPerSecond, bytesPerSecond }: Ceilings): number {
  const kernel = 9 * channels ** 2
  const dynamic = name === 'dynamic'
  const multiplyAdds = batch * kernel * (size ** 2 + (dynamic ? numBases : 0))
  const bytes = 4 * (2 * batch * channels * size ** 2 + kernel * (dynamic ? numBases : 1))
  return 1000 * Math.max(multiplyAdds / multiplyAddsPerSecond, bytes / bytesPerSecond)
}

async function contest(layer: Layer, tf: Awaited<ReturnType<typeof startTfjs>> | undefined): Promise<void> {
  const { batch, channels, size } = layer
  const title = `${channels}@${size} B${batch}`
  const own = [
    await ours('static', layer),
    await ours('dynamic', layer),
  ]
  const rivals = [...(rivalNames.includes('onnx') ? await onnxRuntime(layer) : []), ...(tf ? tensorFlow(tf, layer) : [])]
  const times = new Map<string, number>()
  const values = new Map<string, number>()
  const race = async (list: readonly Contestant[], rounds: number): Promise<void> => {
    for (const { name, run } of list) values.set(name, await run())
    for (let round = 0; round < rounds; round++) {
      for (const { name, run } of list) {
        const start = performance.now()
        await run()
        times.set(name, Math.min(times.get(name) ?? Number.POSITIVE_INFINITY, performance.now() - start))
      }
    }
  }
  // Theirs take seconds a run: fewer rounds of them, with ours in between.
  await race(own, Number(options.rounds))
  if (rivals.length > 0) await race([...rivals, ...own], 2)
  for (const [name, value] of values) {
    const expected = values.get(name.includes('static') ? 'static' : 'dynamic') ?? Number.NaN
    if (!(Math.abs(value - expected) <= 1e-3 * Math.sqrt(9 * channels))) throw new Error(`${title}: ${name} computes ${value}, ours ${expected}`)
  }
  const gigaflop = (2 * 9 * batch * channels ** 2 * size ** 2) / 1e9
  const of = (name: string): number => times.get(name) ?? Number.NaN
  for (const { name, details } of own) say(`${title} ${name.padEnd(7)} ${of(name).toFixed(of(name) < 10 ? 3 : 1)} ms (${((gigaflop / of(name)) * 1000).toFixed(1)} GFLOP/s), ${details}`)
  const clocks = new Map<string, number>()
  if (ceilings) {
    for (let round = 0; round < Number(options.rounds); round++) {
      for (const { name, byClock } of own) clocks.set(name, Math.min(clocks.get(name) ?? Number.POSITIVE_INFINITY, await byClock()))
    }
    for (const [name, ms] of clocks) say(`${title} ${name.padEnd(7)} ${(ms * 1000).toFixed(0)} us by the adapter's clock, ${((100 * lowerBound(name, layer, ceilings)) / ms).toFixed(0)} % of it the lower bound`)
    say(`${title} dynamic/static ${((clocks.get('dynamic') ?? Number.NaN) / (clocks.get('static') ?? Number.NaN)).toFixed(2)} by the adapter's clock`)
  }
  say(`${title} dynamic/static ${(of('dynamic') / of('static')).toFixed(2)}`)
  for (const { name } of rivals) say(`${title} ${name}: ${of(name).toFixed(0)} ms, ${(of(name) / of(name.includes('static') ? 'static' : 'dynamic')).toFixed(1)} times ours`)
  for (const each of [...own, ...rivals]) await each.dispose()
}

async function here(channels: number, size: number, batch: number): Promise<void> {
  const tf = rivalNames.includes('tfjs') ? await startTfjs() : undefined
  const kernel = [channels, channels, 3, 3]
  await contest(
    { batch, channels, size, numBases, x: randn([batch, channels, size, size]), w: randn(kernel), bases: randn([numBases, ...kernel]), pi: randn([batch, numBases]) },
    tf,
  )
}

// A layer in a process of its own; the signal that ended it, if one did.
function apart(shape: string, batch: number, rivals: string): Promise<NodeJS.Signals | undefined> {
  const given = (['rounds', 'kernels', 'convolutions'] as const).flatMap((name) => (options[name] === undefined ? [] : [`--${name}`, options[name]]))
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, '--here', '--shapes', shape, '--batches', String(batch), '--rivals', rivals, ...given], { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => (code ? reject(new Error(`${shape} B${batch}: exit code ${code}`)) : resolve(signal ?? undefined)))
  })
}

const shapes = options.shapes.split(',').map((shape) => {
  const [channels = 64, size = 56] = shape.split('@').map(Number)
  return { shape, channels, size }
})
const batches = options.batches.split(',').map(Number)
if (options.here) {
  if (ceilings) say(`at most ${(ceilings.multiplyAddsPerSecond / 1e12).toFixed(3)} T multiply-adds/s, ${(ceilings.bytesPerSecond / 1e9).toFixed(0)} GB/s`)
  for (const { channels, size } of shapes) for (const batch of batches) await here(channels, size, batch)
} else {
  say(backend.capabilities.device)
  for (const { shape } of shapes) {
    for (const batch of batches) {
      const signal = await apart(shape, batch, options.rivals)
      if (signal === undefined) continue
      if (!rivalNames.includes('onnx')) throw new Error(`${shape} B${batch}: ended by ${signal}`)
      say(`${shape} B${batch} ONNX Runtime: not run, it ends the process (${signal})`)
      const others = rivalNames.filter((name) => name !== 'onnx').join(',')
      const again = await apart(shape, batch, others)
      if (again !== undefined) throw new Error(`${shape} B${batch}: ended by ${again}`)
    }
  }
}
process.exit(0)
