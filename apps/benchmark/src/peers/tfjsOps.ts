// TensorFlow.js by its own operators, as one writes dynamic convolution without this library: the kernels of all samples by
// one product, then tf.conv2d for each sample by itself. On the engine of TensorFlow.js that one of our backends uses in the
// same run, so that both have the same kernels beneath them.

import { createRequire } from 'node:module'
import { tfjs } from '@dynconv/backend-tfjs'
import type * as TfCore from '@tensorflow/tfjs-core'
import { randomImages } from '../images.ts'
import { timed } from '../measure.ts'
import { inputShape, type ChainSpec, type Workload } from '../workloads.ts'
import type { Peer, PeerVariant } from './peer.ts'

type Tf = typeof TfCore
type Layer = (x: TfCore.Tensor4D) => TfCore.Tensor4D

const engines = ['tfjs-node-gpu', 'wasm', 'cpu'] as const

/** An engine of TensorFlow.js that this peer runs on. */
export type TfjsOpsEngine = (typeof engines)[number]

/** The fastest first. */
export const tfjsOpsEngines: readonly TfjsOpsEngine[] = engines

/** Starts it, called `vendor` in reports, on the given engine, or on the first that works. @throws Error with the reasons when none does */
export async function tfjsOpsPeer(vendor: string, asked: TfjsOpsEngine | undefined): Promise<Peer> {
  const refusals: string[] = []
  for (const engine of asked ? [asked] : engines) {
    try {
      return peerOn(vendor, engine, await load(engine))
    } catch (error) {
      refusals.push(`${engine}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  throw new Error(refusals.join('; '))
}

// Our backend loads the engine with the settings that it recommends; here the module that it loaded is looked up.
async function load(engine: TfjsOpsEngine): Promise<Tf> {
  const backend = await tfjs({ engine, executor: 'composed' })
  await backend.dispose()
  const require = createRequire(import.meta.url)
  const tf = (engine === 'tfjs-node-gpu' ? require('@tensorflow/tfjs-node-gpu') : await import('@tensorflow/tfjs-core')) as Tf
  await use(tf, engine)
  return tf
}

// TensorFlow.js has one engine at a time, and another library in this process may have chosen another.
async function use(tf: Tf, engine: TfjsOpsEngine): Promise<void> {
  const name = engine === 'tfjs-node-gpu' ? 'tensorflow' : engine
  if (tf.getBackend() !== name && !(await tf.setBackend(name))) throw new Error(`TensorFlow.js could not start its engine '${name}'`)
}

function peerOn(vendor: string, engine: TfjsOpsEngine, tf: Tf): Peer {
  const library = `${vendor} (${engine})`
  return {
    vendor,
    description: `TensorFlow.js ${tf.version_core}, own operators, ${engine}`,
    modes: [engine],
    refuses: ({ net, task }) => (net.kind === 'chain' && task === 'infer' ? undefined : 'only chains of layers are written in it'),
    async prepare(workload: Workload, numBases: number): Promise<PeerVariant> {
      const { net } = workload
      if (net.kind !== 'chain') throw new Error('only chains of layers are written for it')
      const [batch = 0, channels = 0, height = 0, width = 0] = inputShape(workload)
      await use(tf, engine)
      const images = tf.tensor4d(randomImages([batch, height, width, channels]).data as Float32Array, [batch, height, width, channels])
      const { layers, weights } = numBases ? dynamicLayers(tf, net, batch, numBases) : staticLayers(tf, net)
      const run = async (): Promise<unknown> => {
        const y = tf.tidy(() => tf.mean(layers.reduce((x, layer) => tf.relu(layer(x)), images), [1, 2]))
        const values = await y.data()
        y.dispose()
        return values
      }
      const start = performance.now()
      await run()
      return {
        name: `${library} ${numBases ? `dynamic K=${numBases}` : 'static'}`,
        library,
        vendor,
        numBases,
        firstRunSeconds: (performance.now() - start) / 1e3,
        run: async (times) => {
          await use(tf, engine)
          return timed(times, run)
        },
        free: async () => tf.dispose([images, ...weights]),
      }
    },
    stop: () => Promise.resolve(),
  }
}

interface Layers {
  readonly layers: readonly Layer[]
  readonly weights: readonly TfCore.Tensor[]
}

function staticLayers(tf: Tf, { channels, kernelSize, depthwise, depth }: ChainSpec): Layers {
  const weights = Array.from({ length: depth }, () => tf.randomNormal<TfCore.Rank.R4>([kernelSize, kernelSize, channels, depthwise ? 1 : channels], 0, 0.05))
  return { layers: weights.map((w) => (x) => convolve(tf, x, w, depthwise)), weights }
}

function dynamicLayers(tf: Tf, { channels, kernelSize, depthwise, depth }: ChainSpec, batch: number, numBases: number): Layers {
  const shape: [number, number, number, number] = [kernelSize, kernelSize, channels, depthwise ? 1 : channels]
  const hidden = Math.max(Math.trunc(channels / 4), 4)
  const parts = Array.from({ length: depth }, () => ({
    bases: tf.randomNormal<TfCore.Rank.R2>([numBases, shape.reduce((a, b) => a * b)], 0, 0.05),
    fc1: tf.randomNormal<TfCore.Rank.R2>([channels, hidden], 0, 0.1),
    fc2: tf.randomNormal<TfCore.Rank.R2>([hidden, numBases], 0, 0.1),
  }))
  const layers = parts.map(({ bases, fc1, fc2 }): Layer => (x) => {
    const pooled = tf.mean<TfCore.Tensor2D>(x, [1, 2])
    const pi = tf.softmax(tf.matMul(tf.relu(tf.matMul(pooled, fc1)), fc2))
    const kernels = tf.matMul(pi, bases)
    const outputs = Array.from({ length: batch }, (_, b) => convolve(tf, tf.slice(x, [b, 0, 0, 0], [1, -1, -1, -1]), tf.reshape(tf.slice(kernels, [b, 0], [1, -1]), shape), depthwise))
    return outputs.length === 1 && outputs[0] ? outputs[0] : tf.concat(outputs, 0)
  })
  return { layers, weights: parts.flatMap(({ bases, fc1, fc2 }) => [bases, fc1, fc2]) }
}

function convolve(tf: Tf, x: TfCore.Tensor4D, w: TfCore.Tensor4D, depthwise: boolean): TfCore.Tensor4D {
  return depthwise ? tf.depthwiseConv2d(x, w, 1, 'same') : tf.conv2d(x, w, 1, 'same')
}
