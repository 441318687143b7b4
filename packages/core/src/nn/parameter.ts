// What a module keeps across runs. Reading `value` inside a trace reads a state of the graph; assigning it writes one.

import { currentScope, type StateSource } from '../graph/scope.ts'
import { ValueError } from '../backend/errors.ts'
import { copyHostTensor, type HostTensor } from '../tensor/hostTensor.ts'
import { formatShape, sameShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

abstract class State implements StateSource {
  abstract readonly kind: 'parameter' | 'buffer'
  #data: HostTensor

  constructor(data: HostTensor) {
    this.#data = data
  }

  /** The value on the host: the start of a run, and what was last read back from a device. */
  get data(): HostTensor {
    return this.#data
  }

  set data(data: HostTensor) {
    if (data.dtype !== this.#data.dtype || !sameShape(data.shape, this.#data.shape)) {
      throw new ValueError(`parameter: holds ${this.#data.dtype}${formatShape(this.#data.shape)}, cannot take ${data.dtype}${formatShape(data.shape)}`)
    }
    this.#data = data
  }

  /** The value in the running trace: the last one assigned there, or else the one at the start of the run. */
  get value(): Tensor {
    return currentScope('parameter').read(this)
  }

  set value(value: Tensor) {
    currentScope('parameter').write(this, value)
  }

  /** The shape, all sizes known. */
  get shape(): readonly number[] {
    return this.#data.shape
  }
}

/** A trained tensor of a module. */
export class Parameter extends State {
  readonly kind = 'parameter' as const
  /** Whether the optimizer trains it; `trainer` looks at it when it is called. */
  trainable: boolean

  constructor(data: HostTensor, options: { readonly trainable?: boolean } = {}) {
    super(copyHostTensor(data))
    this.trainable = options.trainable ?? true
  }
}

/** A tensor that a module keeps but no gradient trains: running statistics, a temperature. It is saved in checkpoints. */
export class Buffer extends State {
  readonly kind = 'buffer' as const

  constructor(data: HostTensor) {
    super(copyHostTensor(data))
  }
}
