// The first batches of the embedded images, and the losses that ONNX Runtime comes to on them. Node only.

import { onnx } from '@dynconv/backend-onnx'
import { loader } from '@dynconv/datasets'
import { embeddedFashion } from '@dynconv/datasets/node'
import { losses, type TrainingData } from './training.ts'

const batchSize = 16
const steps = 8

/** The data, normalised as the quickstart does it. */
export async function trainingData(): Promise<TrainingData> {
  const { train } = await embeddedFashion()
  const epoch = loader(train, { batchSize, shuffle: 1 })
  const batches = Array.from({ length: steps }, (_, i) => {
    const { images, labels } = epoch.batch(i)
    return { images: [...images.data], labels: [...labels.data] }
  })
  return { batchSize, batches }
}

/** ONNX Runtime's losses. */
export async function referenceLosses(data: TrainingData): Promise<readonly number[]> {
  const backend = await onnx({ threads: 1 })
  try {
    return await losses(backend, data)
  } finally {
    await backend.dispose()
  }
}
