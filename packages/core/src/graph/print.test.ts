import { expect, test } from 'vitest'
import { GraphBuilder } from './builder.ts'
import { printGraph } from './print.ts'
import { trace } from './trace.ts'
import { conv2d } from '../ops/conv.ts'
import { batchNorm } from '../ops/norm.ts'
import { ops } from '../ops/table.ts'
import { tensor } from '../tensor/hostTensor.ts'

test('inputs, states, a line a node, updates, outputs', () => {
  const b = new GraphBuilder(ops)
  const x = b.input('image', 'float32', ['N', 3, 8, 8])
  const w = b.readState('conv.weight', 'parameter', 'float32', [4, 3, 3, 3])
  const scale = b.readState('bn.weight', 'parameter', 'float32', [4])
  const running = b.readState('bn.runningMean', 'buffer', 'float32', [4])
  const [y, mean] = batchNorm(conv2d(x, w, { stride: 2, padding: 1 }), scale, scale)
  b.writeState('bn.runningMean', 'buffer', 'float32', [4], running.mul(0.9).add(mean.mul(0.1)))
  b.output('logits', y.clamp(-0, 6))
  b.output('small', y.greater(0.1))
  expect(printGraph(b.build())).toMatchInlineSnapshot(`
    "input image = %0 : float32[N, 3, 8, 8]
    parameter conv.weight = %1 : float32[4, 3, 3, 3]
    parameter bn.weight = %2 : float32[4]
    buffer bn.runningMean = %3 : float32[4]
    %4 = conv2d(%0, %1) {stride: [2, 2], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1} : float32[N, 4, 4, 4]
    %5, %6, %7 = batchNorm(%4, %2, %2) {epsilon: 0.00001} : float32[N, 4, 4, 4], float32[4], float32[4]
    %8 = constant() {value: 0.9} : float32[]
    %9 = mul(%3, %8) : float32[4]
    %10 = constant() {value: 0.1} : float32[]
    %11 = mul(%6, %10) : float32[4]
    %12 = add(%9, %11) : float32[4]
    %13 = clamp(%5) {min: -0, max: 6} : float32[N, 4, 4, 4]
    %14 = constant() {value: 0.1} : float32[]
    %15 = compare(%5, %14) {kind: greater} : bool[N, 4, 4, 4]
    update bn.runningMean = %12
    output logits = %13 : float32[N, 4, 4, 4]
    output small = %15 : bool[N, 4, 4, 4]"
  `)
})

test('constants are summed up', () => {
  const list = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i / 3)
  const { graph } = trace(
    (x) => [tensor(2.5), tensor([1]), tensor([1, -0, Number.NaN, Number.POSITIVE_INFINITY]), tensor(list(6), [2, 3]), tensor(list(7)), tensor(list(5000)), tensor(new Float32Array(9), [3, 3]), tensor([], [0]), tensor([1.5, 1e-9], [2], 'float16'), tensor([1, 0], [2], 'bool')].map((t) => x.constant(t)),
    { inputs: [{ shape: [] }] },
  )
  expect(printGraph({ ...graph, outputs: [] })).toMatchInlineSnapshot(`
    "input input0 = %0 : float32[]
    %1 = constant() {value: 2.5} : float32[]
    %2 = constant() {value: [1]} : float32[1]
    %3 = constant() {value: [1, -0, NaN, Infinity]} : float32[4]
    %4 = constant() {value: [0, 0.3333, 0.6667, 1, 1.333, 1.667]} : float32[2, 3]
    %5 = constant() {value: [0, 0.3333, 0.6667, 1, 1.333, 1.667, ... 7 elements]} : float32[7]
    %6 = constant() {value: [0, 0.3333, 0.6667, 1, 1.333, 1.667, ... 5000 elements]} : float32[5000]
    %7 = constant() {value: all 0} : float32[3, 3]
    %8 = constant() {value: []} : float32[0]
    %9 = constant() {value: [1.5, 0]} : float16[2]
    %10 = constant() {value: [1, 0]} : bool[2]"
  `)
})
