// The injected TensorFlow.js and its tensors.

import { float16Value, type HostTensor } from '@dynconv/core'
import type * as TfCore from '@tensorflow/tfjs-core'

/** The module `@tensorflow/tfjs-core`, or any that holds it. */
export type Tf = typeof TfCore
/** A tensor of it. */
export type TfTensor = TfCore.Tensor

/** A new tensor with a copy of `value`; float16, which nothing can be computed with, as float32. */
export function toTf(tf: Tf, { dtype, shape, data }: HostTensor): TfTensor {
  return dtype === 'float16' ? tf.tensor(Float32Array.from(data, float16Value), [...shape], 'float32') : tf.tensor(data.slice(), [...shape], dtype)
}

/**
 * Makes `engine` the one that runs what comes next: others may have switched since. One that has been up before is switched to at
 * once; the promise has nothing left to wait for.
 */
export function use(tf: Tf, engine: string): void {
  if (tf.getBackend() !== engine) void tf.setBackend(engine)
}
