// Host tensors as ONNX Runtime tensors, over the same memory.

import { type DeviceTensor, DisposedError, type DType, type HostTensor, type MemoryLedger, type StaticShape } from '@dynconv/core'
import type { Engine, OrtTensor } from './session.ts'

/** `t` for ONNX Runtime, over the same memory. */
export function toOrt(engine: Engine, t: HostTensor): OrtTensor {
  // Where there is a Float16Array, ONNX Runtime makes one over the same 16-bit words.
  return new engine.ort.Tensor(t.dtype, t.data as Float32Array, t.shape)
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
    if (!this.#value) throw new DisposedError('onnx: this tensor was disposed')
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
