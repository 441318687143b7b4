// Tensors between host and device. On the device an element takes 4 bytes, or 2 for float16 where the adapter has it
// (wgsl/kernel.ts); buffers are whole words.

import { allocate, type DType, float16Bits, type HostTensor, hostTensor, sizeOf, type StaticShape, toFloat64 } from '@dynconv/core'
import type { Target } from './wgsl/kernel.ts'

type Storage = Pick<Target, 'f16'>

/** Numbers of a dtype. */
export interface Numbers {
  readonly dtype: DType
  readonly shape: StaticShape
  readonly numbers: ArrayLike<number>
}

function bytesOf(array: Float32Array | Int32Array | Uint32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

/** As the device holds them; the length is a multiple of 4. */
export function encode({ dtype, numbers }: Numbers, { f16 }: Storage): Uint8Array {
  if (dtype === 'int32') return bytesOf(Int32Array.from(numbers))
  if (dtype === 'bool') return bytesOf(Uint32Array.from(numbers, (x) => (x ? 1 : 0)))
  if (dtype === 'float32' || !f16) return bytesOf(Float32Array.from(numbers))
  const halves = new Uint16Array(Math.ceil(numbers.length / 2) * 2)
  for (let i = 0; i < numbers.length; i++) halves[i] = float16Bits(numbers[i] ?? 0)
  return bytesOf(halves)
}

/** A host tensor as the device holds it. What needs no conversion is not copied. */
export function encodeTensor(tensor: HostTensor, target: Storage): Uint8Array {
  const { dtype, shape, data } = tensor
  if (data instanceof Float32Array || data instanceof Int32Array) return bytesOf(data)
  if (dtype === 'float16' && target.f16 && data instanceof Uint16Array) {
    const padded = new Uint16Array(Math.ceil(data.length / 2) * 2)
    padded.set(data)
    return bytesOf(padded)
  }
  return encode({ dtype, shape, numbers: toFloat64(tensor) }, target)
}

/** The tensor in bytes that were read back; it owns its memory. */
export function decode(bytes: ArrayBuffer, offset: number, dtype: DType, shape: StaticShape, { f16 }: Storage): HostTensor {
  const count = sizeOf(shape)
  if (dtype === 'float32') return hostTensor('float32', shape, new Float32Array(bytes.slice(offset, offset + count * 4)))
  if (dtype === 'int32') return hostTensor('int32', shape, new Int32Array(bytes.slice(offset, offset + count * 4)))
  if (dtype === 'float16' && f16) return hostTensor('float16', shape, new Uint16Array(bytes.slice(offset, offset + count * 2)))
  if (dtype === 'float16') {
    const data = allocate('float16', count)
    new Float32Array(bytes, offset, count).forEach((x, i) => {
      data[i] = float16Bits(x)
    })
    return hostTensor('float16', shape, data)
  }
  return hostTensor('bool', shape, Uint8Array.from(new Uint32Array(bytes, offset, count)))
}
