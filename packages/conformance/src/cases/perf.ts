// Programs that are large enough to time and to weigh, and small enough for the oracle to run too. Figures, not verdicts:
// nothing here passes or fails by how long it takes.

import { crossEntropy, referenceBackend, sgd, tensor, traceStep, withSeed } from '@dynconv/core'
import type { Program } from '../expect/program.ts'
import { indices, spread } from './data.ts'
import { type Case, opCase } from './define.ts'
import { smallResNet, statesOf } from './networks.ts'

/** A program to time. */
export interface PerfCase {
  readonly id: string
  /** How many units of work a run does, and what they are called. */
  readonly work: { readonly count: number; readonly unit: 'multiply-adds' | 'elements' }
  readonly program: () => Program
}

const size = 28
const channels = 32
const pixels = size * size
const image = `1x${channels}x${size}x${size}`

function fromCase(c: Case, count: number, unit: PerfCase['work']['unit'] = 'multiply-adds'): PerfCase {
  return { id: `perf ${c.id}`, work: { count, unit }, program: () => c.program(0) }
}

const conv = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 } as const

// One whole training step of a small residual network at batch 4.
function trainingStep(dynamic: boolean): PerfCase {
  return {
    id: `perf training step[ResNet ${dynamic ? 'dynamic' : 'static'} x=4x3x16x16]`,
    work: { count: 4, unit: 'elements' },
    program: () => {
      const module = withSeed(1, () => smallResNet(dynamic))
      const [x, labels] = [spread([4, 3, 16, 16]).make(1), indices([4], 5).make(2)]
      const graph = traceStep(module, { backend: referenceBackend(), loss: crossEntropy(), optimizer: sgd({ lr: 0.01, momentum: 0.9 }) }, x, labels)
      return { graph, states: statesOf(graph, module), runs: [[x, labels, tensor(0.01)]] }
    },
  }
}

/** All of them. */
export function perfCases(): readonly PerfCase[] {
  const x = spread([1, channels, size, size])
  const mixed = { x: spread([2, channels, size / 2, size / 2]), bases: spread([4, channels, channels, 3, 3], { low: -1, high: 1 }), pi: spread([2, 4], { low: 0, high: 1 }) }
  const mixedWork = (2 * channels * channels * 9 * pixels) / 4
  return [
    fromCase(opCase('add', {}, { a: spread([64, 4096]), b: spread([4096]) }), 64 * 4096, 'elements'),
    fromCase(opCase('exp', {}, { x: spread([64, 4096]) }), 64 * 4096, 'elements'),
    fromCase(opCase('reduceSum', { axes: [1], keepDims: false }, { x: spread([64, 4096]) }), 64 * 4096, 'elements'),
    fromCase(opCase('softmax', { axis: 1 }, { x: spread([256, 1000]) }), 256 * 1000, 'elements'),
    fromCase(opCase('matmul', { transposeA: false, transposeB: false }, { a: spread([192, 192]), b: spread([192, 192]) }), 192 ** 3),
    ...[1, channels].map((groups) => {
      const weight = spread([channels, channels / groups, 3, 3], { low: -1, high: 1 })
      return fromCase(opCase('conv2d', { ...conv, groups }, { x, weight }, { label: `x=${image} kernel=3x3 groups=${groups}` }), (channels / groups) * channels * 9 * pixels)
    }),
    fromCase(opCase('conv2dInputGrad', { ...conv, inputSize: [size, size] }, { dy: x, weight: spread([channels, channels, 3, 3], { low: -1, high: 1 }) }, { label: `x=${image} kernel=3x3` }), channels * channels * 9 * pixels),
    fromCase(opCase('conv2dFilterGrad', { ...conv, kernelSize: [3, 3] }, { x, dy: x }, { label: `x=${image} kernel=3x3` }), channels * channels * 9 * pixels),
    ...(['kernels', 'outputs'] as const).map((form) => fromCase(opCase('dynamicConv2d', { ...conv, form }, mixed, { label: `form=${form} x=2x32x14x14 bases=4 kernel=3x3` }), form === 'kernels' ? mixedWork : 4 * mixedWork)),
    trainingStep(false),
    trainingStep(true),
  ]
}
