// A device in use: buffers with their account and limits, pipelines by their text, and everything that can go wrong on a
// GPU turned into errors of whoever asked for the work. One job runs at a time, in the order in which they were asked for.

import { DeviceLostError, DisposedError, MemoryLedger, Queue } from '@dynconv/core'
import { describe, type Device } from './device.ts'
import { mapModeRead, usage } from './flags.ts'
import type { Algorithm } from './plan/choose.ts'
import type { Access, Kernel, Target } from './wgsl/kernel.ts'

/** A compiled kernel. */
export interface Pipeline {
  readonly pipeline: GPUComputePipeline
  readonly layout: GPUBindGroupLayout
}

/** Which kernels to take. */
export interface KernelOptions {
  /**
   * `software` for adapters that run on a processor, `gpu` for graphics cards; by the adapter's name unless given.
   */
  readonly kernels?: Target['kind'] | undefined
  /** Whether invocations of a subgroup may exchange values, where the adapter can; true unless given. */
  readonly subgroups?: boolean | undefined
  /** From how many multiply-adds on a convolution or product gets a tiled kernel; 2^20 unless given. */
  readonly tiledMacs?: number | undefined
  /** How convolutions are computed wherever that is possible; chosen for each unless given. */
  readonly convolutions?: Algorithm | undefined
  /**
   * Whether convolutions that can be computed in several ways are timed in each when they are first compiled, which takes
   * seconds on a software adapter; false unless given.
   */
  readonly probe?: boolean | undefined
  /** What probes have found, by adapter and layer; what they find is added. Save it and give it again: then nothing is timed. */
  readonly tuning?: Map<string, string> | undefined
}

// Below, the dispatch itself takes longer than the work.
const defaultTiledMacs = 2 ** 20

/** The longest text of a shader that an error quotes. */
const quotedLines = 3

/** A device and what was made on it. */
export class Engine {
  readonly device: GPUDevice
  readonly target: Target
  readonly options: KernelOptions
  readonly ledger: MemoryLedger = new MemoryLedger()
  readonly #held: Map<GPUBuffer, () => void> = new Map()
  readonly #info: GPUAdapterInfo
  readonly #pipelines: Map<string, Pipeline> = new Map()
  readonly #layouts: Map<string, GPUBindGroupLayout> = new Map()
  readonly #queue: Queue = new Queue()
  #lost: string | undefined
  #uncaptured: string | undefined
  #disposed: boolean = false

  constructor({ device, info, languageFeatures }: Device, options: KernelOptions = {}) {
    this.device = device
    this.#info = info
    this.target = {
      f16: device.features.has('shader-f16'),
      subgroups: options.subgroups !== false && device.features.has('subgroups') && (languageFeatures?.has('subgroup_id') ?? false),
      kind: options.kernels ?? kindOf(info),
      tiledMacs: options.tiledMacs ?? defaultTiledMacs,
      maxGroups: device.limits.maxComputeWorkgroupsPerDimension,
      maxBindings: device.limits.maxStorageBuffersPerShaderStage,
    }
    this.options = options
    void device.lost.then(({ reason, message }) => {
      this.#lost ??= `${reason === 'destroyed' ? 'it was destroyed' : 'the driver gave it up'}${message ? `: ${message}` : ''}`
    })
    device.addEventListener('uncapturederror', (event) => {
      this.#uncaptured ??= event.error.message
    })
  }

  /** The adapter's name. */
  get adapter(): string {
    return describe(this.#info)
  }

  /** For people. */
  get description(): string {
    const { f16, kind } = this.target
    return `WebGPU (${describe(this.#info)}; ${kind} kernels${f16 ? ', float16' : ''})`
  }

  /** @throws DisposedError, DeviceLostError */
  check(): void {
    if (this.#disposed) throw new DisposedError('webgpu: this backend was disposed')
    if (this.#lost !== undefined) throw new DeviceLostError(`webgpu: the device is lost (${this.#lost}); states read before stay good: make a new backend and write them there`)
  }

  /** Runs `job` after all before it. */
  enqueue<T>(job: () => Promise<T> | T): Promise<T> {
    return this.#queue.run(() => {
      this.check()
      return job()
    })
  }

  /**
   * Does GPU work in `body` and waits for it; what the device finds wrong with it becomes an error. Work that the device
   * refuses has not been done at all.
   *
   * @throws DeviceLostError; RangeError when memory runs out; Error for anything else that the device says
   */
  async guarded<T>(who: string, body: () => Promise<T> | T): Promise<T> {
    const scopes = ['validation', 'out-of-memory', 'internal'] as const
    for (const scope of scopes) this.device.pushErrorScope(scope)
    const work = new Promise<T>((resolve) => {
      resolve(body())
    })
    // Popped in the same turn: scopes surround what body does before it first waits.
    const errors = Promise.all(scopes.map(() => this.device.popErrorScope()))
    const [outcome, [internal, memory, validation]] = await Promise.all([settle(work), settle(errors).then((e) => ('value' in e ? e.value : [null, null, null]))])
    // The loss arrives as an event of its own; give it the turn that it needs.
    await Promise.resolve()
    this.check()
    if (memory) throw new RangeError(`webgpu: ${who}: the device has no memory left: ${memory.message}`)
    const error = validation ?? internal
    if (error) throw new Error(`webgpu: ${who}: ${error.message}`)
    if (this.#uncaptured !== undefined) {
      const message = this.#uncaptured
      this.#uncaptured = undefined
      throw new Error(`webgpu: ${who}: the device reported: ${message}`)
    }
    if ('error' in outcome) throw outcome.error
    return outcome.value
  }

  /** A buffer for kernels. @throws RangeError when the adapter's limits are smaller */
  storage(bytes: number, what: string): GPUBuffer {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.device.limits
    for (const [name, limit] of Object.entries({ maxStorageBufferBindingSize, maxBufferSize })) {
      if (bytes > limit) throw new RangeError(`webgpu: ${what} needs ${bytes} bytes, the adapter's ${name} is ${limit}; use a smaller batch or image`)
    }
    return this.#buffer(bytes, usage.storage | usage.copySource | usage.copyTarget)
  }

  /** A buffer that the host can read. */
  staging(bytes: number): GPUBuffer {
    return this.#buffer(bytes, usage.mapRead | usage.copyTarget)
  }

  #buffer(size: number, flags: number): GPUBuffer {
    const buffer = this.device.createBuffer({ size, usage: flags })
    this.#held.set(buffer, this.ledger.hold(1, size))
    return buffer
  }

  /** Frees a buffer; work that was submitted still ends well. */
  free(buffer: GPUBuffer): void {
    this.#held.get(buffer)?.()
    this.#held.delete(buffer)
    buffer.destroy()
  }

  /** The bytes of a staging buffer, once what was submitted is done. */
  async readStaging(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    try {
      await buffer.mapAsync(mapModeRead, 0, bytes)
    } catch (cause) {
      // A lost device refuses to map before it says that it is lost.
      await Promise.race([this.device.lost, new Promise((resolve) => setTimeout(resolve, lossGraceMs))])
      this.check()
      throw new Error(`webgpu: reading back failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    }
    const copy = buffer.getMappedRange(0, bytes).slice(0)
    buffer.unmap()
    return copy
  }

  /** The pipelines of kernels: each text is compiled once a device. @throws Error with the line of the text that is wrong */
  async pipelines(kernels: readonly Kernel[]): Promise<readonly Pipeline[]> {
    const missing = new Map(kernels.filter((k) => !this.#pipelines.has(k.code)).map((k) => [k.code, k]))
    await this.guarded('compiling', async () => {
      await Promise.all([...missing.values()].map((k) => this.#compile(k)))
    })
    return kernels.map((k) => {
      const pipeline = this.#pipelines.get(k.code)
      if (!pipeline) throw new Error(`webgpu: the pipeline of ${k.label} is missing`)
      return pipeline
    })
  }

  async #compile(kernel: Kernel): Promise<void> {
    for (const count of kernel.groups) {
      if (count > this.target.maxGroups) throw new RangeError(`webgpu: ${kernel.label} needs ${count} workgroups in one dimension, the adapter takes ${this.target.maxGroups}`)
    }
    if (kernel.access.length > this.target.maxBindings) {
      throw new RangeError(`webgpu: ${kernel.label} needs ${kernel.access.length} storage buffers, the adapter's maxStorageBuffersPerShaderStage is ${this.target.maxBindings}`)
    }
    const layout = this.#layout(kernel.access)
    const module = this.device.createShaderModule({ label: kernel.label, code: kernel.code })
    try {
      const pipeline = await this.device.createComputePipelineAsync({
        label: kernel.label,
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: 'main' },
      })
      this.#pipelines.set(kernel.code, { pipeline, layout })
    } catch (cause) {
      throw new Error(`webgpu: the shader of ${kernel.label} does not compile: ${await whatIsWrong(module, kernel.code, cause)}`, { cause })
    }
  }

  #layout(access: readonly Access[]): GPUBindGroupLayout {
    const key = access.join()
    const known = this.#layouts.get(key)
    if (known) return known
    const entries = access.map((a, binding): GPUBindGroupLayoutEntry => ({ binding, visibility: computeStage, buffer: { type: a === 'read' ? 'read-only-storage' : 'storage' } }))
    const layout = this.device.createBindGroupLayout({ entries })
    this.#layouts.set(key, layout)
    return layout
  }

  /** Gives the device back, when everything that was asked for is done. */
  async dispose(): Promise<void> {
    if (this.#disposed) return
    await this.#queue.run(() => {
      this.#disposed = true
      this.#pipelines.clear()
      this.device.destroy()
    })
  }

  /** Whether `dispose` was called. */
  get disposed(): boolean {
    return this.#disposed
  }
}

const lossGraceMs = 1000
// GPUShaderStage.COMPUTE
const computeStage = 4

type Settled<T> = { readonly value: T } | { readonly error: unknown }

function settle<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
}

// The compiler's first complaint with the lines that it is about.
async function whatIsWrong(module: GPUShaderModule, code: string, cause: unknown): Promise<string> {
  const { messages } = await module.getCompilationInfo().catch(() => ({ messages: [] }))
  const [first] = messages.filter((m) => m.type === 'error')
  if (!first) return cause instanceof Error ? cause.message : String(cause)
  const lines = code.split('\n')
  const from = Math.max(0, first.lineNum - quotedLines)
  const quote = lines.slice(from, first.lineNum).map((line, i) => `  ${from + i + 1} | ${line}`)
  return `${first.message} at line ${first.lineNum}:\n${quote.join('\n')}`
}

// Rasterisers that run on a processor.
const softwareNames = /swiftshader|llvmpipe|lavapipe|basic render|warp/i

/** Which kernels suit an adapter. */
export function kindOf(info: Partial<GPUAdapterInfo>): Target['kind'] {
  return softwareNames.test(describe(info)) ? 'software' : 'gpu'
}
