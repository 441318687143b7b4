// The backend's account of the GPU buffers that it holds.

import type { MemoryReport } from '@dynconv/core'

/** Counts live buffers and their bytes. */
export class Ledger {
  #buffers: number = 0
  #bytes: number = 0
  #peak: number = 0

  made(bytes: number): void {
    this.#buffers += 1
    this.#bytes += bytes
    this.#peak = Math.max(this.#peak, this.#bytes)
  }

  freed(bytes: number): void {
    this.#buffers -= 1
    this.#bytes -= bytes
  }

  report(): MemoryReport {
    return { liveTensors: this.#buffers, liveBytes: this.#bytes, peakBytes: this.#peak }
  }
}
