// The quickstart's dynamic network in training, the same on every backend: what the losses of two backends are compared on.
// Runs in browsers; what it trains on comes from trainingData.ts.

import { type Backend, crossEntropy, fromNumbers, sgd, temperatureState, trainer } from '@dynconv/core'
import { dynamic, resnet8 } from '@dynconv/models'

/** Batches of images [N, 1, 28, 28] and their labels, as plain numbers: they go to a page as text. */
export interface TrainingData {
  readonly batchSize: number
  readonly batches: readonly { readonly images: readonly number[]; readonly labels: readonly number[] }[]
}

// A step that the network survives without the warm-up that it has in the quickstart. At five times that, weights move so far
// that within a few steps some ReLU falls on different sides of 0 on two engines, for they round differently, and from then on
// their losses part ways.
const lr = 0.02

/** The loss of each step, and of the first batch afterwards. */
export async function losses(backend: Backend, { batchSize, batches }: TrainingData): Promise<readonly number[]> {
  const net = resnet8({ classes: 10, inChannels: 1, conv: dynamic({ numBases: 4 }), seed: 1 })
  net.loadState(temperatureState(net, 30), { strict: false })
  const training = await trainer(net, { backend, loss: crossEntropy({ smoothing: 0.1 }), optimizer: sgd({ lr, momentum: 0.9, nesterov: true, weightDecay: 5e-4 }) })
  try {
    const tensors = batches.map(({ images, labels }) => ({
      images: fromNumbers('float32', [batchSize, 1, 28, 28], Float64Array.from(images)),
      labels: fromNumbers('int32', [batchSize], Float64Array.from(labels)),
    }))
    const result: number[] = []
    for (const { images, labels } of tensors) result.push((await training.step(images, labels)).loss)
    for (const { images, labels } of tensors.slice(0, 1)) result.push((await training.evaluate(images, labels)).loss)
    return result
  } finally {
    training.dispose()
  }
}

/** How far losses are from the nearest of others, relative to the first; undefined when within what float32 explains. */
export function lossesDiffer(ours: readonly number[], others: readonly (readonly number[])[]): string | undefined {
  const tolerance = 1e-4
  const apart = (theirs: readonly number[]): number => {
    const worst = Math.max(...ours.map((loss, i) => Math.abs(loss - (theirs[i] ?? Number.NaN)) / Math.max(Math.abs(ours[0] ?? 1), 1)))
    return theirs.length === ours.length && worst >= 0 ? worst : Number.POSITIVE_INFINITY
  }
  const [nearest = Number.POSITIVE_INFINITY] = others.map(apart).toSorted((a, b) => a - b)
  return nearest <= tolerance ? undefined : `losses ${ours.join(', ')} differ by ${nearest} at least from ${others.map((list) => list.join(', ')).join(' and ')}`
}

/** Whether the network has learned something: the last step's loss is below the first's by more than chance. */
export function hasLearned(list: readonly number[]): boolean {
  const steps = list.slice(0, -1)
  return (steps.at(-1) ?? Number.POSITIVE_INFINITY) < (steps[0] ?? 0) * 0.98
}
