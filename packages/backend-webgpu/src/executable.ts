// A compiled graph: pipelines, buffers and bind groups, all made once. A run writes its inputs, submits one command buffer
// (inputs that are on the device already, the dispatches, the states' new values, the results for the host) and waits for
// the results.
//
// What depends only on states that others change is computed in the first run and after they have changed (plan/fixed.ts).
//
// Where a kernel may find an index out of bounds, the states' new values go into a second command buffer, which is only
// submitted when no index was: a failing run changes no state.

import {
  type DeviceTensor,
  DTypeError,
  type Executable,
  formatShape,
  formatType,
  type Graph,
  GraphError,
  type HostTensor,
  hostTensor,
  Lifetime,
  sameShape,
  ShapeError,
  typeOf,
} from '@dynconv/core'
import { decode } from './encode.ts'
import type { Engine, Pipeline } from './engine.ts'
import type { MemoryPlan } from './plan/memory.ts'
import type { PlanBuffer, Program, Step, Value } from './plan/program.ts'
import type { Clock, Timed } from './profile.ts'
import { tensorBytes, type WebGpuState, WebGpuTensor, writeTensor } from './tensors.ts'

type Input = HostTensor | DeviceTensor

/** What an executable is made of. */
export interface ExecutableParts {
  readonly engine: Engine
  readonly graph: Graph
  readonly program: Program
  readonly memory: MemoryPlan
  readonly pipelines: readonly Pipeline[]
  readonly state: WebGpuState | undefined
  readonly notes: readonly string[]
}

/** The size of a run. */
export interface Work {
  readonly dispatches: number
  /** Bytes of all buffers that the dispatches bind. */
  readonly boundBytes: number
  /** Of the kernels that say how many they do: convolutions and products. */
  readonly multiplyAdds: number
}

type Command =
  | { readonly kind: 'dispatch'; readonly label: string; readonly pipeline: GPUComputePipeline; readonly group: GPUBindGroup; readonly groups: readonly [number, number, number] }
  | { readonly kind: 'copy'; readonly from: GPUBuffer; readonly to: GPUBuffer; readonly bytes: number }

/** The backend's executable. */
export class WebGpuExecutable implements Executable, Timed {
  readonly graph: Graph
  readonly #parts: ExecutableParts
  readonly #buffers: ReadonlyMap<number, GPUBuffer>
  readonly #commands: readonly Command[]
  readonly #staging: GPUBuffer
  readonly #lifetime: Lifetime
  /** The version of the fixed states that the fixed steps were last run for. */
  #preparedFor: number = -1

  constructor(parts: ExecutableParts, onDispose: (executable: WebGpuExecutable) => void) {
    const { engine, program } = parts
    this.graph = parts.graph
    this.#parts = parts
    const owned: GPUBuffer[] = []
    const own = (bytes: number, what: string): GPUBuffer => {
      const buffer = engine.storage(bytes, what)
      owned.push(buffer)
      return buffer
    }
    try {
      this.#buffers = allocateAll(parts, own)
      this.#commands = commandsOf(parts, this.#buffers)
      this.#staging = engine.staging(Math.max(4, stagingBytes(parts)))
      owned.push(this.#staging)
    } catch (error) {
      for (const buffer of owned) engine.free(buffer)
      throw error
    }
    for (const { id, source } of program.buffers) {
      const buffer = this.#buffers.get(id)
      if (source.kind === 'constant' && buffer && source.data.byteLength > 0) {
        engine.device.queue.writeBuffer(buffer, 0, source.data.buffer, source.data.byteOffset, source.data.byteLength)
      }
    }
    this.#lifetime = new Lifetime('webgpu: this executable', () => {
      for (const buffer of owned) engine.free(buffer)
      onDispose(this)
    })
  }

  run(inputs: readonly Input[]): Promise<readonly HostTensor[]> {
    return this.#start(inputs, undefined)
  }

  async runTimed(inputs: readonly Input[], clock: Clock): Promise<void> {
    await this.#start(inputs, clock)
  }

  async #start(inputs: readonly Input[], clock: Clock | undefined): Promise<readonly HostTensor[]> {
    const { engine, state } = this.#parts
    engine.check()
    return this.#lifetime.use(async () => {
      const checked = checkInputs(this.graph, inputs)
      const start = (buffers: readonly (GPUBuffer | HostTensor)[]): Promise<readonly HostTensor[]> => engine.enqueue(() => this.#run(buffers, clock))
      const bound = (): Promise<readonly HostTensor[]> => bind(engine, checked, [], start)
      return state ? state.use(bound) : bound()
    })
  }

  async #run(inputs: readonly (GPUBuffer | HostTensor)[], clock: Clock | undefined): Promise<readonly HostTensor[]> {
    const { engine, program, state } = this.#parts
    const { device } = engine
    const version = state?.version(program.fixedStates) ?? 0
    const commands = version === this.#preparedFor ? this.#commands.slice(program.fixedSteps) : this.#commands
    const faults = program.faults.length > 0
    const total = Math.max(4, stagingBytes(this.#parts))
    const bytes = await engine.guarded('run', () => {
      const encoder = device.createCommandEncoder()
      for (const buffer of program.buffers) {
        if (buffer.source.kind === 'faults') encoder.clearBuffer(this.#buffer(buffer))
        if (buffer.source.kind !== 'input') continue
        const input = inputs[buffer.source.index]
        if (!input) continue
        if ('data' in input) writeTensor(engine, this.#buffer(buffer), input)
        else encoder.copyBufferToBuffer(input, 0, this.#buffer(buffer), 0, buffer.bytes)
      }
      encodeCommands(encoder, commands, clock && ((label) => clock.pass(engine, label)))
      let offset = 0
      for (const output of program.outputs) {
        const size = tensorBytes({ dtype: output.dtype, shape: output.layout.shape }, engine)
        if (size > 0) encoder.copyBufferToBuffer(this.#buffer(output.buffer), 0, this.#staging, offset, size)
        offset += size
      }
      const noted = program.buffers.find((b) => b.source.kind === 'faults')
      if (noted) encoder.copyBufferToBuffer(this.#buffer(noted), 0, this.#staging, offset, program.faults.length * 8)
      if (!faults) this.#commit(encoder)
      device.queue.submit([encoder.finish()])
      return engine.readStaging(this.#staging, total)
    })
    this.#preparedFor = version
    if (faults) {
      this.#checkFaults(bytes)
      await engine.guarded('run', () => {
        const encoder = device.createCommandEncoder()
        this.#commit(encoder)
        device.queue.submit([encoder.finish()])
      })
    }
    await clock?.read(engine)
    let offset = 0
    return program.outputs.map((output) => {
      const at = offset
      offset += tensorBytes({ dtype: output.dtype, shape: output.layout.shape }, engine)
      return decode(bytes, at, output.dtype, output.layout.shape, engine.target)
    })
  }

  // States take their new values.
  #commit(encoder: GPUCommandEncoder): void {
    const { program, state } = this.#parts
    for (const { state: name, from, bytes } of program.commits) {
      if (!state) continue
      encoder.copyBufferToBuffer(this.#buffer(from), 0, state.buffer(name), 0, bytes)
      state.changed(name)
    }
  }

  #checkFaults(bytes: ArrayBuffer): void {
    const { faults } = this.#parts.program
    const words = new Int32Array(bytes, bytes.byteLength - faults.length * 8)
    faults.forEach((fault, i) => {
      if (words[i * 2]) throw new RangeError(`webgpu: ${fault.message(words[i * 2 + 1] ?? 0)}`)
    })
  }

  #buffer({ id }: PlanBuffer): GPUBuffer {
    const buffer = this.#buffers.get(id)
    if (!buffer) throw new GraphError(`webgpu: buffer ${id} was not allocated`)
    return buffer
  }

  /** What a run does when no state has changed: for benchmarks. */
  work(): Work {
    const { program } = this.#parts
    const sum = { dispatches: 0, boundBytes: 0, multiplyAdds: 0 }
    for (const step of program.steps.slice(program.fixedSteps)) {
      if (step.kind !== 'dispatch') continue
      sum.dispatches += 1
      sum.boundBytes += step.buffers.reduce((bytes, buffer) => bytes + buffer.bytes, 0)
      sum.multiplyAdds += step.kernel.multiplyAdds ?? 0
    }
    return sum
  }

  explain(): string {
    const { program, memory, notes } = this.#parts
    const dispatches = (steps: readonly Step[]): number => steps.filter((s) => s.kind === 'dispatch').length
    const once = dispatches(program.steps.slice(0, program.fixedSteps))
    const count = dispatches(program.steps) - once
    const bytes = memory.pieces.reduce((a, b) => a + b, 0)
    const head = `webgpu: ${count} dispatches${once > 0 ? `, ${once} more when states have changed` : ''}, ${bytes} bytes of intermediates in ${memory.pieces.length} buffers (${memory.unsharedBytes} without sharing)`
    return [head, ...notes].join('\n')
  }

  dispose(): void {
    void this.#lifetime.end()
  }
}

// All dispatches in one pass; each in its own where they are timed.
function encodeCommands(encoder: GPUCommandEncoder, commands: readonly Command[], timed: ((label: string) => GPUComputePassDescriptor) | undefined): void {
  let pass: GPUComputePassEncoder | undefined
  for (const command of commands) {
    if (command.kind === 'copy') {
      pass?.end()
      pass = undefined
      encoder.copyBufferToBuffer(command.from, 0, command.to, 0, command.bytes)
      continue
    }
    if (timed) pass?.end()
    pass = timed ? encoder.beginComputePass(timed(command.label)) : (pass ?? encoder.beginComputePass())
    pass.setPipeline(command.pipeline)
    pass.setBindGroup(0, command.group)
    pass.dispatchWorkgroups(...command.groups)
  }
  pass?.end()
}

function stagingBytes({ engine, program }: ExecutableParts): number {
  const outputs = program.outputs.map((o: Value) => tensorBytes({ dtype: o.dtype, shape: o.layout.shape }, engine))
  return outputs.reduce((a, b) => a + b, 0) + program.faults.length * 8
}

// Buffers by their numbers: pieces for temporaries, the store's for states, one each for the rest that is used.
function allocateAll({ program, memory, state }: ExecutableParts, own: (bytes: number, what: string) => GPUBuffer): ReadonlyMap<number, GPUBuffer> {
  const largest = new Map<number, string>()
  for (const { id, bytes, what } of program.buffers) {
    const piece = memory.pieceOf.get(id)
    if (piece !== undefined && memory.pieces[piece] === bytes) largest.set(piece, what)
  }
  const pieces = memory.pieces.map((bytes, i) => own(bytes, `an intermediate ${largest.get(i) ?? ''}`))
  const buffers = new Map<number, GPUBuffer>()
  for (const { id, bytes, source, what } of program.buffers) {
    if (source.kind === 'temporary') {
      const piece = pieces[memory.pieceOf.get(id) ?? -1]
      if (piece) buffers.set(id, piece)
    } else if (source.kind === 'state') {
      if (state) buffers.set(id, state.buffer(source.name))
    } else buffers.set(id, own(bytes, source.kind === 'input' ? `input ${source.index}, ${what},` : what))
  }
  return buffers
}

function commandsOf({ engine, program, pipelines }: ExecutableParts, buffers: ReadonlyMap<number, GPUBuffer>): readonly Command[] {
  const get = ({ id }: PlanBuffer): GPUBuffer => {
    const buffer = buffers.get(id)
    if (!buffer) throw new GraphError(`webgpu: buffer ${id} was not allocated`)
    return buffer
  }
  let next = 0
  return program.steps.map((step): Command => {
    if (step.kind === 'copy') return { kind: 'copy', from: get(step.from), to: get(step.to), bytes: step.bytes }
    const pipeline = pipelines[next++]
    if (!pipeline) throw new GraphError(`webgpu: ${step.kernel.label} has no pipeline`)
    const entries = step.buffers.map((b, binding) => ({ binding, resource: { buffer: get(b) } }))
    const group = engine.device.createBindGroup({ layout: pipeline.layout, entries })
    return { kind: 'dispatch', label: step.kernel.label, pipeline: pipeline.pipeline, group, groups: step.kernel.groups }
  })
}

function checkInputs(graph: Graph, inputs: readonly Input[]): readonly Input[] {
  const { inputs: ports } = graph
  if (inputs.length !== ports.length) {
    const names = ports.map((port) => `'${port.name}'`).join(', ')
    throw new ShapeError(`webgpu: run takes ${ports.length} inputs${names && ` (${names})`}, got ${inputs.length}`)
  }
  return ports.flatMap((port, i) => {
    const wanted = typeOf(graph, port.value)
    const given = inputs[i]
    if (!given) throw new ShapeError(`webgpu: input '${port.name}' is missing`)
    const what = `webgpu: input '${port.name}' must be ${formatType(wanted)}`
    if (given.dtype !== wanted.dtype) throw new DTypeError(`${what}, got ${given.dtype}`)
    if (!sameShape(given.shape, wanted.shape)) throw new ShapeError(`${what}, got ${formatShape(given.shape)}`)
    return ['data' in given ? hostTensor(given.dtype, given.shape, given.data) : given]
  })
}

// Device tensors as their buffers, kept alive through the run.
function bind(
  engine: Engine,
  [input, ...rest]: readonly Input[],
  bound: readonly (GPUBuffer | HostTensor)[],
  start: (bound: readonly (GPUBuffer | HostTensor)[]) => Promise<readonly HostTensor[]>,
): Promise<readonly HostTensor[]> {
  if (!input) return start(bound)
  if (input instanceof WebGpuTensor) return input.use(engine, (buffer) => bind(engine, rest, [...bound, buffer], start))
  if (!('data' in input)) throw new GraphError(`webgpu: input ${bound.length} is a tensor of ${input.backend}; read() it first, or upload() it here`)
  return bind(engine, rest, [...bound, input], start)
}
