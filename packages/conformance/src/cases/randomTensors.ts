// Random tensors for tests: the same for the same seed.

import { fromNumbers, type HostTensor, Random, sizeOf, type StaticShape } from '@dynconv/core'

/** Normal numbers in float32. */
export function randn(shape: StaticShape, seed: number = 1): HostTensor {
  const random = new Random(seed, ...shape)
  return fromNumbers('float32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.normal()))
}

/** Integers in [0, below). */
export function randint(shape: StaticShape, below: number, seed: number = 1): HostTensor {
  const random = new Random(seed, ...shape)
  return fromNumbers('int32', shape, Float64Array.from({ length: sizeOf(shape) }, () => random.int(below)))
}
