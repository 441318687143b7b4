// A GPUDevice that computes nothing and writes down what was asked of it, for tests of call sequences and of everything that
// can go wrong. Buffers have memory, so that uploads, copies and reads give what they should.

/** What a test may set and see. */
export interface Mock {
  readonly device: GPUDevice
  /** Calls in order: `dispatch add 1x1x1`, `submit`, ... */
  readonly calls: string[]
  /** Buffers that were created and not destroyed. */
  readonly live: Set<GPUBuffer>
  /** Called at each dispatch with the pipeline's label and the bound buffers' memory. */
  onDispatch: ((label: string, buffers: readonly Uint8Array[]) => void) | undefined
  /** What the next error scopes of this kind report. */
  scopeError: { readonly filter: GPUErrorFilter; readonly message: string } | undefined
  /** Loses the device. */
  lose(reason: GPUDeviceLostReason, message: string): void
  /** Raises an uncaptured error. */
  raise(message: string): void
  /** The compiler's complaint about every text that holds `text`. */
  refuse: { readonly text: string; readonly line: number; readonly message: string } | undefined
}

/** How a mock differs from the least that WebGPU promises. */
export interface MockOptions {
  readonly limits?: Readonly<Record<string, number>>
  readonly features?: readonly string[]
}

const defaultLimits = {
  maxBufferSize: 268435456,
  maxStorageBufferBindingSize: 134217728,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupsPerDimension: 65535,
}

interface MockBuffer {
  readonly size: number
  readonly memory: Uint8Array
}

/** A device that writes down what is asked of it. */
export function mockDevice(options: MockOptions = {}): Mock {
  const calls: string[] = []
  const live = new Set<GPUBuffer>()
  let lose: Mock['lose'] = () => undefined
  const lost = new Promise<{ reason: GPUDeviceLostReason; message: string }>((resolve) => {
    lose = (reason, message) => resolve({ reason, message })
  })
  let listener: ((event: { error: { message: string } }) => void) | undefined
  const scopes: GPUErrorFilter[] = []
  // Commands run when they are submitted.
  const memoryOf = (buffer: unknown): Uint8Array => (buffer as MockBuffer).memory
  const encoder = () => {
    const commands: (() => void)[] = []
    return {
      clearBuffer: (buffer: unknown) => commands.push(() => (calls.push('clear'), memoryOf(buffer).fill(0))),
      copyBufferToBuffer: (from: unknown, fromAt: number, to: unknown, toAt: number, size: number) =>
        commands.push(() => (calls.push(`copy ${size}`), memoryOf(to).set(memoryOf(from).subarray(fromAt, fromAt + size), toAt))),
      beginComputePass: () => {
        commands.push(() => calls.push('pass'))
        let label = ''
        let buffers: readonly Uint8Array[] = []
        return {
          setPipeline: (pipeline: { label: string }) => (label = pipeline.label),
          setBindGroup: (_index: number, group: { buffers: readonly Uint8Array[] }) => (buffers = group.buffers),
          dispatchWorkgroups: (...groups: readonly number[]) => {
            const [name, bound] = [label, buffers]
            commands.push(() => (calls.push(`dispatch ${name} ${groups.join('x')}`), mock.onDispatch?.(name, bound)))
          },
          end: () => undefined,
        }
      },
      // A clock that advances by 1000 ns a reading.
      resolveQuerySet: (_set: unknown, first: number, count: number, to: unknown, at: number) =>
        commands.push(() => memoryOf(to).set(new Uint8Array(BigUint64Array.from({ length: count }, (_, i) => BigInt((first + i) * 1000)).buffer), at)),
      finish: () => commands,
    }
  }
  const device = {
    limits: { ...defaultLimits, ...options.limits },
    features: new Set(options.features),
    adapterInfo: { vendor: 'mock', architecture: '', device: '', description: '' },
    lost,
    addEventListener: (_type: string, f: typeof listener) => (listener = f),
    pushErrorScope: (filter: GPUErrorFilter) => void scopes.push(filter),
    popErrorScope: async () => {
      const filter = scopes.pop()
      const error = mock.scopeError
      if (!error || error.filter !== filter) return null
      mock.scopeError = undefined
      return { message: error.message }
    },
    createBuffer: ({ size }: { size: number }) => {
      const memory = new Uint8Array(size)
      const buffer = {
        size,
        memory,
        mapAsync: async () => void calls.push('map'),
        getMappedRange: (from: number = 0, bytes: number = size) => memory.buffer.slice(from, from + bytes),
        unmap: () => undefined,
        destroy: () => void live.delete(buffer as unknown as GPUBuffer),
      }
      live.add(buffer as unknown as GPUBuffer)
      return buffer
    },
    createShaderModule: ({ code }: { code: string }) => {
      const refuse = mock.refuse
      const wrong = refuse && code.includes(refuse.text)
      calls.push('shader')
      return { wrong, getCompilationInfo: async () => ({ messages: wrong ? [{ type: 'error', lineNum: refuse.line, message: refuse.message }] : [] }) }
    },
    createComputePipelineAsync: async ({ label, compute }: { label: string; compute: { module: { wrong: boolean } } }) => {
      if (compute.module.wrong) throw new Error('the pipeline is invalid')
      return { label }
    },
    createPipelineLayout: () => ({}),
    createBindGroupLayout: () => ({}),
    createBindGroup: ({ entries }: { entries: readonly { resource: { buffer: unknown; offset: number; size: number } }[] }) => ({
      buffers: entries.map(({ resource: { buffer, offset, size } }) => memoryOf(buffer).subarray(offset, offset + size)),
    }),
    createQuerySet: () => ({ destroy: () => undefined }),
    createCommandEncoder: encoder,
    queue: {
      writeBuffer: (buffer: unknown, at: number, data: ArrayBuffer, from: number, size: number) => {
        calls.push(`write ${size}`)
        memoryOf(buffer).set(new Uint8Array(data, from, size), at)
      },
      submit: (lists: readonly (readonly (() => void)[])[]) => {
        calls.push('submit')
        for (const list of lists) for (const command of list) command()
      },
    },
    destroy: () => lose('destroyed', ''),
  }
  // Boundary: it has what this package uses of a device, and no more.
  const mock: Mock = {
    device: device as unknown as GPUDevice,
    calls,
    live,
    onDispatch: undefined,
    scopeError: undefined,
    refuse: undefined,
    lose: (reason, message) => lose(reason, message),
    raise: (message) => listener?.({ error: { message } }),
  }
  return mock
}
