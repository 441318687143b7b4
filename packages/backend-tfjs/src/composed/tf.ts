// The injected TensorFlow.js and its tensors.

import type { HostTensor } from '@dynconv/core'
import type * as TfCore from '@tensorflow/tfjs-core'

/** The module `@tensorflow/tfjs-core`, or any that holds it. */
export type Tf = typeof TfCore
/** A tensor of it. */
export type TfTensor = TfCore.Tensor

/** A new tensor with a copy of `value` (float16 is refused before). */
export function toTf(tf: Tf, { dtype, shape, data }: HostTensor): TfTensor {
  return tf.tensor(data.slice(), [...shape], dtype === 'float16' ? 'float32' : dtype)
}
