// What an engine computes otherwise than the ops say, found out by trying it once.

import { type Tf, type TfTensor, use } from './tf.ts'

/** Where an engine differs. */
export interface Quirks {
  /** A maximum, a minimum or relu of NaN and a number is the number. */
  readonly losesNaN: boolean
  /** Products of int32s are computed as float64 and lose their low bits. */
  readonly roundsProducts: boolean
}

/** Tries an engine of `tf`. */
export async function probeQuirks(tf: Tf, engine: string): Promise<Quirks> {
  const values = async (make: () => TfTensor): Promise<readonly number[]> => {
    use(tf, engine)
    const t = tf.tidy(make)
    try {
      return [...(await t.data())]
    } finally {
      t.dispose()
    }
  }
  const isNaN = Number.isNaN
  const [left, right] = [
    () => tf.tensor1d([Number.NaN, 1, 1, 1, 1, 1]),
    () => tf.tensor1d([1, Number.NaN, 2, 2, 2, 2]),
  ]
  const larger = await values(() => tf.maximum(left(), right()))
  const smaller = await values(() => tf.minimum(left(), right()))
  const relu = await values(() => tf.relu(left()))
  const [first] = await values(() => tf.max(left()))
  const [second] = await values(() => tf.max(right()))
  const kept = [larger[0], larger[1], smaller[0], smaller[1], relu[0], first, second].every((v) => v !== undefined && isNaN(v))
  const [product] = await values(() => tf.mul(tf.tensor1d([123456789], 'int32'), tf.tensor1d([987654321], 'int32')))
  return { losesNaN: !kept, roundsProducts: product !== Math.imul(123456789, 987654321) }
}
