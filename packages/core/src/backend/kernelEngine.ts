// What an engine must bring besides kernels to become a backend (kernelBackend.ts), and the count of its tensors.

import type { Capabilities, MemoryReport } from './contract.ts'
import type { KernelTable, StaticType, Supports } from './interpret.ts'
import type { DynamicConvCost } from '../passes/planDynamicConv.ts'
import { bytesPerElement } from '../tensor/dtype.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import { sizeOf } from '../tensor/shape.ts'

/** An engine whose tensors are `T`. */
export interface KernelEngine<T extends object> {
  readonly name: string
  readonly capabilities: Capabilities
  readonly kernels: KernelTable<T>
  /** Refuses instances that a kernel of the table cannot run. */
  readonly supports?: Supports
  readonly dynamicConvCost?: DynamicConvCost
  /** A new tensor with a copy of `value`. */
  readonly upload: (value: HostTensor) => T | Promise<T>
  /** A copy on the host, of exactly this type. */
  readonly download: (value: T, type: StaticType) => HostTensor | Promise<HostTensor>
  /** Frees a tensor; garbage collection does unless given. */
  readonly free?: (value: T) => void
  /** Whether tensors hold more precision than their dtype: states are then rounded to it at the end of each run. */
  readonly wide?: boolean
  /** Frees the engine itself. */
  readonly dispose?: () => void | Promise<void>
}

/** The live tensors of an engine, counted at the size of their dtype. */
export class EngineTensors<T extends object> {
  readonly engine: KernelEngine<T>
  readonly #bytes: Map<T, number> = new Map()
  #liveBytes: number = 0
  #peakBytes: number = 0

  constructor(engine: KernelEngine<T>) {
    this.engine = engine
  }

  /** The count. */
  report(): MemoryReport {
    return { liveTensors: this.#bytes.size, liveBytes: this.#liveBytes, peakBytes: this.#peakBytes }
  }

  /** Counts a new tensor. */
  made(t: T, { dtype, shape }: StaticType): void {
    const bytes = sizeOf(shape) * bytesPerElement(dtype)
    this.#bytes.set(t, bytes)
    this.#liveBytes += bytes
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes)
  }

  /** Frees a tensor; one that is not counted was freed before, along with the engine. */
  free(t: T): void {
    const bytes = this.#bytes.get(t)
    if (bytes === undefined) return
    this.#bytes.delete(t)
    this.#liveBytes -= bytes
    this.engine.free?.(t)
  }

  /** Frees all that is left. */
  freeAll(): void {
    for (const t of this.#bytes.keys()) this.free(t)
  }

  /** A new tensor. */
  async upload({ dtype, shape, data }: HostTensor): Promise<T> {
    const t = await this.engine.upload({ dtype, shape, data })
    this.made(t, { dtype, shape })
    return t
  }

  /** A new tensor with the value of another, rounded to its dtype. */
  async copy(t: T, type: StaticType): Promise<T> {
    return this.upload(await this.engine.download(t, type))
  }
}
