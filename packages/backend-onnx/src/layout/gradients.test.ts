// The parts of the gradients that are made of standard ops, with both block sizes, whatever the engine's own is.

import { conv2dFilterGrad, evaluate, hostTensor, type HostTensor, type OpAttrs, type StaticShape, toRef, trace } from '@dynconv/core'
import { beforeAll, describe, expect, test } from 'vitest'
import { ModelBuilder } from '../model.ts'
import { type Engine, loadEngine } from '../session.ts'
import { compare, randn } from '../testing/compare.ts'
import { filterGrad, filterGradPerSample, type FilterGradSources, kernelToTaps, tapsToKernel } from './filterGrad.ts'
import { fromKernelLayout, toKernelLayout } from './host.ts'
import { residues } from './indices.ts'
import { turnKernels } from './inputGrad.ts'
import { type ConvCase, convCase, inputGradForm, kindOf } from './support.ts'

let engine: Engine
beforeAll(async () => {
  engine = await loadEngine(1)
})

async function run(build: (model: ModelBuilder, inputs: readonly string[]) => string, inputs: readonly HostTensor[], shape: StaticShape): Promise<HostTensor> {
  const model = new ModelBuilder()
  const names = inputs.map((t, i) => model.input(`x${i}`, t.dtype, t.shape))
  model.output('y', build(model, names), 'float32', shape)
  const session = await engine.createSession(model.encode())
  const { y } = await session.run(Object.fromEntries(inputs.map((t, i) => [`x${i}`, new engine.ort.Tensor('float32', t.data as Float32Array, t.shape)])))
  await session.release()
  return hostTensor('float32', shape, y?.data as Float32Array)
}

const plainSources = (model: ModelBuilder, x: string, dy: string): FilterGradSources => ({
  xPlain: () => x,
  xBlocked: () => undefined,
  xLast: () => model.transpose(x, [0, 2, 3, 1]),
  dyPlain: () => dy,
  dyLast: () => model.transpose(dy, [0, 2, 3, 1]),
  dyBlocked: () => {
    throw new Error('blocked images need the block of the engine')
  },
})

interface Setting {
  readonly name: string
  readonly size: readonly [number, number]
  readonly kernel: readonly [number, number]
  readonly attrs?: Partial<OpAttrs['conv2d']>
}

const settings: readonly Setting[] = [
  { name: '3x3', size: [5, 6], kernel: [3, 3] },
  { name: '3x3 on a tall image', size: [17, 5], kernel: [3, 3] },
  { name: '3x3, stride 2', size: [6, 8], kernel: [3, 3], attrs: { stride: [2, 2] } },
  { name: '3x3, stride 2 on a tall image', size: [34, 4], kernel: [3, 3], attrs: { stride: [2, 2] } },
  { name: '2x3, dilated, uneven padding', size: [7, 6], kernel: [2, 3], attrs: { dilation: [2, 1], padding: [1, 0, 2, 1] } },
  { name: '1x1, stride 2', size: [4, 6], kernel: [1, 1], attrs: { stride: [2, 2], padding: [0, 0, 0, 0] } },
]

const batch = 3

function prepare({ size, kernel, attrs }: Setting, inChannels: number, outChannels: number) {
  const walk = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1, ...attrs } as const
  const out = [0, 1].map((i) => Math.floor((size[i]! + walk.padding[2 * i]! + walk.padding[2 * i + 1]! - (kernel[i]! - 1) * walk.dilation[i]! - 1) / walk.stride[i]!) + 1)
  const [x, weight, dy] = [[batch, inChannels, ...size], [outChannels, inChannels, ...kernel], [batch, outChannels, ...out]]
  return { c: convCase(walk, x, weight, dy), walk, weight, x: randn(x, 1), dy: randn(dy, 2) }
}

// A block of 16 takes the images blocked in other forms; its orders are checked with the forms that do not.
describe.each([8, 16])('block %i', (b) => {
  test.each(settings)('filter gradient, $name', async (setting) => {
    for (const inChannels of [2 * b, 3]) {
      const { c, walk, weight, x, dy } = prepare(setting, inChannels, b)
      const { graph } = trace((s, t) => conv2dFilterGrad(s, t, { ...walk, kernelSize: setting.kernel }), { inputs: [x, dy] })
      const [expected] = evaluate(graph, [toRef(x), toRef(dy)]).outputs
      const forms = [
        (m: ModelBuilder, s: FilterGradSources) => filterGrad(m, c, s, 8),
        (m: ModelBuilder, s: FilterGradSources) => {
          const { pieces, order } = filterGradPerSample(m, c, s, 8)
          return { pieces: pieces.map((piece) => m.sum(piece, [0], true)), order }
        },
      ]
      for (const form of forms) {
        const got = await run((m, [s = '', t = '']) => m.reshape(tapsToKernel(m, form(m, plainSources(m, s, t)), 1, c, b), weight), [x, dy], weight)
        expect(compare(fromKernelLayout(got, b), expected, 4000)).toBeUndefined()
      }
    }
  })

  test('kernels go to the order of a gradient, in pieces, and come back', async () => {
    const { c } = prepare(settings[0]!, 2 * b, b)
    const bases = randn([2, b, 2 * b, 3, 3], 3)
    for (const like of [{ pieces: ['', '', ''], order: 'vOuIio' }, { pieces: [''], order: 'IiuvOo' }, { pieces: [''], order: 'OouvIi' }] as const) {
      const back = await run(
        (m, [w = '']) => m.reshape(tapsToKernel(m, { ...like, pieces: kernelToTaps(m, w, like, 2, c, b) }, 2, c, b), bases.shape),
        [bases],
        bases.shape,
      )
      expect(back).toEqual(bases)
    }
  })

  test.each(settings.filter(({ attrs }) => attrs?.padding?.[0] !== 1))('kernels turned for the input gradient, $name', async (setting) => {
    const { c } = prepare(setting, 2 * b, b)
    const form = inputGradForm(c, kindOf(c, b, false)) ?? 'turned'
    const bases = randn([2, b, 2 * b, ...setting.kernel], 3)
    const parts = turnedTaps(c, form)
    for (const [i, { along, across }] of parts.entries()) {
      const shape = [2, c.inChannels, c.outChannels, along.length, across.length]
      const got = await run((m, [w = '']) => m.reshape(turnKernels(m, w, 2, c, form, b)[i]?.name ?? '', shape), [toKernelLayout(bases, b)], shape)
      expect(Array.from(fromKernelLayout(got, b).data)).toEqual(turned(bases, along, across))
    }
  })
})

// Which taps each kernel of the input gradient reads, in order (-1: none).
function turnedTaps(c: ConvCase, form: string): readonly { readonly along: readonly number[]; readonly across: readonly number[] }[] {
  const reversed = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => n - 1 - i)
  if (form !== 'subPixel') return [{ along: reversed(c.rows.kernel), across: reversed(c.columns.kernel) }]
  return residues(c.rows).flatMap((r) => residues(c.columns).map((s) => ({ along: r.taps, across: s.taps })))
}

function turned(bases: HostTensor, along: readonly number[], across: readonly number[]): number[] {
  const [count = 0, o = 0, i = 0, kh = 0, kw = 0] = bases.shape
  const result: number[] = []
  for (let n = 0; n < count; n++)
    for (let ci = 0; ci < i; ci++)
      for (let co = 0; co < o; co++)
        for (const u of along) for (const v of across) result.push(u < 0 || v < 0 ? 0 : (bases.data[(((n * o + co) * i + ci) * kh + u) * kw + v] ?? Number.NaN))
  return result
}
