// How long each kernel of a program takes, by the device's own clock.

import { type DeviceTensor, type Executable, GraphError, type HostTensor, UnsupportedOpError } from '@dynconv/core'
import { mapModeRead, usage } from './flags.ts'
import type { Engine } from './engine.ts'

/** The kernels of one name. */
export interface KernelTime {
  readonly kernel: string
  readonly dispatches: number
  readonly milliseconds: number
}

/** Something whose dispatches can be timed. */
export interface Timed {
  /** Runs once with a clock around each dispatch. */
  runTimed(inputs: readonly (HostTensor | DeviceTensor)[], clock: Clock): Promise<void>
}

/**
 * Runs `executable` once (its states take their new values) and says how long its kernels took, slowest first. Browsers
 * round these times, to 0.1 ms as a rule; Dawn to 65.5 us, unless it is started with the flag
 * `disable-dawn-features=timestamp_quantization`. A clock around each dispatch takes some microseconds of its own.
 *
 * @example for (const { kernel, milliseconds } of await profile(f, [x])) console.log(kernel, milliseconds)
 * @throws GraphError for an executable of another backend; UnsupportedOpError where the adapter has no timestamp-query
 */
export async function profile(executable: Executable, inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly KernelTime[]> {
  if (!isTimed(executable)) throw new GraphError('webgpu: profile: the executable was made by another backend')
  const clock = new Clock()
  await executable.runTimed(inputs, clock)
  const byKernel = new Map<string, { dispatches: number; milliseconds: number }>()
  for (const { kernel, milliseconds } of clock.times) {
    const sum = byKernel.get(kernel) ?? { dispatches: 0, milliseconds: 0 }
    byKernel.set(kernel, { dispatches: sum.dispatches + 1, milliseconds: sum.milliseconds + milliseconds })
  }
  return [...byKernel].map(([kernel, sum]) => ({ kernel, ...sum })).sort((a, b) => b.milliseconds - a.milliseconds)
}

function isTimed(executable: Executable): executable is Executable & Timed {
  return 'runTimed' in executable
}

// What a query set holds at most; a dispatch takes two.
const setSize = 4096

/** Gives each dispatch a pass with a clock at both ends. */
export class Clock {
  /** What was measured, in the order of the dispatches. */
  times: readonly { readonly kernel: string; readonly milliseconds: number }[] = []
  readonly #labels: string[] = []
  readonly #sets: GPUQuerySet[] = []

  /** The descriptor of the next dispatch's pass. @throws UnsupportedOpError */
  pass(engine: Engine, label: string): GPUComputePassDescriptor {
    if (!engine.device.features.has('timestamp-query')) {
      throw new UnsupportedOpError({ backend: 'webgpu', op: 'profile', reason: 'the adapter has no timestamp-query' })
    }
    const index = (this.#labels.length * 2) % setSize
    if (index === 0) this.#sets.push(engine.device.createQuerySet({ type: 'timestamp', count: setSize }))
    this.#labels.push(label)
    const querySet = this.#sets.at(-1)
    if (!querySet) throw new GraphError('webgpu: profile: there is no query set')
    return { timestampWrites: { querySet, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 } }
  }

  /** Reads the clocks, once the work is submitted. */
  async read(engine: Engine): Promise<void> {
    const { device } = engine
    const bytes = Math.max(8, this.#sets.length * setSize * 8)
    const resolved = device.createBuffer({ size: bytes, usage: usage.queryResolve | usage.copySource })
    const staging = device.createBuffer({ size: bytes, usage: usage.mapRead | usage.copyTarget })
    try {
      const encoder = device.createCommandEncoder()
      this.#sets.forEach((set, i) => encoder.resolveQuerySet(set, 0, setSize, resolved, i * setSize * 8))
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes)
      device.queue.submit([encoder.finish()])
      await staging.mapAsync(mapModeRead)
      const clocks = new BigUint64Array(staging.getMappedRange().slice(0))
      this.times = this.#labels.map((kernel, i) => {
        const [start = 0n, end = 0n] = [clocks[2 * i], clocks[2 * i + 1]]
        return { kernel, milliseconds: Number(end - start) / 1e6 }
      })
    } finally {
      for (const set of this.#sets) set.destroy()
      resolved.destroy()
      staging.destroy()
    }
  }
}
