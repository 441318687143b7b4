// A trained network as an .onnx file, and whether that computes what the network does: the file is run by ONNX Runtime
// alone, without this project's backend.

import { exportOnnx } from '@dynconv/backend-onnx'
import { type Backend, compile, type HostTensor, hostTensor, type Module, toFloat64 } from '@dynconv/core'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { DataFacts } from './data.ts'

/** Both sides compute in float32, in another order; logits are of the order of 1 to 10. */
const TOLERANCE = 1e-3

/** What pixels / 255 become before they go into the network. */
export function normalisation({ mean, std }: Pick<DataFacts, 'mean' | 'std'>): string {
  return `pixels / 255 normalised with mean [${mean.join(', ')}] and std [${std.join(', ')}]`
}

/**
 * Writes `net` to an .onnx file and compares its outputs for `images` with the network's on `backend`.
 *
 * @returns the largest absolute difference
 * @throws FileError when the file cannot be written; Error where it differs by more than rounding
 */
export async function exportChecked(net: Module, facts: DataFacts, file: string, images: HostTensor<'float32'>, backend: Backend): Promise<number> {
  await exportOnnx(net, file, { input: [null, facts.channels, facts.height, facts.width], classes: facts.classes, doc: normalisation(facts) })
  const compiled = await compile(net, { backend, inputs: [{ shape: images.shape }] })
  try {
    const [ours] = await compiled.run([images])
    const theirs = await runOnnx(file, images)
    const difference = ours ? largestDifference(ours, theirs) : Number.POSITIVE_INFINITY
    if (difference < TOLERANCE) return difference
    throw new Error(`${file} computes something else than its network: outputs differ by up to ${difference}, expected less than ${TOLERANCE}; please report this`)
  } finally {
    compiled.dispose()
  }
}

/** The first output of an .onnx file with one input. */
export async function runOnnx(file: string, images: HostTensor<'float32'>): Promise<HostTensor> {
  const session = await InferenceSession.create(file, { logSeverityLevel: 3 })
  try {
    const [input] = session.inputNames
    const [output] = session.outputNames
    if (input === undefined || output === undefined) throw new Error(`${file}: it has no input or no output`)
    const outputs = await session.run({ [input]: new Tensor('float32', images.data, images.shape) })
    const found = outputs[output]
    if (!(found?.data instanceof Float32Array)) throw new Error(`${file}: its output '${output}' is not float32`)
    return hostTensor('float32', found.dims, found.data)
  } finally {
    await session.release()
  }
}

/** The largest absolute difference of two tensors; infinite for other shapes and where one is no number. */
export function largestDifference(a: HostTensor, b: HostTensor): number {
  if (a.shape.length !== b.shape.length || a.shape.some((d, i) => d !== b.shape[i])) return Number.POSITIVE_INFINITY
  const others = toFloat64(b)
  let largest = 0
  toFloat64(a).forEach((v, i) => {
    const difference = Math.abs(v - (others[i] ?? Number.NaN))
    largest = Math.max(largest, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference)
  })
  return largest
}
