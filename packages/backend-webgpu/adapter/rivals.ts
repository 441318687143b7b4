// The same convolutions by others on the same adapter, in Node: ONNX Runtime's WebGPU provider, and TensorFlow.js's WebGPU
// backend. Neither has a dynamic convolution: ONNX Runtime gets the usual trick (mix by a product, the batch as groups),
// TensorFlow.js the fastest of what it can do (mix, then a convolution for each sample: it has no groups).

import { exportGraph } from '@dynconv/backend-onnx'
import { conv2d, GraphBuilder, type HostTensor, ops, type Tensor } from '@dynconv/core'
import type * as Tfjs from '@tensorflow/tfjs-core'
import type { InferenceSession } from 'onnxruntime-node'

/** A layer, with the numbers that all compute it on. */
export interface Layer {
  readonly batch: number
  readonly channels: number
  readonly size: number
  readonly numBases: number
  readonly x: HostTensor
  readonly w: HostTensor
  readonly bases: HostTensor
  readonly pi: HostTensor
}

/** Something that runs a layer; `run` gives the first number of the result, once that is on the host. */
export interface Contestant {
  readonly name: string
  readonly run: () => Promise<number>
  readonly dispose: () => Promise<void> | void
}

const corner = (y: Tensor): Tensor => y.slice(y.shape.map(() => 0), y.shape.map(() => 1))

/** ONNX Runtime, static and dynamic. */
export async function onnxRuntime(layer: Layer): Promise<readonly Contestant[]> {
  const ort = await import('onnxruntime-node')
  const { batch, channels, size, numBases, x, w, bases, pi } = layer
  const kernel = [channels, channels, 3, 3]
  const build = (f: (b: GraphBuilder, input: Tensor) => Tensor): ReturnType<GraphBuilder['build']> => {
    const b = new GraphBuilder(ops)
    b.output('y', corner(f(b, b.input('x', 'float32', [batch, channels, size, size]))))
    return b.build()
  }
  const models = [
    { name: 'static', graph: build((b, input) => conv2d(input, b.readState('w', 'buffer', 'float32', kernel), { padding: 1 })) },
    {
      name: 'dynamic (groups)',
      graph: build((b, input) => {
        const mixed = b.input('pi', 'float32', [batch, numBases]).matmul(b.readState('bases', 'buffer', 'float32', [numBases, ...kernel]).reshape([numBases, -1]))
        const weight = mixed.reshape([batch * channels, channels, 3, 3])
        return conv2d(input.reshape([1, batch * channels, size, size]), weight, { padding: 1, groups: batch })
      }),
    },
  ]
  const states = new Map([
    ['w', w],
    ['bases', bases],
  ])
  const tensorOf = ({ data, shape }: HostTensor): InstanceType<typeof ort.Tensor> => new ort.Tensor('float32', Float32Array.from(data), [...shape])
  const feeds = { x: tensorOf(x), pi: tensorOf(pi) }
  const contestants: Contestant[] = []
  for (const { name, graph } of models) {
    const options: InferenceSession.SessionOptions = { executionProviders: ['webgpu'], extra: { session: { force_spinning_stop: '1' } } }
    const session = await ort.InferenceSession.create(exportGraph(graph, states), options)
    contestants.push({
      name: `ONNX Runtime ${name}`,
      run: async () => Number((await session.run(name === 'static' ? { x: feeds.x } : feeds))['y']?.data[0]),
      dispose: () => session.release(),
    })
  }
  return contestants
}

const kept: unknown[] = []

/** TensorFlow.js, started on the GPU object of `webgpu`. Its package finds that on `navigator` only. */
export async function startTfjs(): Promise<typeof Tfjs> {
  const { create, globals } = await import('webgpu')
  Object.assign(globalThis, globals)
  const gpu = create([])
  // It keeps no adapter, and Dawn's must outlive their devices.
  const adapters: (GPUAdapter | null)[] = []
  const requestAdapter = async (options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> => {
    const adapter = await gpu.requestAdapter(options)
    adapters.push(adapter)
    return adapter
  }
  kept.push(gpu, adapters)
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: { requestAdapter }, userAgent: '' }, configurable: true })
  const tf = await import('@tensorflow/tfjs-core')
  await import('@tensorflow/tfjs-backend-webgpu')
  if (!(await tf.setBackend('webgpu'))) throw new Error('TensorFlow.js has no WebGPU backend here')
  await tf.ready()
  return tf
}

/** TensorFlow.js, static and dynamic. Its own layouts: NHWC, kernels [h, w, in, out]. */
export function tensorFlow(tf: typeof Tfjs, layer: Layer): readonly Contestant[] {
  const { batch, numBases, x, w, bases, pi } = layer
  const upload = ({ data, shape }: HostTensor): Tfjs.Tensor => tf.tensor(Float32Array.from(data), [...shape], 'float32')
  // Its functions do not say how many axes come out.
  const turned = (tensor: Tfjs.Tensor, permutation: number[]): Tfjs.Tensor4D => tf.transpose(tensor, permutation) as Tfjs.Tensor4D
  const images = tf.tidy(() => turned(upload(x), [0, 2, 3, 1]))
  const kernel = tf.tidy(() => turned(upload(w), [2, 3, 1, 0]))
  const each = tf.tidy(() => tf.unstack(upload(bases)).map((basis) => turned(basis, [2, 3, 1, 0])))
  const mixture = Array.from({ length: batch }, (_, b) => Array.from({ length: numBases }, (_unused, k) => tf.scalar(pi.data[b * numBases + k] ?? 0)))
  const first = async (f: () => Tfjs.Tensor4D): Promise<number> => {
    const y = tf.tidy(() => tf.slice(f(), [0, 0, 0, 0], [1, 1, 1, 1]))
    const [value = Number.NaN] = await y.data()
    y.dispose()
    return value
  }
  // Scaled bases added up: its matrix product refuses the sizes of 512 channels.
  const mix = (b: number): Tfjs.Tensor4D => {
    const scaled = each.map((basis, k) => tf.mul<Tfjs.Tensor4D>(basis, mixture[b]?.[k] ?? 0))
    return scaled.reduce((sum, term) => tf.add(sum, term))
  }
  const tensors = [images, kernel, ...each, ...mixture.flat()]
  const conv = (image: Tfjs.Tensor4D, weights: Tfjs.Tensor4D): Tfjs.Tensor4D => tf.conv2d<Tfjs.Tensor4D>(image, weights, 1, 'same')
  const dynamic = (): Tfjs.Tensor4D => tf.concat(tf.split<Tfjs.Tensor4D>(images, batch).map((image, b) => conv(image, mix(b))))
  return [
    { name: 'TensorFlow.js static', run: () => first(() => conv(images, kernel)), dispose: () => undefined },
    { name: 'TensorFlow.js dynamic (loop)', run: () => first(dynamic), dispose: () => tf.dispose(tensors) },
  ]
}
