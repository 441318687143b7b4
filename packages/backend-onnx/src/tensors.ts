// Host tensors <-> ONNX Runtime tensors. On the CPU provider both are memory of this process: a host tensor is fed without a
// copy.

import { type DataOf, type DeviceTensor, DisposedError, type DType, DTypeError, type HostTensor, type MemoryLedger, type StaticShape } from '@dynconv/core'
import type { Engine, OrtTensor } from './session.ts'

/** `t` for ONNX Runtime, over the same memory. */
export function toOrt(engine: Engine, t: HostTensor): OrtTensor {
  // Where there is a Float16Array, ONNX Runtime makes one over the same 16-bit words.
  return new engine.ort.Tensor(t.dtype, t.data as Float32Array, t.shape)
}

const views: { readonly [D in DType]: (data: ArrayBufferView) => DataOf[D] } = {
  float32: (d) => new Float32Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / 4),
  float16: (d) => new Uint16Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / 2),
  int32: (d) => new Int32Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / 4),
  bool: (d) => new Uint8Array(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength),
}

/** A tensor of ONNX Runtime as a host tensor, over the same memory. */
export function fromOrt<D extends DType>(t: OrtTensor, dtype: D, shape: StaticShape): HostTensor<D> {
  if (t.type !== dtype || !ArrayBuffer.isView(t.data)) throw new DTypeError(`onnx: expected ${dtype}, the engine gave ${t.type}`)
  return { dtype, shape, data: views[dtype](t.data) }
}

/** A tensor that stays with the backend. */
export class OnnxTensor implements DeviceTensor {
  readonly backend: string = 'onnx'
  readonly dtype: DType
  readonly shape: StaticShape
  #value: HostTensor | undefined
  readonly #release: () => void

  /** @param value a tensor that nobody else changes */
  constructor(value: HostTensor, ledger: MemoryLedger) {
    this.dtype = value.dtype
    this.shape = value.shape
    this.#value = value
    this.#release = ledger.hold(1, value.data.byteLength)
  }

  /** What it holds. @throws DisposedError */
  get value(): HostTensor {
    if (!this.#value) throw new DisposedError('onnx: this device tensor was disposed')
    return this.#value
  }

  async read(): Promise<HostTensor> {
    const { dtype, shape, data } = this.value
    return { dtype, shape, data: data.slice() }
  }

  dispose(): void {
    this.#value = undefined
    this.#release()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
