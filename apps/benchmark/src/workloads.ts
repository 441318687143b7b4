// What is measured: each piece of work described once, as plain data, for our engines, for the peers and for the processes
// that measure memory.

/** A chain of equal convolutions, each with ReLU, then the mean of each channel. */
export interface ChainSpec {
  readonly kind: 'chain'
  readonly channels: number
  readonly kernelSize: 1 | 3
  /** One group for each channel. */
  readonly depthwise: boolean
  /** How many convolutions. */
  readonly depth: number
}

/** Basic blocks of a residual network, all of one width, then the mean of each channel. */
export interface BlockSpec {
  readonly kind: 'block'
  readonly channels: number
  readonly depth: number
}

/** A residual network of basic blocks. */
export interface ResNetSpec {
  readonly kind: 'resnet'
  readonly widths: readonly number[]
  readonly blocks: readonly number[]
  readonly stem: 'cifar' | 'imagenet'
  readonly classes: number
}

/** MobileNetV2. */
export interface MobileNetV2Spec {
  readonly kind: 'mobilenetV2'
  readonly width: number
  readonly stem: 'cifar' | 'imagenet'
  readonly classes: number
}

/** Anything that can be built static or dynamic. */
export type NetworkSpec = ChainSpec | BlockSpec | ResNetSpec | MobileNetV2Spec

/** The kinds of work, in the order in which they run. */
export const groups = ['layers', 'blocks', 'models', 'steps', 'bases', 'resolution'] as const

/** A kind of work. */
export type Group = (typeof groups)[number]

/** A piece of work. */
export interface Workload {
  readonly group: Group
  readonly name: string
  readonly net: NetworkSpec
  /** Height and width of the images. */
  readonly size: number
  readonly batch: number
  /** 'train': forward, cross entropy, backward, SGD with momentum. */
  readonly task: 'infer' | 'train'
  /** The K of the dynamic variants; the static one always runs. */
  readonly bases: readonly number[]
  /** Whether a dynamic convolution is measured in every form, and not only in the one chosen. */
  readonly everyForm: boolean
}

/** K where nothing else is said. */
export const usualBases = 4

// The 3x3 layers of a ResNet on 224x224 images.
const shapes: readonly (readonly [channels: number, size: number])[] = [
  [64, 56],
  [128, 28],
  [256, 14],
  [512, 7],
]

const resnet18: ResNetSpec = { kind: 'resnet', widths: [64, 128, 256, 512], blocks: [2, 2, 2, 2], stem: 'cifar', classes: 10 }
const mobilenetV2: MobileNetV2Spec = { kind: 'mobilenetV2', width: 1, stem: 'cifar', classes: 10 }
const common = { task: 'infer', bases: [usualBases], everyForm: false } as const

function chains(batches: readonly number[], kernelSize: 1 | 3, depthwise: boolean): readonly Workload[] {
  const kind = depthwise ? 'depthwise 3x3' : `${kernelSize}x${kernelSize}`
  return batches.flatMap((batch) =>
    shapes.map(([channels, size]) => ({
      ...common,
      group: 'layers' as const,
      name: `${kind} ${channels}@${size} batch ${batch}`,
      net: { kind: 'chain' as const, channels, kernelSize, depthwise, depth: 4 },
      size,
      batch,
      everyForm: kernelSize === 3 && !depthwise,
    })),
  )
}

const steps: readonly Workload[] = [
  { name: 'ResNet-20 16-32-64', widths: [16, 32, 64], blocks: [3, 3, 3] },
  { name: 'ResNet 64-128-256', widths: [64, 128, 256], blocks: [2, 2, 2] },
].map(({ name, ...net }) => ({ ...common, group: 'steps' as const, name: `step ${name} batch 64`, net: { kind: 'resnet' as const, ...net, stem: 'cifar' as const, classes: 10 }, size: 32, batch: 64, task: 'train' as const }))

/** Every piece of work. */
export const allWorkloads: readonly Workload[] = [
  ...chains([1, 8], 3, false),
  ...chains([1, 8], 1, false),
  ...chains([1, 8], 3, true),
  ...[1, 8].map((batch) => ({ ...common, group: 'blocks' as const, name: `basic block 64@32 batch ${batch}`, net: { kind: 'block' as const, channels: 64, depth: 2 }, size: 32, batch })),
  ...[1, 8, 64].map((batch) => ({ ...common, group: 'models' as const, name: `ResNet-18 (CIFAR stem) batch ${batch}`, net: resnet18, size: 32, batch })),
  ...[1, 8, 64].map((batch) => ({ ...common, group: 'models' as const, name: `MobileNetV2 (CIFAR stem) batch ${batch}`, net: mobilenetV2, size: 32, batch })),
  ...steps,
  { ...common, group: 'steps', name: 'step ResNet-18 (ImageNet stem) 224x224 batch 1', net: { ...resnet18, stem: 'imagenet', classes: 1000 }, size: 224, batch: 1, task: 'train' },
  { ...common, group: 'bases', name: 'K: 3x3 128@28 batch 8', net: { kind: 'chain', channels: 128, kernelSize: 3, depthwise: false, depth: 4 }, size: 28, batch: 8, bases: [1, 2, 4, 8, 16] },
  { ...common, group: 'bases', name: 'K: MobileNetV2 (CIFAR stem) batch 1', net: mobilenetV2, size: 32, batch: 1, bases: [1, 2, 4, 8, 16] },
  ...[64, 128, 224].map((size) => ({ ...common, group: 'resolution' as const, name: `ResNet-18 (ImageNet stem) ${size}x${size} batch 1`, net: { ...resnet18, stem: 'imagenet' as const, classes: 1000 }, size, batch: 1 })),
]

/** What is asked for. */
export interface Selection {
  /** All groups unless given. */
  readonly only?: readonly Group[] | undefined
  /** A part of the name, in any case. */
  readonly filter?: string | undefined
}

/** The work that a selection names, in order. */
export function selectWorkloads({ only, filter }: Selection, from: readonly Workload[] = allWorkloads): readonly Workload[] {
  const wanted = filter?.toLowerCase()
  return from.filter((w) => (only === undefined || only.includes(w.group)) && (wanted === undefined || w.name.toLowerCase().includes(wanted)))
}

/** The work of `--quick`: one batch of each 3x3 shape. */
export function isQuick({ group, net, batch }: Workload): boolean {
  return group === 'layers' && net.kind === 'chain' && net.kernelSize === 3 && !net.depthwise && batch === 8
}

/** How many classes a network tells apart; 0 where it ends without a classifier. */
export function classesOf({ net }: Pick<Workload, 'net'>): number {
  return net.kind === 'resnet' || net.kind === 'mobilenetV2' ? net.classes : 0
}

/** The shape of the images. */
export function inputShape({ net, batch, size }: Pick<Workload, 'net' | 'batch' | 'size'>): readonly number[] {
  return [batch, net.kind === 'chain' || net.kind === 'block' ? net.channels : 3, size, size]
}
