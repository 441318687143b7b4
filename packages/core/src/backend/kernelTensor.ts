// A tensor that a kernel backend uploaded and the caller holds.

import type { DeviceTensor } from './contract.ts'
import type { StaticType } from './interpret.ts'
import type { EngineTensors } from './kernelEngine.ts'
import { Lifetime } from './lifetime.ts'
import type { DType } from '../tensor/dtype.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { StaticShape } from '../tensor/shape.ts'

/** A device tensor of a kernel backend. */
export class KernelTensor<T extends object> implements DeviceTensor {
  readonly backend: string
  readonly dtype: DType
  readonly shape: StaticShape
  /** The engine's own tensor. */
  readonly value: T
  readonly #tensors: EngineTensors<T>
  readonly #engine: Lifetime
  readonly #life: Lifetime

  constructor(value: T, type: StaticType, tensors: EngineTensors<T>, engine: Lifetime) {
    this.backend = tensors.engine.name
    this.dtype = type.dtype
    this.shape = type.shape
    this.value = value
    this.#tensors = tensors
    this.#engine = engine
    this.#life = new Lifetime(`${this.backend}: this tensor`, () => tensors.free(value))
  }

  read(): Promise<HostTensor> {
    return this.#engine.use(() => this.#life.use(() => this.#tensors.engine.download(this.value, this)))
  }

  /** Keeps it while `body` runs. @throws DisposedError */
  use<R>(body: () => Promise<R>): Promise<R> {
    return this.#life.use(body)
  }

  /** Whether it lives on the very engine that `tensors` counts. */
  belongsTo(tensors: object): boolean {
    return tensors === this.#tensors
  }

  dispose(): void {
    void this.#life.end()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
