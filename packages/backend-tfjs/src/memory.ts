// The backend's own account of what it holds: device tensors, states, the constants of programs and, op by op, every
// intermediate. What TensorFlow's own allocator holds during a run of a whole program is not in it.

import type { MemoryReport } from '@dynconv/core'

/** Counts live tensors and bytes. */
export class MemoryLedger {
  #tensors: number = 0
  #bytes: number = 0
  #peak: number = 0

  /** Counts `tensors` tensors of `bytes` bytes together, until the function returned is called (once; again is harmless). */
  hold(tensors: number, bytes: number): () => void {
    this.#tensors += tensors
    this.#bytes += bytes
    this.#peak = Math.max(this.#peak, this.#bytes)
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#tensors -= tensors
      this.#bytes -= bytes
    }
  }

  report(): MemoryReport {
    return { liveTensors: this.#tensors, liveBytes: this.#bytes, peakBytes: this.#peak }
  }
}
