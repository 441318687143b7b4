// Conv weights between row-major order and the engine's kernel layout (views.ts), on the host: when state is written or
// read. With bi = b where the input channels are blocked, else 1, the element (o' b + o, i' bi + i, tap) of one kernel lies
//
//   row-major   ((o' b + o) I + i' bi + i) taps + tap
//   kernel      (((o' I/bi + i') taps + tap) bi + i) b + o     so that a walk in this order is a walk through memory
//
// Both keep the b output channels of o' together, so that one such piece after another can be reordered in place.

import { allocate, formatShape, type HostTensor, hostTensor, ShapeError } from '@dynconv/core'
import { kernelOrder } from './views.ts'

/** `tensor` [.., O, I/g, kh, kw], row-major, in kernel layout; in the same memory if told so. @throws ShapeError where it has none */
export function toKernelLayout(tensor: HostTensor, block: number, inPlace: boolean = false): HostTensor {
  return reorder(tensor, block, true, inPlace)
}

/** A tensor in kernel layout, row-major again; in the same memory if told so. @throws ShapeError where it has no such layout */
export function fromKernelLayout(tensor: HostTensor, block: number, inPlace: boolean = false): HostTensor {
  return reorder(tensor, block, false, inPlace)
}

function reorder({ dtype, shape, data }: HostTensor, block: number, toKernel: boolean, inPlace: boolean): HostTensor {
  const order = kernelOrder(shape, block)
  if (!order) throw new ShapeError(`onnx: ${formatShape(shape)} has no kernel layout with block ${block}`)
  const [inChannels = 0, kh = 0, kw = 0] = shape.slice(-3)
  const taps = kh * kw
  const blockIn = order === 'io' ? block : 1
  // Kernels of leading axes (bases) follow one another: they count as further output channels.
  const channelStride = inChannels * taps
  const pieceLength = channelStride * block
  const result = inPlace ? data : allocate(dtype, data.length)
  const piece = allocate(dtype, pieceLength)
  for (let start = 0; start < data.length; start += pieceLength) {
    piece.set(data.subarray(start, start + pieceLength))
    let kernel = 0
    for (let i = 0; i < inChannels; i += blockIn) {
      for (let tap = 0; tap < taps; tap++) {
        for (let bi = 0; bi < blockIn; bi++) {
          let plain = (i + bi) * taps + tap
          for (let bo = 0; bo < block; bo++, kernel++, plain += channelStride) {
            if (toKernel) result[start + kernel] = piece[plain] ?? 0
            else result[start + plain] = piece[kernel] ?? 0
          }
        }
      }
    }
  }
  return hostTensor(dtype, shape, result)
}
