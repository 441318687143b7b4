// The inputs of measurements.

import { type HostTensor, hostTensor, Random } from '@dynconv/core'

/** Independent normal numbers. */
export function randomImages(shape: readonly number[]): HostTensor {
  const random = new Random(1)
  return hostTensor('float32', shape, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()))
}

/** Class labels [N], each below `classes`. */
export function randomLabels(count: number, classes: number): HostTensor {
  const random = new Random(2)
  return hostTensor('int32', [count], Int32Array.from({ length: count }, () => random.int(classes)))
}
