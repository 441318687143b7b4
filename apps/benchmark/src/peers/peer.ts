// What a peer is: other software that does the same work, in the same run, in turn with ours.

import type { Variant } from '../measure.ts'
import type { PeakMemory } from '../memory.ts'
import type { Workload } from '../workloads.ts'

/** A variant in a peer, to be freed after its workload. */
export interface PeerVariant extends Variant {
  /** Seconds from a built network to its first result. */
  readonly firstRunSeconds: number
  /** In a process of its own, where the peer knows how. */
  readonly peakMemory?: () => Promise<PeakMemory>
  readonly free: () => Promise<void>
}

/** Other software. */
export interface Peer {
  /** Whose it is: `PyTorch`. */
  readonly vendor: string
  /** For people: `PyTorch 2.15 (2 threads)`. */
  readonly description: string
  /** The ways in which it can run things; the fastest counts. */
  readonly modes: readonly string[]
  /** Why it has nothing for a whole piece of work; undefined when it has. */
  readonly refuses?: (workload: Workload) => string | undefined
  /** A workload in one mode, run once. @throws Error with the reason when it cannot */
  readonly prepare: (workload: Workload, numBases: number, mode: string) => Promise<PeerVariant>
  /** The most multiply-adds a second that its large products reach. */
  readonly gemmMacsPerSecond?: () => Promise<number>
  readonly stop: () => Promise<void>
}
