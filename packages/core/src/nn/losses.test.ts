import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { evaluate } from '../reference/evaluate.ts'
import { ref } from '../testing/gradcheck.ts'
import { crossEntropy, type Loss, l1, mse } from './losses.ts'

function value(loss: Loss, output: readonly [number[], number[]], target: readonly [number[], number[]], dtype: 'float32' | 'int32' = 'float32'): number {
  const { graph } = trace((x, t) => loss(x, t), { inputs: [{ shape: output[0] }, { shape: target[0], dtype }] })
  return evaluate(graph, [ref(output[0], output[1]), ref(target[0], target[1])]).outputs[0]?.data[0] ?? Number.NaN
}

test('cross entropy is the mean of -log p(label)', () => {
  const logits = [1, 2, 3, 0, 0, 0]
  const want = (Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3)) - 3 + Math.log(3)) / 2
  expect(value(crossEntropy(), [[2, 3], logits], [[2], [2, 0]], 'int32')).toBeCloseTo(want, 12)
})

test('label smoothing mixes with the uniform distribution', () => {
  const z = Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3))
  const want = 0.9 * (z - 3) + 0.1 * (z - 2)
  expect(value(crossEntropy({ smoothing: 0.1 }), [[1, 3], [1, 2, 3]], [[1], [2]], 'int32')).toBeCloseTo(want, 6)
})

test('logits far apart stay finite', () => {
  expect(value(crossEntropy(), [[1, 2], [1e4, -1e4]], [[1], [1]], 'int32')).toBe(2e4)
})

test('mean squared and mean absolute error', () => {
  expect(value(mse(), [[2], [1, 2]], [[2], [3, 5]])).toBe((4 + 9) / 2)
  expect(value(l1(), [[2], [1, 2]], [[2], [3, -5]])).toBe((2 + 7) / 2)
})

test('what does not fit is refused', () => {
  const bad = (loss: Loss, a: number[], b: number[], dtype: 'float32' | 'int32' = 'float32') => () =>
    trace((x, t) => loss(x, t), { inputs: [{ shape: a }, { shape: b, dtype }] })
  expect(bad(crossEntropy(), [2, 3], [2])).toThrow('labels must be int32 classes, got float32')
  expect(bad(crossEntropy(), [2, 3], [3], 'int32')).toThrow('expected logits [N, C] and labels [N], got [2, 3] and [3]')
  expect(bad(mse(), [2], [3])).toThrow('mse: output [2] and target [3] must have one shape')
  expect(() => crossEntropy({ smoothing: 1 })).toThrow('smoothing must be in [0, 1), got 1')
})
