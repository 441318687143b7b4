// A backend's own account of what it holds: device tensors, states, constants of programs. Memory that an engine's own
// allocator takes for the length of a run is not in it.

import type { MemoryReport } from './contract.ts'

/** Counts live tensors and bytes. */
export class MemoryLedger {
  #tensors: number = 0
  #bytes: number = 0
  #peak: number = 0

  /** Counts `tensors` tensors of `bytes` bytes together, until the function returned is called (once; again is harmless). */
  hold(tensors: number, bytes: number): () => void {
    this.#tensors += tensors
    this.#bytes += bytes
    this.touch(0)
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#tensors -= tensors
      this.#bytes -= bytes
    }
  }

  /** Lets the peak know of `bytes` more that live for a moment. */
  touch(bytes: number): void {
    this.#peak = Math.max(this.#peak, this.#bytes + bytes)
  }

  report(): MemoryReport {
    return { liveTensors: this.#tensors, liveBytes: this.#bytes, peakBytes: this.#peak }
  }
}
