// A tensor that a user uploaded and holds.

import { type DeviceTensor, DisposedError, type DType, type HostTensor, type MemoryLedger, type StaticShape } from '@dynconv/core'
import type { Resident } from './executor.ts'

/** A device tensor. It is freed when it is disposed and no run uses it any more. */
export class TfjsTensor implements DeviceTensor {
  readonly backend: string = 'tfjs'
  readonly dtype: DType
  readonly shape: StaticShape
  /** The executor that made it. */
  readonly owner: object
  readonly #resident: Resident
  readonly #release: () => void
  #users: number = 0
  #disposed: boolean = false

  constructor(resident: Resident, bytes: number, owner: object, ledger: MemoryLedger) {
    this.dtype = resident.dtype
    this.shape = resident.shape
    this.owner = owner
    this.#resident = resident
    this.#release = ledger.hold(1, bytes)
  }

  /** What it holds, alive until `release` is called. @throws DisposedError */
  lease(): { readonly resident: Resident; readonly release: () => void } {
    if (this.#disposed) throw new DisposedError('tfjs: this device tensor was disposed')
    this.#users++
    return {
      resident: this.#resident,
      release: () => {
        this.#users--
        this.#free()
      },
    }
  }

  async read(): Promise<HostTensor> {
    const { resident, release } = this.lease()
    try {
      return await resident.read()
    } finally {
      release()
    }
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#free()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #free(): void {
    if (!this.#disposed || this.#users > 0) return
    this.#resident.free()
    this.#release()
  }
}
