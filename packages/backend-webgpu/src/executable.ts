// A compiled graph: pipelines, buffers and bind groups, all made once. A run writes its inputs, submits one command buffer
// (inputs that are on the device already, the dispatches, the states' new values, the results for the host) and waits for
// the results.
//
// What depends only on states that others change is computed in the first run and after they have changed (plan/fixed.ts).
//
// Where a kernel may find an index out of bounds, the states' new values go into a second command buffer, which is only
// submitted when no index was: a failing run changes no state.

import { checkInputs, type DeviceTensor, type Executable, type Graph, GraphError, type HostTensor, Lifetime, useAll } from '@dynconv/core'
import { decode } from './encode.ts'
import type { Engine, Pipeline } from './engine.ts'
import type { MemoryPlan } from './plan/memory.ts'
import { alignedBytes, type PlanBuffer, type Program, type Step, type Value, wholeOf } from './plan/program.ts'
import type { Clock, Timed } from './profile.ts'
import { type BufferRange, tensorBytes, type WebGpuState, WebGpuTensor, writeTensor } from './tensors.ts'

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
  /** Copies that give states their new values. */
  readonly copies: number
  /** Bytes of all buffers that the dispatches bind. */
  readonly boundBytes: number
  /** Of the kernels that say how many they do: convolutions and products. */
  readonly multiplyAdds: number
}

type Command =
  | { readonly kind: 'dispatch'; readonly label: string; readonly pipeline: GPUComputePipeline; readonly group: GPUBindGroup; readonly groups: readonly [number, number, number] }
  | (Copy & { readonly kind: 'copy' })

interface Copy {
  readonly from: BufferRange
  readonly to: BufferRange
  readonly bytes: number
}

/** The backend's executable. */
export class WebGpuExecutable implements Executable, Timed {
  readonly graph: Graph
  readonly #parts: ExecutableParts
  readonly #buffers: ReadonlyMap<number, BufferRange>
  readonly #commands: readonly Command[]
  /** What gives states their new values. */
  readonly #commits: readonly Copy[]
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
      this.#commits = commitsOf(parts, this.#buffers)
      this.#staging = engine.staging(Math.max(4, stagingBytes(parts)))
      owned.push(this.#staging)
    } catch (error) {
      for (const buffer of owned) engine.free(buffer)
      throw error
    }
    for (const { id, source } of program.buffers) {
      const { buffer, offset } = this.#buffers.get(id) ?? {}
      if (source.kind === 'constant' && buffer && source.data.byteLength > 0) {
        engine.device.queue.writeBuffer(buffer, offset ?? 0, source.data.buffer, source.data.byteOffset, source.data.byteLength)
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
      const checked = checkInputs('webgpu', this.graph, inputs, (t): t is WebGpuTensor => t instanceof WebGpuTensor && t.belongsTo(engine))
      const used = [...(state ? [state] : []), ...checked.filter((t) => t instanceof WebGpuTensor)]
      return useAll(used, () => engine.enqueue(() => this.#run(checked, clock)))
    })
  }

  async #run(inputs: readonly (HostTensor | WebGpuTensor)[], clock: Clock | undefined): Promise<readonly HostTensor[]> {
    const { engine, program, state } = this.#parts
    const { device } = engine
    const version = state?.version(program.fixedStates) ?? 0
    const commands = version === this.#preparedFor ? this.#commands.slice(program.fixedSteps) : this.#commands
    const faults = program.faults.length > 0
    const total = Math.max(4, stagingBytes(this.#parts))
    const bytes = await engine.guarded('run', () => {
      const encoder = device.createCommandEncoder()
      for (const buffer of program.buffers) {
        if (buffer.source.kind === 'faults') encoder.clearBuffer(this.#range(buffer).buffer)
        if (buffer.source.kind !== 'input') continue
        const input = inputs[buffer.source.index]
        if (!input) continue
        const to = this.#range(buffer)
        if ('data' in input) writeTensor(engine, to, input)
        else copy(encoder, { from: { buffer: input.buffer, offset: 0 }, to, bytes: buffer.bytes })
      }
      encodeCommands(encoder, commands, clock && ((label) => clock.pass(engine, label)))
      let offset = 0
      for (const output of program.outputs) {
        const size = tensorBytes({ dtype: output.dtype, shape: output.layout.shape }, engine)
        if (size > 0) copy(encoder, { from: this.#range(output.buffer), to: { buffer: this.#staging, offset }, bytes: size })
        offset += size
      }
      const noted = program.buffers.find((b) => b.source.kind === 'faults')
      if (noted) copy(encoder, { from: this.#range(noted), to: { buffer: this.#staging, offset }, bytes: program.faults.length * 8 })
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
    for (const commit of this.#commits) copy(encoder, commit)
    for (const { state: name } of program.commits) state?.changed(name)
  }

  #checkFaults(bytes: ArrayBuffer): void {
    const { faults } = this.#parts.program
    const words = new Int32Array(bytes, bytes.byteLength - faults.length * 8)
    faults.forEach((fault, i) => {
      if (words[i * 2]) throw new RangeError(`webgpu: ${fault.message(words[i * 2 + 1] ?? 0)}`)
    })
  }

  #range(buffer: PlanBuffer): BufferRange {
    return rangeIn(this.#buffers, buffer)
  }

  /** What a run does when no state has changed: for benchmarks. */
  work(): Work {
    const { program } = this.#parts
    const sum = { dispatches: 0, copies: this.#commits.length, boundBytes: 0, multiplyAdds: 0 }
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

function copy(encoder: GPUCommandEncoder, { from, to, bytes }: Copy): void {
  encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes)
}

// All dispatches in one pass; each in its own where they are timed.
function encodeCommands(encoder: GPUCommandEncoder, commands: readonly Command[], timed: ((label: string) => GPUComputePassDescriptor) | undefined): void {
  let pass: GPUComputePassEncoder | undefined
  for (const command of commands) {
    if (command.kind === 'copy') {
      pass?.end()
      pass = undefined
      copy(encoder, command)
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
function allocateAll({ program, memory, state }: ExecutableParts, own: (bytes: number, what: string) => GPUBuffer): ReadonlyMap<number, BufferRange> {
  const largest = new Map<number, string>()
  for (const { id, bytes, what } of program.buffers) {
    const piece = memory.pieceOf.get(id)
    if (piece !== undefined && memory.pieces[piece] === bytes) largest.set(piece, what)
  }
  const pieces = memory.pieces.map((bytes, i) => own(bytes, `an intermediate ${largest.get(i) ?? ''}`))
  const buffers = new Map<number, BufferRange>()
  const set = (id: number, buffer: GPUBuffer | undefined, offset: number = 0): void => {
    if (buffer) buffers.set(id, { buffer, offset })
  }
  for (const buffer of program.buffers) {
    const { id, bytes, source, what } = buffer
    if (source.kind === 'temporary') set(id, pieces[memory.pieceOf.get(wholeOf(program.parts, buffer).id) ?? -1], program.parts.get(id)?.offset)
    else if (source.kind === 'states') set(id, state?.shared(source.shared))
    else if (source.kind === 'state') {
      if (state) buffers.set(id, state.range(source.name))
    } else set(id, own(bytes, source.kind === 'input' ? `input ${source.index}, ${what},` : what))
  }
  return buffers
}

function rangeIn(buffers: ReadonlyMap<number, BufferRange>, { id }: PlanBuffer): BufferRange {
  const range = buffers.get(id)
  if (!range) throw new GraphError(`webgpu: buffer ${id} was not allocated`)
  return range
}

// One copy for states that follow each other as their new values do. What lies between two of them belongs to nobody.
function commitsOf({ program, state }: ExecutableParts, buffers: ReadonlyMap<number, BufferRange>): readonly Copy[] {
  if (!state) return []
  const commits = program.commits.map(({ state: name, from, bytes }): Copy => ({ from: rangeIn(buffers, from), to: state.range(name), bytes }))
  const joined: Copy[] = []
  for (const commit of commits.sort((a, b) => a.to.offset - b.to.offset)) {
    const before = joined.findIndex(({ from, to, bytes }) => {
      const apart = commit.to.offset - to.offset
      return to.buffer === commit.to.buffer && from.buffer === commit.from.buffer && commit.from.offset - from.offset === apart && apart === alignedBytes(bytes)
    })
    const first = joined[before]
    if (first) joined[before] = { ...first, bytes: commit.to.offset + commit.bytes - first.to.offset }
    else joined.push(commit)
  }
  return joined
}

function commandsOf({ engine, program, pipelines }: ExecutableParts, buffers: ReadonlyMap<number, BufferRange>): readonly Command[] {
  let next = 0
  return program.steps.map((step): Command => {
    if (step.kind === 'copy') return { kind: 'copy', from: rangeIn(buffers, step.from), to: rangeIn(buffers, step.to), bytes: step.bytes }
    const pipeline = pipelines[next++]
    if (!pipeline) throw new GraphError(`webgpu: ${step.kernel.label} has no pipeline`)
    const entries = step.buffers.map((b, binding) => ({ binding, resource: { ...rangeIn(buffers, b), size: b.bytes } }))
    const group = engine.device.createBindGroup({ layout: pipeline.layout, entries })
    return { kind: 'dispatch', label: step.kernel.label, pipeline: pipeline.pipeline, group, groups: step.kernel.groups }
  })
}
