// What is measured: the same work described once, for our backends and for the peer.

/** A chain of 3x3 convolutions with ReLU, then the mean of each channel. */
export interface LayerWorkload {
  readonly kind: 'layer'
  readonly name: string
  readonly channels: number
  /** Height and width. */
  readonly size: number
  readonly batch: number
  /** How many convolutions. */
  readonly depth: number
}

/** One training step: forward, cross entropy, backward, SGD with momentum. */
export interface StepWorkload {
  readonly kind: 'step'
  readonly name: string
  readonly widths: readonly number[]
  readonly blocks: readonly number[]
  readonly batch: number
  readonly size: number
}

/** Anything measured here. */
export type Workload = LayerWorkload | StepWorkload

/** K of every dynamic convolution here. */
export const numBases = 4

const shapes = [
  [64, 56],
  [128, 28],
  [256, 14],
  [512, 7],
] as const

/** The four 3x3 shapes of a ResNet on 224x224 images. */
export function layerWorkloads(batches: readonly number[]): readonly LayerWorkload[] {
  return batches.flatMap((batch) => shapes.map(([channels, size]) => ({ kind: 'layer' as const, name: `${channels}@${size} batch ${batch}`, channels, size, batch, depth: 4 })))
}

/** Steps on 32x32 images, batch 64. */
export const stepWorkloads: readonly StepWorkload[] = [
  { kind: 'step', name: 'ResNet-20 16-32-64', widths: [16, 32, 64], blocks: [3, 3, 3], batch: 64, size: 32 },
  { kind: 'step', name: 'ResNet 64-128-256', widths: [64, 128, 256], blocks: [2, 2, 2], batch: 64, size: 32 },
]
