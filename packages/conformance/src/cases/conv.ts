// Cases of convolution and, through their gradients and directly, of its two gradients.

import { type Conv2dAttrs, type Padding2d, Random, type Size2d, type StaticShape } from '@dynconv/core'
import { type Data, integers, spread, withElements } from './data.ts'
import { asFloat16, type Case, type OpCaseOptions, opCase } from './define.ts'

/** A convolution; what is left out is 1, or 0 for the padding. */
export interface Conv {
  readonly x: StaticShape
  readonly out: number
  readonly kernel: Size2d
  readonly stride?: Size2d
  readonly dilation?: Size2d
  readonly padding?: Padding2d
  readonly groups?: number
  readonly bias?: boolean
}

/** The attributes, and a label with everything that matters: `x=2x4x9x8 out=6 kernel=3x2 stride=2,1 ...`. */
export function convParts(conv: Conv): { readonly attrs: Conv2dAttrs; readonly label: string } {
  const { stride = [1, 1], dilation = [1, 1], padding = [0, 0, 0, 0], groups = 1 } = conv
  const compact = (list: readonly number[]): string => (list.every((v) => v === list[0]) ? String(list[0]) : list.join(','))
  const label = [
    `x=${conv.x.join('x')}`,
    `out=${conv.out}`,
    `kernel=${conv.kernel.join('x')}`,
    `stride=${compact(stride)}`,
    `dilation=${compact(dilation)}`,
    `groups=${groups}`,
    `pad=${compact(padding)}`,
    ...(conv.bias ? ['bias'] : []),
  ].join(' ')
  return { attrs: { stride, padding, dilation, groups }, label }
}

function convCase(conv: Conv, options: OpCaseOptions & { readonly x?: Data; readonly note?: string; readonly half?: boolean } = {}): Case {
  const { x, note, half, ...rest } = options
  const { attrs, label } = convParts(conv)
  const dtype = half ? 'float16' : 'float32'
  const weight: StaticShape = [conv.out, (conv.x[1] ?? 0) / attrs.groups, ...conv.kernel]
  return opCase(
    'conv2d',
    attrs,
    { x: x ?? spread(conv.x, { dtype }), weight: spread(weight, { low: -1, high: 1, dtype }), ...(conv.bias ? { bias: spread([conv.out], { dtype }) } : {}) },
    { label: [label, ...(note === undefined ? [] : [note]), ...(half ? ['float16'] : [])].join(' '), ...rest },
  )
}

const randomCount = 60

const strides: readonly Size2d[] = [
  [1, 1],
  [2, 2],
  [2, 1],
]
const dilations: readonly Size2d[] = [
  [1, 1],
  [2, 2],
  [1, 3],
]
const paddings: readonly Padding2d[] = [
  [0, 0, 0, 0],
  [1, 1, 1, 1],
  [0, 1, 2, 3],
]

// Every stride with every dilation, padding and grouping (none, two groups, one channel a group), on a kernel that has no
// symmetry to hide behind. Strides of 2 leave rows at the bottom that no window touches.
function corners(): readonly Case[] {
  return strides.flatMap((stride) =>
    dilations.flatMap((dilation) =>
      paddings.flatMap((padding) =>
        [1, 2, 4].map((groups) => convCase({ x: [2, 4, 9, 8], out: 4, kernel: [3, 2], stride, dilation, padding, groups, bias: groups === 2 }, { differences: groups === 2 })),
      ),
    ),
  )
}

const kernels: readonly Conv[] = [
  { x: [2, 3, 6, 7], out: 5, kernel: [1, 1] },
  { x: [2, 3, 6, 7], out: 5, kernel: [1, 1], stride: [2, 2] },
  { x: [1, 3, 6, 7], out: 2, kernel: [1, 1], padding: [4, 4, 4, 4] },
  { x: [2, 2, 7, 6], out: 3, kernel: [5, 5], padding: [2, 2, 2, 2] },
  { x: [2, 2, 6, 9], out: 3, kernel: [1, 5], padding: [0, 0, 2, 2] },
  { x: [2, 2, 9, 6], out: 3, kernel: [7, 1], padding: [3, 3, 0, 0] },
  { x: [2, 2, 4, 5], out: 3, kernel: [4, 5] },
  { x: [2, 2, 9, 9], out: 3, kernel: [2, 2], stride: [3, 4] },
  { x: [2, 3, 8, 8], out: 4, kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1], bias: true },
  { x: [1, 6, 7, 7], out: 4, kernel: [3, 3], padding: [1, 1, 1, 1], groups: 2 },
  { x: [2, 3, 7, 7], out: 6, kernel: [3, 3], padding: [1, 1, 1, 1], groups: 3 },
  { x: [1, 1, 1, 1], out: 1, kernel: [1, 1], bias: true },
  { x: [3, 1, 1, 9], out: 1, kernel: [1, 3], padding: [0, 0, 1, 1] },
]

// Channels around the sizes of vector registers and tiles, images whose rows end inside one: for engines with layouts and
// kernels of their own for each.
const sizes: readonly Conv[] = [
  { x: [1, 3, 17, 17], out: 16, kernel: [3, 3], padding: [1, 1, 1, 1] },
  { x: [2, 8, 6, 6], out: 8, kernel: [3, 3], padding: [1, 1, 1, 1] },
  { x: [1, 16, 7, 7], out: 16, kernel: [3, 3], padding: [1, 1, 1, 1], bias: true },
  { x: [2, 16, 8, 8], out: 32, kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] },
  { x: [1, 17, 5, 5], out: 15, kernel: [3, 3], padding: [1, 1, 1, 1] },
  { x: [1, 33, 4, 5], out: 31, kernel: [1, 1] },
  { x: [1, 32, 6, 5], out: 32, kernel: [3, 3], padding: [1, 1, 1, 1], groups: 2 },
  { x: [1, 16, 9, 9], out: 16, kernel: [3, 3], padding: [1, 1, 1, 1], groups: 16 },
  { x: [2, 32, 6, 6], out: 32, kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1], groups: 32 },
  { x: [1, 16, 6, 6], out: 32, kernel: [3, 3], padding: [1, 1, 1, 1], groups: 16 },
  { x: [8, 24, 3, 3], out: 24, kernel: [1, 1] },
  { x: [3, 16, 5, 5], out: 16, kernel: [1, 1], stride: [2, 2] },
  { x: [1, 64, 4, 4], out: 64, kernel: [3, 3], padding: [1, 1, 1, 1] },
  { x: [2, 2, 33, 35], out: 2, kernel: [3, 3], padding: [1, 1, 1, 1] },
  { x: [1, 16, 8, 8], out: 16, kernel: [3, 3], dilation: [2, 2], padding: [2, 2, 2, 2] },
  { x: [1, 16, 8, 8], out: 16, kernel: [2, 2], padding: [0, 1, 0, 1] },
]

/** Combinations that nobody thought of, the same in every run. Channels lie on and beside the sizes of blocks. */
export function randomConv(seed: number): Conv {
  const random = new Random(seed, 0xc0)
  const pick = <T>(list: readonly [T, ...T[]]): T => list[random.int(list.length)] ?? list[0]
  const groups = pick([1, 1, 1, 2, 3, 4])
  const depthwise = random.int(5) === 0
  const perGroup = pick([1, 2, 3, 4, 8, 9, 16])
  const channels = depthwise ? pick([3, 8, 15, 16, 17, 24, 32]) : groups * perGroup
  const out = depthwise ? channels * pick([1, 1, 2]) : groups * pick([1, 2, 4, 5, 8, 16])
  const kernel: Size2d = [1 + random.int(4), 1 + random.int(4)]
  const dilation: Size2d = [1 + random.int(2), 1 + random.int(2)]
  const padding: Padding2d = [random.int(3), random.int(3), random.int(3), random.int(3)]
  const border: Size2d = [padding[0] + padding[1], padding[2] + padding[3]]
  // As many pixels as the kernel spans, and up to six more.
  const side = (axis: 0 | 1): number => Math.max(1, dilation[axis] * (kernel[axis] - 1) + 1 - border[axis] + random.int(7))
  return {
    x: [1 + random.int(3), channels, side(0), side(1)],
    out,
    kernel,
    stride: [1 + random.int(3), 1 + random.int(3)],
    dilation,
    padding,
    groups: depthwise ? channels : groups,
    bias: random.int(2) === 0,
  }
}

function gradientOps(): readonly Case[] {
  const { attrs } = convParts({ x: [2, 4, 6, 7], out: 6, kernel: [3, 2], stride: [2, 1], padding: [0, 1, 2, 3], groups: 2 })
  // Rows 0 to 5 with padding 0 and 1: windows at 0, 2 and 4; columns -2 to 9: 11 windows.
  const dy = spread([2, 6, 3, 11])
  return [
    opCase('conv2dInputGrad', { ...attrs, inputSize: [6, 7] }, { dy, weight: spread([6, 2, 3, 2]) }),
    opCase('conv2dFilterGrad', { ...attrs, kernelSize: [3, 2] }, { x: spread([2, 4, 6, 7]), dy }),
    // The last row and column lie outside every window: their gradient is 0.
    opCase('conv2dInputGrad', { ...convParts({ x: [], out: 0, kernel: [2, 2], stride: [2, 2] }).attrs, inputSize: [5, 7] }, { dy: spread([2, 3, 2, 3]), weight: spread([3, 2, 2, 2]) }),
    // One tap with steps, as in the shortcuts of residual networks: an image alone, and channels that fill no vector.
    ...([[1, 4, 8], [2, 3, 5]] as const).map(([batch, channels, out]) =>
      opCase('conv2dFilterGrad', { ...convParts({ x: [], out: 0, kernel: [1, 1], stride: [2, 2] }).attrs, kernelSize: [1, 1] }, { x: spread([batch, channels, 8, 8]), dy: spread([batch, out, 4, 4]) }),
    ),
  ]
}

/** All of them. */
export function convCases(): readonly Case[] {
  const nan = withElements(spread([1, 2, 5, 5]), { 12: Number.NaN, 30: Number.POSITIVE_INFINITY }, 'NaN')
  const half = { half: true } as const
  return [
    ...corners(),
    ...kernels.map((c) => convCase(c)),
    ...sizes.map((c) => convCase(c, { orders: 1, differences: false })),
    ...Array.from({ length: randomCount }, (_, seed) => convCase(randomConv(seed), { orders: 1, differences: false })),
    ...gradientOps(),
    // No images; a NaN reaches what looks at it and nothing else; integers leave no rounding.
    convCase({ x: [0, 3, 5, 5], out: 4, kernel: [3, 3], padding: [1, 1, 1, 1] }, { orders: 1, differences: false }),
    convCase({ x: [1, 2, 5, 5], out: 2, kernel: [3, 3], padding: [1, 1, 1, 1] }, { x: nan, note: 'NaN', orders: 0 }),
    convCase({ x: [2, 4, 6, 6], out: 4, kernel: [3, 3], padding: [1, 1, 1, 1] }, { x: integers([2, 4, 6, 6]), note: 'ties', orders: 1, differences: false }),
    ...asFloat16([
      convCase({ x: [2, 4, 7, 6], out: 4, kernel: [3, 2], stride: [2, 1], dilation: [1, 2], padding: [0, 1, 2, 3], groups: 2 }, half),
      convCase({ x: [1, 16, 5, 5], out: 16, kernel: [3, 3], padding: [1, 1, 1, 1], bias: true }, half),
      convCase({ x: [1, 128, 3, 3], out: 2, kernel: [3, 3] }, half),
    ]),
  ]
}
