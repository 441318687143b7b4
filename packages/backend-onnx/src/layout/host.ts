// Conv weights between row-major order and the engine's kernel layout (views.ts), on the host: when state is written or
// read. With bi = b where the input channels are blocked, else 1, the element (o' b + o, i' bi + i, tap) of one kernel lies
//
//   row-major   ((o' b + o) I + i' bi + i) taps + tap
//   kernel      (((o' I/bi + i') taps + tap) bi + i) b + o     so that a walk in this order is a walk through memory

import { allocate, formatShape, type HostTensor, hostTensor, ShapeError } from '@dynconv/core'
import { kernelOrder } from './views.ts'

/** `tensor` [.., O, I/g, kh, kw], row-major, in kernel layout. @throws ShapeError where it has none */
export function toKernelLayout(tensor: HostTensor, block: number): HostTensor {
  return reorder(tensor, block, true)
}

/** A tensor in kernel layout, row-major again. @throws ShapeError where it has no such layout */
export function fromKernelLayout(tensor: HostTensor, block: number): HostTensor {
  return reorder(tensor, block, false)
}

function reorder({ dtype, shape, data }: HostTensor, block: number, toKernel: boolean): HostTensor {
  const order = kernelOrder(shape, block)
  if (!order) throw new ShapeError(`onnx: ${formatShape(shape)} has no kernel layout with block ${block}`)
  const [inChannels = 0, kh = 0, kw = 0] = shape.slice(-3)
  const taps = kh * kw
  const blockIn = order === 'io' ? block : 1
  const result = allocate(dtype, data.length)
  // Kernels of leading axes (bases) follow one another: they count as further output channels.
  const channelStride = inChannels * taps
  const outBlocks = channelStride === 0 ? 0 : data.length / (channelStride * block)
  let kernel = 0
  for (let o = 0; o < outBlocks; o++) {
    for (let i = 0; i < inChannels; i += blockIn) {
      for (let tap = 0; tap < taps; tap++) {
        for (let bi = 0; bi < blockIn; bi++) {
          let plain = o * block * channelStride + (i + bi) * taps + tap
          for (let bo = 0; bo < block; bo++, kernel++, plain += channelStride) {
            if (toKernel) result[kernel] = data[plain] ?? 0
            else result[plain] = data[kernel] ?? 0
          }
        }
      }
    }
  }
  return hostTensor(dtype, shape, result)
}
