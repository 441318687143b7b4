// Tensors and states on the device.

import {
  checkData,
  checkInitial,
  checkTensor,
  type DeviceTensor,
  type DType,
  formatType,
  GraphError,
  type HostTensor,
  Lifetime,
  type OwnStore,
  sizeOf,
  type StateInit,
  stateNamed,
  type StaticShape,
  type StaticType,
} from '@dynconv/core'
import { decode, encodeTensor } from './encode.ts'
import type { Engine } from './engine.ts'
import { alignedBytes, bufferBytes, type StatePlace } from './plan/program.ts'
import { storedBytes } from './wgsl/kernel.ts'

/** Bytes of a tensor's elements, in whole words. */
export function tensorBytes({ dtype, shape }: StaticType, engine: Engine): number {
  return Math.ceil((sizeOf(shape) * storedBytes(dtype, engine.target)) / 4) * 4
}

/** Bytes of a buffer, from `offset` on. */
export interface BufferRange {
  readonly buffer: GPUBuffer
  readonly offset: number
}

/** Puts a tensor into a buffer. */
export function writeTensor(engine: Engine, { buffer, offset }: BufferRange, tensor: HostTensor): void {
  const bytes = encodeTensor(tensor, engine.target)
  if (bytes.byteLength > 0) engine.device.queue.writeBuffer(buffer, offset, bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Reads tensors back with one copy and one wait. */
export async function download(engine: Engine, who: string, list: readonly (StaticType & BufferRange)[]): Promise<readonly HostTensor[]> {
  const sizes = list.map((t) => tensorBytes(t, engine))
  const total = sizes.reduce((a, b) => a + b, 0)
  const staging = engine.staging(Math.max(4, total))
  try {
    const bytes = await engine.guarded(who, () => {
      const encoder = engine.device.createCommandEncoder()
      let end = 0
      list.forEach(({ buffer, offset }, i) => {
        const size = sizes[i] ?? 0
        if (size > 0) encoder.copyBufferToBuffer(buffer, offset, staging, end, size)
        end += size
      })
      engine.device.queue.submit([encoder.finish()])
      return engine.readStaging(staging, Math.max(4, total))
    })
    let offset = 0
    return list.map(({ dtype, shape }, i) => {
      const at = offset
      offset += sizes[i] ?? 0
      return decode(bytes, at, dtype, shape, engine.target)
    })
  } finally {
    engine.free(staging)
  }
}

/** A tensor that the caller holds. */
export class WebGpuTensor implements DeviceTensor {
  readonly backend: string = 'webgpu'
  readonly dtype: DType
  readonly shape: StaticShape
  readonly #engine: Engine
  readonly buffer: GPUBuffer
  readonly #lifetime: Lifetime

  constructor(engine: Engine, tensor: HostTensor) {
    this.dtype = tensor.dtype
    this.shape = tensor.shape
    this.#engine = engine
    checkData('webgpu: upload', tensor)
    this.buffer = engine.storage(bufferBytes(tensor.dtype, sizeOf(tensor.shape), engine.target), `the tensor ${formatType(tensor)}`)
    writeTensor(engine, { buffer: this.buffer, offset: 0 }, tensor)
    this.#lifetime = new Lifetime('webgpu: this tensor', () => engine.free(this.buffer))
  }

  read(): Promise<HostTensor> {
    return this.#lifetime.use(() =>
      this.#engine.enqueue(async () => {
        const [tensor] = await download(this.#engine, 'read', [{ dtype: this.dtype, shape: this.shape, buffer: this.buffer, offset: 0 }])
        if (!tensor) throw new GraphError('webgpu: nothing was read')
        return tensor
      }),
    )
  }

  /** Keeps the buffer while `body` runs. @throws DisposedError */
  use<T>(body: () => Promise<T>): Promise<T> {
    return this.#lifetime.use(body)
  }

  /** Whether it lives on this very device. */
  belongsTo(engine: Engine): boolean {
    return engine === this.#engine
  }

  dispose(): void {
    void this.#lifetime.end()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

interface Slot extends StaticType, BufferRange {
  readonly place: StatePlace
  /** How many values it has had. */
  version: number
}

interface PlacedState extends StateInit {
  /** Bytes of the shared buffer that it takes. */
  readonly offset: number
  readonly end: number
}

// What a buffer that states share may take, also where the adapter's limits are larger: one huge allocation fails where several
// large ones do not.
const maxSharedBytes = 256 * 2 ** 20

// States one after another in as few buffers as that and the adapter's limits allow, in the order given: what belongs together
// lies together.
function sharing({ device: { limits }, target }: Engine, initial: readonly StateInit[]): readonly (readonly PlacedState[])[] {
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize, maxSharedBytes)
  const lists: PlacedState[][] = []
  for (const state of initial) {
    const bytes = bufferBytes(state.data.dtype, sizeOf(state.data.shape), target)
    const offset = alignedBytes(lists.at(-1)?.at(-1)?.end ?? 0)
    if (offset > 0 && offset + bytes <= most) lists.at(-1)?.push({ ...state, offset, end: offset + bytes })
    else lists.push([{ ...state, offset: 0, end: bytes }])
  }
  return lists
}

/** States, in buffers that they share, where programs read and write them. */
export class WebGpuState implements OwnStore {
  readonly names: readonly string[]
  readonly #engine: Engine
  readonly #slots: ReadonlyMap<string, Slot>
  /** The buffers that they share. */
  readonly #shared: readonly GPUBuffer[]
  readonly #lifetime: Lifetime

  constructor(engine: Engine, initial: readonly StateInit[]) {
    checkInitial('webgpu', initial)
    const slots = new Map<string, Slot>()
    const shared: GPUBuffer[] = []
    this.#engine = engine
    this.#slots = slots
    this.#shared = shared
    this.#lifetime = new Lifetime('webgpu: this state store', () => {
      for (const buffer of shared) engine.free(buffer)
    })
    try {
      for (const states of sharing(engine, initial)) {
        const end = states.at(-1)?.end ?? 0
        const buffer = engine.storage(end, states.length === 1 ? `state '${states[0]?.name}'` : 'the states')
        shared.push(buffer)
        for (const { name, data, offset } of states) {
          writeTensor(engine, { buffer, offset }, data)
          slots.set(name, { dtype: data.dtype, shape: data.shape, buffer, offset, place: { shared: shared.length - 1, offset, bytes: end }, version: 0 })
        }
      }
    } catch (error) {
      void this.#lifetime.end()
      throw error
    }
    this.names = [...slots.keys()]
  }

  read(name: string): Promise<HostTensor> {
    return this.use(() => {
      const slot = this.#slot(name)
      return this.#engine.enqueue(async () => {
        const [tensor] = await download(this.#engine, `reading state '${name}'`, [slot])
        if (!tensor) throw new GraphError('webgpu: nothing was read')
        return tensor
      })
    })
  }

  write(name: string, value: HostTensor): Promise<void> {
    return this.use(async () => {
      const slot = this.#slot(name)
      checkTensor(`webgpu: state '${name}'`, slot, value)
      // As it is now: the caller may go on to change it.
      const copy = { ...value, data: value.data.slice() } as HostTensor
      await this.#engine.enqueue(() => this.#engine.guarded(`writing state '${name}'`, () => writeTensor(this.#engine, slot, copy)))
      slot.version += 1
    })
  }

  /** Whether it lives on this very device. */
  belongsTo(engine: Engine): boolean {
    return engine === this.#engine
  }

  /** The bytes of a state. @throws GraphError for an unknown name */
  range(name: string): BufferRange {
    return this.#slot(name)
  }

  /** Where a state stands. @throws GraphError for an unknown name */
  place(name: string): StatePlace {
    return this.#slot(name).place
  }

  /** The buffer of this number that states share. */
  shared(index: number): GPUBuffer | undefined {
    return this.#shared[index]
  }

  /** Says that a state has another value. */
  changed(name: string): void {
    this.#slot(name).version += 1
  }

  /** A number that grows whenever one of these states gets another value. */
  version(names: readonly string[]): number {
    return names.reduce((sum, name) => sum + this.#slot(name).version, 0)
  }

  type(name: string): StaticType {
    this.#lifetime.check()
    return this.#slot(name)
  }

  /** Keeps the buffers while `body` runs. @throws DisposedError */
  use<T>(body: () => Promise<T>): Promise<T> {
    return this.#lifetime.use(body)
  }

  dispose(): void {
    void this.#lifetime.end()
  }

  #slot(name: string): Slot {
    return stateNamed('webgpu', this.#slots, name)
  }
}
