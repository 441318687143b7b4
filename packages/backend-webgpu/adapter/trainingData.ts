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

/**
 * ONNX Runtime's losses, with images in its blocked layout and as they are. The two round differently, so that now and then some
 * ReLU falls on different sides of 0 in them; from there on their losses part ways, though each is right.
 */
export async function referenceLosses(data: TrainingData): Promise<readonly (readonly number[])[]> {
  const lists: (readonly number[])[] = []
  for (const layout of ['auto', 'plain'] as const) {
    const backend = await onnx({ threads: 1, layout })
    try {
      lists.push(await losses(backend, data))
    } finally {
      await backend.dispose()
    }
  }
  return lists
}
