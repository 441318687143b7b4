// Initial values, from a seed, the same on every machine and engine. The defaults are PyTorch's (torch.nn.init;
// nn.Linear and nn.Conv2d `reset_parameters`): weight and bias uniform in +-1/sqrt(fanIn), which is
// kaiming_uniform(a = sqrt 5): bound = gain sqrt(3 / fanIn) with gain = sqrt(2 / (1 + 5)).

import { ValueError } from '../backend/errors.ts'
import { Random } from '../random.ts'
import { fromNumbers, type HostTensor } from '../tensor/hostTensor.ts'
import { type StaticShape, sizeOf } from '../tensor/shape.ts'

/** Where layers take their initial values from: a stream of seeds, one for each tensor, in the order of construction. */
export class Init {
  readonly #seed: number
  #count: number = 0

  constructor(seed: number) {
    if (!Number.isSafeInteger(seed)) throw new ValueError(`init: the seed must be an integer, got ${seed}`)
    this.#seed = seed
  }

  /** The next tensor's own stream of random numbers. */
  next(): Random {
    return new Random(this.#seed, this.#count++)
  }
}

let ambient = new Init(0)

/**
 * Layers built from now on take their initial values from `seed`.
 *
 * @example seed(1); const net = new Sequential(new Linear({ ... }), new Linear({ ... }))
 */
export function seed(value: number): void {
  ambient = new Init(value)
}

/** Runs `build` with initial values from `seed`, and puts back what was before. @example withSeed(1, () => new Net()) */
export function withSeed<T>(value: number, build: () => T): T {
  const outer = ambient
  ambient = new Init(value)
  try {
    return build()
  } finally {
    ambient = outer
  }
}

/** Uniform in [-bound, bound). */
export function uniform(shape: StaticShape, bound: number): HostTensor {
  const random = ambient.next()
  return fill(shape, () => (2 * random.uniform() - 1) * bound)
}

/** Normal with the given deviation. */
export function normal(shape: StaticShape, deviation: number): HostTensor {
  const random = ambient.next()
  return fill(shape, () => random.normal() * deviation)
}

/** PyTorch's default for a layer with `fanIn` inputs to each output. */
export function defaultUniform(shape: StaticShape, fanIn: number): HostTensor {
  return uniform(shape, fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0)
}

/** He et al. 2015 (arXiv:1502.01852), fan-out mode for ReLU: normal with deviation sqrt(2 / fanOut). */
export function kaimingNormal(shape: StaticShape, fanOut: number): HostTensor {
  return normal(shape, Math.sqrt(2 / fanOut))
}

/** All elements `value`. */
export function filled(shape: StaticShape, value: number): HostTensor {
  return fill(shape, () => value)
}

function fill(shape: StaticShape, next: () => number): HostTensor {
  return fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, next))
}
