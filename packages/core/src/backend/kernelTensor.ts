// A tensor that a kernel backend uploaded and the caller holds.

import type { DeviceTensor } from './contract.ts'
import { GraphError } from './errors.ts'
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
  readonly #value: T
  readonly #tensors: EngineTensors<T>
  readonly #engine: Lifetime
  readonly #life: Lifetime

  constructor(value: T, type: StaticType, tensors: EngineTensors<T>, engine: Lifetime) {
    this.backend = tensors.engine.name
    this.dtype = type.dtype
    this.shape = type.shape
    this.#value = value
    this.#tensors = tensors
    this.#engine = engine
    this.#life = new Lifetime(`${this.backend}: this tensor`, () => tensors.free(value))
  }

  read(): Promise<HostTensor> {
    return this.#engine.use(() => this.#life.use(() => this.#tensors.engine.download(this.#value, this)))
  }

  /** Runs `body` on the engine's own tensor, which lives until that is done. @throws GraphError for a tensor of another instance */
  use<R>(tensors: EngineTensors<T>, body: (value: T) => Promise<R>): Promise<R> {
    return this.#life.use(() => {
      if (tensors !== this.#tensors) throw new GraphError(`${this.backend}: the tensor belongs to another instance of this backend; read() it first`)
      return body(this.#value)
    })
  }

  dispose(): void {
    void this.#life.end()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
