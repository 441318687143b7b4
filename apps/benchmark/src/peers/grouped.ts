// ONNX Runtime as dynamic convolution is usually written for it: standard operators only, the kernel of each sample by one
// product, then a convolution with one group for each sample, on the engine's own defaults (all of its optimisations).

import { conv2d, convGeometry, DynamicConv2d, type HostTensor, ShapeError, type Tensor } from '@dynconv/core'
import { moduleToOnnx } from '@dynconv/backend-onnx'
import { type ConvFactory, dynamic, ordinary } from '@dynconv/models'
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { randomImages } from '../images.ts'
import { timed } from '../measure.ts'
import { keptNetwork } from '../networks.ts'
import { inputShape, type Workload } from '../workloads.ts'
import type { Peer, PeerVariant } from './peer.ts'

/** A dynamic convolution as one grouped convolution; the batch must be known. */
class GroupedConv2d extends DynamicConv2d {
  override mix(x: Tensor, pi: Tensor): Tensor {
    const [batch, channels, height, width] = x.shape
    const [numBases, outChannels, depth, kh, kw] = this.bases.shape
    if (typeof batch !== 'number' || typeof channels !== 'number' || height === undefined || width === undefined || !numBases || !outChannels || !depth || !kh || !kw) {
      throw new ShapeError('grouped convolution: the batch must be known')
    }
    const { groups = 1 } = this.options
    const kernels = pi.matmul(this.bases.value.reshape([numBases, outChannels * depth * kh * kw])).reshape([batch * outChannels, depth, kh, kw])
    const y = conv2d(x.reshape([1, batch * channels, height, width]), kernels, { ...convGeometry(this.options), groups: batch * groups })
    const [, , rows = 0, columns = 0] = y.shape
    return y.reshape([batch, outChannels, rows, columns])
  }
}

/** Starts it; `vendor` is what reports call it. @throws Error when onnxruntime-node is not installed */
export async function groupedPeer(vendor: string, threads: number): Promise<Peer> {
  const ort = await import('onnxruntime-node')
  return {
    vendor,
    description: `ONNX Runtime ${ort.env.versions.node ?? ''}, standard operators, grouped convolutions (${threads} threads)`,
    modes: ['all optimisations'],
    refuses: ({ task }) => (task === 'infer' ? undefined : 'an exported model only runs inference'),
    async prepare(workload: Workload, numBases: number): Promise<PeerVariant> {
      const images = randomImages(inputShape(workload))
      const model = moduleToOnnx(keptNetwork(workload.net, numBases ? `grouped ${numBases}` : 'static', () => factory(numBases)), { input: images.shape })
      const start = performance.now()
      const session = await ort.InferenceSession.create(model, {
        intraOpNumThreads: threads,
        graphOptimizationLevel: 'all',
        // Threads of an idle session would otherwise spin through everybody else's turns.
        extra: { session: { force_spinning_stop: '1' } },
      })
      const run = runner(session, feeds(ort.Tensor, session, images))
      await run()
      return {
        name: `${vendor} ${numBases ? `dynamic K=${numBases}` : 'static'}`,
        library: vendor,
        vendor,
        numBases,
        firstRunSeconds: (performance.now() - start) / 1e3,
        run: (times) => timed(times, run),
        free: () => session.release(),
      }
    },
    stop: () => Promise.resolve(),
  }
}

// The same sites as ours: those where the usual factory puts a dynamic convolution.
function factory(numBases: number): ConvFactory {
  if (!numBases) return ordinary
  const usual = dynamic({ numBases })
  return (geometry, site) => {
    const layer = usual(geometry, site)
    return layer instanceof DynamicConv2d ? new GroupedConv2d(layer.options) : layer
  }
}

function feeds(make: typeof OrtTensor, session: InferenceSession, images: HostTensor): InferenceSession.FeedsType {
  const [input = 'input'] = session.inputNames
  return { [input]: new make('float32', Float32Array.from(images.data), [...images.shape]) }
}

function runner(session: InferenceSession, feed: InferenceSession.FeedsType): () => Promise<unknown> {
  return () => session.run(feed)
}
