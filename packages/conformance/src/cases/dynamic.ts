// Cases of dynamic convolution: the op and its two gradients in both forms.

import type { DynamicConvForm } from '@dynconv/core'
import { spread } from './data.ts'
import { asFloat16, type Case, type OpCaseOptions, opCase } from './define.ts'
import { type Conv, convParts, randomConv } from './conv.ts'

interface Dynamic extends Conv {
  readonly bases: number
}

const one = [1, 1, 1, 1] as const
const randomCount = 20

// Groups (none, two, one channel each), strides, dilations, paddings; one basis, one sample, no sample; channels that fill
// blocks and that do not; 1x1.
const layers: readonly Dynamic[] = [
  { x: [3, 4, 6, 5], bases: 3, out: 6, kernel: [3, 3], padding: one, bias: true },
  { x: [2, 4, 7, 8], bases: 2, out: 4, kernel: [3, 2], stride: [2, 1], dilation: [1, 2], padding: [0, 1, 2, 3], groups: 2, bias: true },
  { x: [2, 4, 6, 6], bases: 4, out: 4, kernel: [3, 3], padding: one, groups: 4 },
  { x: [2, 3, 6, 6], bases: 2, out: 6, kernel: [3, 3], stride: [2, 2], padding: one, groups: 3, bias: true },
  { x: [2, 4, 5, 5], bases: 4, out: 3, kernel: [1, 1], bias: true },
  { x: [2, 2, 7, 7], bases: 3, out: 2, kernel: [3, 3], dilation: [2, 2], padding: [2, 2, 2, 2] },
  { x: [1, 4, 5, 5], bases: 4, out: 4, kernel: [3, 3], padding: one },
  { x: [3, 2, 5, 5], bases: 1, out: 2, kernel: [3, 3] },
]

const large: readonly Dynamic[] = [
  { x: [2, 16, 6, 6], bases: 4, out: 16, kernel: [3, 3], padding: one, bias: true },
  { x: [3, 16, 4, 4], bases: 2, out: 32, kernel: [1, 1] },
  { x: [2, 17, 4, 4], bases: 3, out: 15, kernel: [3, 3], padding: one },
  { x: [2, 32, 5, 5], bases: 2, out: 32, kernel: [3, 3], stride: [2, 2], padding: one, groups: 2 },
  { x: [3, 16, 6, 6], bases: 4, out: 16, kernel: [3, 3], padding: one, groups: 16, bias: true },
  { x: [8, 24, 3, 3], bases: 2, out: 24, kernel: [1, 1] },
  { x: [0, 4, 5, 5], bases: 2, out: 4, kernel: [3, 3], padding: one, bias: true },
]

function dynamicCase(d: Dynamic, form: DynamicConvForm, options: OpCaseOptions & { readonly half?: boolean } = {}): Case {
  const { half, ...rest } = options
  const { attrs, label } = convParts(d)
  const dtype = half ? 'float16' : 'float32'
  const [batch = 0, channels = 0] = d.x
  return opCase(
    'dynamicConv2d',
    { ...attrs, form },
    {
      x: spread(d.x, { dtype }),
      bases: spread([d.bases, d.out, channels / attrs.groups, ...d.kernel], { low: -1, high: 1, dtype }),
      pi: spread([batch, d.bases], { low: 0, high: 1, dtype }),
      ...(d.bias ? { bias: spread([d.bases, d.out], { dtype }) } : {}),
    },
    { label: [`form=${form}`, `bases=${d.bases}`, label, ...(half ? ['float16'] : [])].join(' '), ...rest },
  )
}

// The kernel gradient streams over the batch, in chunks that need not divide it.
function chunkCases(): readonly Case[] {
  const { attrs } = convParts({ x: [], out: 0, kernel: [3, 3], padding: one, groups: 2 })
  return [0, 1, 2, 3, 9].map((chunk) =>
    opCase(
      'dynamicConv2dKernelGrad',
      { ...attrs, form: 'kernels', kernelSize: [3, 3], chunk },
      { x: spread([5, 4, 4, 4]), dy: spread([5, 4, 4, 4]), bases: spread([3, 4, 2, 3, 3]), pi: spread([5, 3], { low: 0, high: 1 }) },
      { label: `form=kernels chunk=${chunk}`, orders: 0 },
    ),
  )
}

/** All of them. */
export function dynamicCases(): readonly Case[] {
  const forms = ['kernels', 'outputs'] as const
  const [first, second] = layers
  if (!first || !second) throw new RangeError('dynamic: there are no layers')
  return [
    ...forms.flatMap((form) => [
      ...layers.map((d) => dynamicCase(d, form, { differences: d.out === 4 })),
      ...large.map((d) => dynamicCase(d, form, { orders: 1, differences: false })),
      ...Array.from({ length: randomCount }, (_, seed) => dynamicCase({ ...randomConv(500 + seed), bases: 1 + (seed % 4) }, form, { orders: 1, differences: false })),
      ...asFloat16([first, second].map((d) => dynamicCase(d, form, { half: true }))),
    ]),
    // What nobody has chosen yet; and as the plan of this very engine chooses.
    dynamicCase(first, 'auto'),
    dynamicCase(second, 'auto', { prepared: true, orders: 1, differences: false }),
    ...chunkCases(),
  ]
}
