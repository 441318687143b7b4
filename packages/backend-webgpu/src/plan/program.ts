// A program: dispatches over buffers, in order, and where its results stand. The builder appends; which buffers share
// memory is decided afterwards (memory.ts).

import { type DType, sizeOf, type StaticShape } from '@dynconv/core'
import { type Kernel, storedBytes, type Target } from '../wgsl/kernel.ts'
import { denseLayout, type Layout } from '../wgsl/views.ts'

/** Where a buffer comes from. */
export type BufferSource =
  | { readonly kind: 'temporary' }
  | { readonly kind: 'input'; readonly index: number }
  | { readonly kind: 'state'; readonly name: string }
  /** All states of a buffer that they share. */
  | { readonly kind: 'states'; readonly shared: number }
  | { readonly kind: 'constant'; readonly data: Uint8Array }
  | { readonly kind: 'faults' }

/** A buffer of a program. */
export interface PlanBuffer {
  readonly id: number
  readonly bytes: number
  readonly source: BufferSource
  /** For people: `float32[8, 64, 32, 32]`. */
  readonly what: string
}

/** A temporary that is a part of another one: from `offset` (bytes) on. */
export interface Part {
  readonly whole: PlanBuffer
  readonly offset: number
}

/** Parts, by the number of their buffer. */
export type Parts = ReadonlyMap<number, Part>

/** The buffer that a buffer is a part of, or itself. */
export function wholeOf(parts: Parts, buffer: PlanBuffer): PlanBuffer {
  return parts.get(buffer.id)?.whole ?? buffer
}

/** Where a state stands: `offset` bytes into the buffer number `shared`, which has `bytes`. */
export interface StatePlace {
  readonly shared: number
  readonly offset: number
  readonly bytes: number
}

/** A tensor in a buffer. */
export interface Value {
  readonly buffer: PlanBuffer
  readonly dtype: DType
  readonly layout: Layout
}

/** One thing after another. */
export type Step =
  | { readonly kind: 'dispatch'; readonly kernel: Kernel; readonly buffers: readonly PlanBuffer[] }
  | { readonly kind: 'copy'; readonly from: PlanBuffer; readonly to: PlanBuffer; readonly bytes: number }

/** The buffers that a step reads or writes. */
export function touched(step: Step): readonly PlanBuffer[] {
  return step.kind === 'dispatch' ? step.buffers : [step.from, step.to]
}

/** The buffers that a step writes. */
export function written(step: Step): readonly PlanBuffer[] {
  return step.kind === 'dispatch' ? step.buffers.filter((_, i) => step.kernel.access[i] === 'read_write') : [step.to]
}

/** What a kernel may find wrong with the numbers that it gets: an error for whoever ran it. */
export interface Fault {
  /** The message, from the offending number. */
  readonly message: (value: number) => string
}

/** A finished program. */
export interface Program {
  readonly buffers: readonly PlanBuffer[]
  readonly parts: Parts
  readonly steps: readonly Step[]
  /** How many of the steps, the first ones, need not run every time (fixed.ts), and the states that they read. */
  readonly fixedSteps: number
  readonly fixedStates: readonly string[]
  /** Dense tensors. */
  readonly outputs: readonly Value[]
  /** States that take the contents of a buffer when everything has gone well. */
  readonly commits: readonly { readonly state: string; readonly from: PlanBuffer; readonly bytes: number }[]
  /** In the faults buffer: for each, whether it happened (u32) and the number (i32). */
  readonly faults: readonly Fault[]
}

/** Bytes that a buffer for `count` elements takes: whole words, and never none. */
export function bufferBytes(dtype: DType, count: number, target: Pick<Target, 'f16'>): number {
  return Math.max(16, Math.ceil((count * storedBytes(dtype, target)) / 16) * 16)
}

// Where a binding may begin: what every adapter takes.
const bindingAlignment = 256

/** Bytes up to the next place where a binding may begin. */
export function alignedBytes(bytes: number): number {
  return Math.ceil(bytes / bindingAlignment) * bindingAlignment
}

/** Appends to a program. */
export class ProgramBuilder {
  readonly target: Target
  readonly buffers: PlanBuffer[]
  readonly parts: Map<number, Part>
  readonly steps: Step[] = []
  readonly faults: Fault[] = []
  #faultBuffer: PlanBuffer | undefined

  readonly #updated: ReadonlySet<string>
  readonly #written: Map<number, boolean> = new Map()

  /** Begins with no buffers, or goes on from those of a program. */
  constructor(target: Target, updatedStates: ReadonlySet<string> = new Set(), { buffers, parts }: Partial<Pick<Program, 'buffers' | 'parts'>> = {}) {
    this.target = target
    this.buffers = [...(buffers ?? [])]
    this.parts = new Map(parts)
    this.#updated = updatedStates
  }

  /** Whether a buffer, as written until now, is the same in every run (fixed.ts). */
  isFixed({ id, source }: PlanBuffer): boolean {
    if (source.kind === 'state') return !this.#updated.has(source.name)
    return source.kind === 'constant' || (this.#written.get(id) ?? false)
  }

  /** A dense tensor in a buffer of its own. */
  tensor(dtype: DType, shape: StaticShape, source: BufferSource = { kind: 'temporary' }): Value {
    const buffer = this.buffer(bufferBytes(dtype, sizeOf(shape), this.target), `${dtype}[${shape.join(', ')}]`, source)
    return { buffer, dtype, layout: denseLayout(shape) }
  }

  /** A buffer for whatever is put into it, or that is there already. */
  buffer(bytes: number, what: string, source: BufferSource = { kind: 'temporary' }): PlanBuffer {
    const buffer = { id: this.buffers.length, bytes, source, what }
    this.buffers.push(buffer)
    return buffer
  }

  /** A buffer that these become parts of. */
  joined(buffers: readonly PlanBuffer[], what: string): PlanBuffer {
    const whole = this.buffer(
      buffers.reduce((sum, { bytes }) => sum + alignedBytes(bytes), 0),
      what,
    )
    let offset = 0
    for (const { id, bytes } of buffers) {
      this.parts.set(id, { whole, offset })
      offset += alignedBytes(bytes)
    }
    return whole
  }

  /** Numbers known now, as a tensor. */
  constant(dtype: 'float32' | 'int32', numbers: readonly number[]): Value {
    const data = dtype === 'float32' ? Float32Array.from(numbers) : Int32Array.from(numbers)
    return this.tensor(dtype, [numbers.length], { kind: 'constant', data: new Uint8Array(data.buffer) })
  }

  dispatch(kernel: Kernel, buffers: readonly PlanBuffer[]): void {
    if (kernel.groups.includes(0)) return
    this.steps.push({ kind: 'dispatch', kernel, buffers })
    const fixed = buffers.every((buffer, i) => kernel.access[i] === 'read_write' || this.isFixed(buffer))
    buffers.forEach(({ id }, i) => {
      if (kernel.access[i] === 'read_write') this.#written.set(id, fixed && (this.#written.get(id) ?? true))
    })
  }

  copy(from: PlanBuffer, to: PlanBuffer, bytes: number): void {
    this.steps.push({ kind: 'copy', from, to, bytes })
  }

  /** A new fault: the buffer that kernels note it in, and its place there. */
  fault(fault: Fault): { readonly buffer: PlanBuffer; readonly index: number } {
    this.#faultBuffer ??= this.buffer(faultBytes, 'faults', { kind: 'faults' })
    this.faults.push(fault)
    return { buffer: this.#faultBuffer, index: this.faults.length - 1 }
  }
}

// Of up to 512 faults; a program has one for each gather and scatter.
const faultBytes = 4096
/** The most faults of a program. */
export const maxFaults: number = faultBytes / 8
