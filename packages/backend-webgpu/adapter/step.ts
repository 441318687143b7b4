// A training step of dynamic ResNet-20 against forward passes of the ordinary one, on one adapter, interleaved:
//   step.ts [--batch 16] [--rounds 3] [--profile] [--kernels gpu|software]
// Three forward passes are what the products of a step would cost if nothing came on top.

import { parseArgs } from 'node:util'
import { type Backend, compile, crossEntropy, type Executable, fromNumbers, Random, sgd, sizeOf, trainer } from '@dynconv/core'
import { dynamic, resnet20 } from '@dynconv/models'
import { WebGpuExecutable } from '../src/executable.ts'
import { profile, webgpu } from '../src/index.ts'
import { exactClock } from './ceilings.ts'

const { values: options } = parseArgs({
  options: { batch: { type: 'string', default: '16' }, rounds: { type: 'string', default: '3' }, profile: { type: 'boolean', default: false }, kernels: { type: 'string' } },
})
const say = (line: string): boolean => process.stdout.write(`${line}\n`)
const batch = Number(options.batch)
const shape = [batch, 3, 32, 32]
const random = new Random(3)
const images = fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.normal()))
const labels = fromNumbers('int32', [batch], Float64Array.from({ length: batch }, (_, i) => i % 10))

// The backend, keeping the programs that are made and what they were last run on.
const kernels = (['gpu', 'software'] as const).find((kind) => kind === options.kernels)
const backend = await webgpu({ dawnFlags: exactClock, kernels })
const programs: { readonly executable: Executable; inputs: Parameters<Executable['run']>[0] }[] = []
const watched: Backend = {
  name: backend.name,
  capabilities: backend.capabilities,
  supports: (node, graph) => backend.supports(node, graph),
  createState: (initial) => backend.createState(initial),
  upload: (tensor) => backend.upload(tensor),
  memory: () => backend.memory(),
  dispose: () => backend.dispose(),
  compile: async (graph, how) => {
    const executable = await backend.compile(graph, how)
    const program: (typeof programs)[number] = { executable, inputs: [] }
    programs.push(program)
    return {
      graph,
      explain: () => executable.explain(),
      dispose: () => executable.dispose(),
      run: (inputs) => {
        program.inputs = inputs
        return executable.run(inputs)
      },
    }
  },
}

interface Contestant {
  readonly name: string
  readonly run: () => Promise<unknown>
  best: number
}

async function prepared(name: string, run: () => Promise<unknown>): Promise<Contestant> {
  const start = performance.now()
  await run()
  const { executable } = programs.at(-1) ?? {}
  if (!(executable instanceof WebGpuExecutable)) throw new Error('not ours')
  const { dispatches, copies, boundBytes, multiplyAdds } = executable.work()
  say(`${name}: first run ${((performance.now() - start) / 1000).toFixed(1)} s, ${dispatches} dispatches, ${copies} copies, ${(boundBytes / 1e6).toFixed(0)} MB bound, ${(multiplyAdds / 1e6).toFixed(0)} million multiply-adds`)
  return { name, run, best: Number.POSITIVE_INFINITY }
}

say(backend.capabilities.device)
const ordinary = await compile(resnet20({ classes: 10, seed: 1 }), { backend: watched, inputs: [{ shape }] })
const step = { backend: watched, loss: crossEntropy(), optimizer: sgd({ lr: 0.01, momentum: 0.9 }) }
const ordinaryTraining = await trainer(resnet20({ classes: 10, seed: 1 }), step)
const dynamicTraining = await trainer(resnet20({ classes: 10, seed: 1, conv: dynamic({ numBases: 4 }) }), step)
const contestants = [
  await prepared('forward, ordinary', () => ordinary.run([images])),
  await prepared('training step, ordinary', () => ordinaryTraining.step(images, labels)),
  await prepared('training step, dynamic', () => dynamicTraining.step(images, labels)),
]
for (let round = 0; round < Number(options.rounds); round++) {
  for (const each of contestants) {
    const start = performance.now()
    await each.run()
    each.best = Math.min(each.best, performance.now() - start)
  }
}
const [forward] = contestants
for (const { name, best } of contestants) say(`${name}, batch ${batch}: ${best.toFixed(0)} ms, ${(best / (3 * (forward?.best ?? 0))).toFixed(2)} times three forward passes`)
if (options.profile) {
  for (const { executable, inputs } of programs) {
    const times = await profile(executable, inputs)
    const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0)
    say(`\n${total.toFixed(0)} ms by the device's clock`)
    for (const { kernel, dispatches, milliseconds } of times) say(`${milliseconds.toFixed(1).padStart(8)} ms ${String(dispatches).padStart(4)} ${kernel}`)
  }
}
process.exit(0)
