// Sentinels: inputs with known bytes on either side, in memory of their own. An engine that writes past the end of a
// buffer, or into its inputs, is found out.

import { allocate, bytesPerElement, type HostTensor } from '@dynconv/core'

const margin = 64
const pattern = 0xa5

/** A copy of a tensor between sentinels. */
export class GuardedTensor {
  readonly tensor: HostTensor
  readonly #original: HostTensor
  readonly #bytes: Uint8Array

  constructor(original: HostTensor) {
    this.#original = original
    const { dtype, shape, data } = original
    const length = data.length * bytesPerElement(dtype)
    this.#bytes = new Uint8Array(margin + length + margin).fill(pattern)
    const view = viewOf(original, this.#bytes.buffer as ArrayBuffer)
    view.set(data)
    this.tensor = { dtype, shape, data: view }
  }

  /** What was overwritten; undefined: nothing. */
  check(): string | undefined {
    const { data } = this.tensor
    const end = margin + data.byteLength
    if (this.#bytes.some((b, i) => (i < margin || i >= end) && b !== pattern)) return 'the bytes beside it were overwritten'
    return sameBits(this.tensor, this.#original) ? undefined : 'it was changed'
  }
}

function viewOf({ dtype, data }: HostTensor, buffer: ArrayBuffer): HostTensor['data'] {
  const Data = allocate(dtype, 0).constructor as new (buffer: ArrayBuffer, offset: number, length: number) => HostTensor['data']
  return new Data(buffer, margin, data.length)
}

/** Whether two tensors hold the same, NaN for NaN and -0 for -0. */
export function sameBits(a: HostTensor, b: HostTensor): boolean {
  return a.data.length === b.data.length && a.data.every((v: number, i: number) => Object.is(v, b.data[i]))
}
