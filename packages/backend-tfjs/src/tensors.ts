// A tensor that a user uploaded and holds.

import { type DeviceTensor, type DType, type HostTensor, Lifetime, type MemoryLedger, type StaticShape } from '@dynconv/core'
import type { Resident } from './executor.ts'

/** A device tensor. It is freed when it is disposed and no run uses it any more. */
export class TfjsTensor implements DeviceTensor {
  readonly backend: string = 'tfjs'
  readonly dtype: DType
  readonly shape: StaticShape
  /** The executor that made it. */
  readonly owner: object
  /** What it holds; alive inside `use`. */
  readonly resident: Resident
  readonly #life: Lifetime

  constructor(resident: Resident, bytes: number, owner: object, ledger: MemoryLedger) {
    this.dtype = resident.dtype
    this.shape = resident.shape
    this.owner = owner
    this.resident = resident
    const release = ledger.hold(1, bytes)
    this.#life = new Lifetime('tfjs: this tensor', () => {
      resident.free()
      release()
    })
  }

  read(): Promise<HostTensor> {
    return this.#life.use(() => this.resident.read())
  }

  /** Keeps it while `body` runs. @throws DisposedError */
  use<R>(body: () => Promise<R>): Promise<R> {
    return this.#life.use(body)
  }

  dispose(): void {
    void this.#life.end()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
