// Sentinels: tensors with known bytes on either side, in memory of their own. An engine that writes past the end of a
// buffer, or into its inputs, is found out.

import { allocate, bytesPerElement, type DType, type HostTensor, sizeOf, type StaticShape } from '@dynconv/core'

const margin = 64
const pattern = 0xa5

/** A tensor of zeros between sentinels. */
export function guarded(dtype: DType, shape: StaticShape): HostTensor {
  const length = sizeOf(shape)
  const bytes = new Uint8Array(margin + length * bytesPerElement(dtype) + margin).fill(pattern)
  const Data = allocate(dtype, 0).constructor as new (buffer: ArrayBuffer, offset: number, length: number) => HostTensor['data']
  const data = new Data(bytes.buffer, margin, length)
  data.fill(0)
  return { dtype, shape, data }
}

/** A copy of a tensor between sentinels. */
export function guardedCopy(t: HostTensor): HostTensor {
  const copy = guarded(t.dtype, t.shape)
  copy.data.set(t.data)
  return copy
}

/** Whether the sentinels of what `guarded` made are untouched. */
export function isIntact({ data }: HostTensor): boolean {
  const bytes = new Uint8Array(data.buffer)
  const end = data.byteOffset + data.byteLength
  return bytes.every((b, i) => (i >= data.byteOffset && i < end) || b === pattern)
}

/** An input between sentinels, and what it was. */
export class GuardedInput {
  readonly tensor: HostTensor
  readonly #original: HostTensor

  constructor(original: HostTensor) {
    this.tensor = guardedCopy(original)
    this.#original = original
  }

  /** What was overwritten; undefined: nothing. */
  check(): string | undefined {
    if (!isIntact(this.tensor)) return 'the bytes beside it were overwritten'
    return sameBits(this.tensor, this.#original) ? undefined : 'it was changed'
  }
}

/** Whether two tensors hold the same, NaN for NaN and -0 for -0. */
export function sameBits(a: HostTensor, b: HostTensor): boolean {
  return a.data.length === b.data.length && a.data.every((v: number, i: number) => Object.is(v, b.data[i]))
}
