import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { trace } from '../graph/trace.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { checkGradient, checkSecondOrder, randomRef } from '../testing/gradcheck.ts'
import { type HostTensor, tensor } from '../tensor/hostTensor.ts'
import { type StaticShape, sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { ValueType } from './define.ts'
import { concat, shapeOps } from './shape.ts'

const f32 = (...shape: (number | string)[]): ValueType => ({ dtype: 'float32', shape })
const counting = (...shape: number[]): HostTensor => tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => i), shape)
const { reshape, transpose, broadcastTo, slice, pad, concat: concatOp } = shapeOps

test('reshape keeps the order of elements', () => {
  expect(apply((x) => x.reshape([3, 2]), counting(2, 3))).toEqual({ dtype: 'float32', shape: [3, 2], values: [0, 1, 2, 3, 4, 5] })
  expect(apply((x) => x.reshape([-1, 2, 1]), counting(2, 3)).shape).toEqual([3, 2, 1])
  expect(apply((x) => x.reshape([]), counting(1, 1))).toEqual({ dtype: 'float32', shape: [], values: [0] })
  expect(apply((x) => x.reshape([0, 7]), counting(2, 0)).shape).toEqual([0, 7])
  expect(apply((x) => x.flatten(), counting(2, 3, 1, 2)).shape).toEqual([2, 6])
})

test('reshape carries unknown sizes over by name', () => {
  expect(typeOfResult((x) => x.flatten(), { shape: ['N', 3, 4] }).shape).toEqual(['N', 12])
  expect(reshape.infer({ shape: [2, 'N', 6] }, [f32('N', 3, 4)])).toEqual(f32(2, 'N', 6))
  expect(reshape.infer({ shape: ['M', 'N'] }, [f32('N', 1, 'M')])).toEqual(f32('M', 'N'))
  expect(() => reshape.infer({ shape: ['N', 11] }, [f32('N', 3, 4)])).toThrow('reshape: [N, 3, 4] (12*N elements) does not fit [N, 11] (11*N)')
  expect(() => reshape.infer({ shape: [12] }, [f32('N', 3, 4)])).toThrow('reshape: [N, 3, 4] (12*N elements) does not fit [12] (12)')
  expect(() => reshape.infer({ shape: [4] }, [f32(2, 3)])).toThrow('reshape: [2, 3] (6 elements) does not fit [4] (4)')
  expect(() => reshape.infer({ shape: [-1] }, [f32(2)])).toThrow('reshape: a dimension must be a non-negative integer or a name, got -1')
})

test('transpose permutes axes', () => {
  expect(apply((x) => x.transpose(), counting(2, 3))).toEqual({ dtype: 'float32', shape: [3, 2], values: [0, 3, 1, 4, 2, 5] })
  expect(apply((x) => x.transpose([1, 2, 0]), counting(2, 1, 3))).toEqual({ dtype: 'float32', shape: [1, 3, 2], values: [0, 3, 1, 4, 2, 5] })
  expect(apply((x) => x.transpose([]), tensor(4)).values).toEqual([4])
  expect(apply((x) => x.transpose([1, 0]), counting(0, 3))).toEqual({ dtype: 'float32', shape: [3, 0], values: [] })
  expect(transpose.infer({ permutation: [1, 0] }, [f32('N', 2)])).toEqual(f32(2, 'N'))
  expect(() => transpose.infer({ permutation: [0, 0] }, [f32(2, 3)])).toThrow('transpose: permutation [0, 0] must hold each of 0 to 1 once')
  expect(() => transpose.infer({ permutation: [0, 2] }, [f32(2, 3)])).toThrow('transpose: permutation [0, 2] must hold each of 0 to 1 once')
  expect(() => transpose.infer({ permutation: [0] }, [f32(2, 3)])).toThrow('transpose: permutation must have 2 elements, got [0]')
})

test('broadcastTo repeats along axes of size 1 and new leading ones', () => {
  expect(apply((x) => x.broadcastTo([2, 2, 3]), counting(2, 1))).toEqual({ dtype: 'float32', shape: [2, 2, 3], values: [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1] })
  expect(apply((x) => x.broadcastTo([3]), tensor(7, [], 'int32'))).toEqual({ dtype: 'int32', shape: [3], values: [7, 7, 7] })
  expect(apply((x) => x.broadcastTo([0]), counting(1)).values).toEqual([])
  expect(broadcastTo.infer({ shape: ['N', 3] }, [f32(1, 3)])).toEqual(f32('N', 3))
  expect(broadcastTo.infer({ shape: ['N', 3] }, [f32('N', 1)])).toEqual(f32('N', 3))
  expect(() => broadcastTo.infer({ shape: [2, 3] }, [f32(2)])).toThrow('broadcastTo: [2] does not stretch to [2, 3]')
  expect(() => broadcastTo.infer({ shape: [3] }, [f32(1, 3)])).toThrow('broadcastTo: [1, 3] does not stretch to [3]')
  expect(() => broadcastTo.infer({ shape: [4] }, [f32('N')])).toThrow('broadcastTo: [N] does not stretch to [4]')
})

test('slice takes every step-th element, forwards or backwards', () => {
  expect(apply((x) => x.slice([1], [3]), counting(6)).values).toEqual([1, 2, 3])
  expect(apply((x) => x.slice([1], [3], [2]), counting(6)).values).toEqual([1, 3, 5])
  expect(apply((x) => x.slice([5], [6], [-1]), counting(6)).values).toEqual([5, 4, 3, 2, 1, 0])
  expect(apply((x) => x.slice([5], [2], [-4]), counting(6)).values).toEqual([5, 1])
  expect(apply((x) => x.slice([0, 3], [2, 2], [1, -2]), counting(2, 4))).toEqual({ dtype: 'float32', shape: [2, 2], values: [3, 1, 7, 5] })
  expect(apply((x) => x.slice([], []), tensor(3)).values).toEqual([3])
  expect(apply((x) => x.slice([6, 0], [0, 2]), counting(6, 2)).shape).toEqual([0, 2])
  expect(apply((x) => x.narrow(-1, 1, 2), counting(2, 4)).values).toEqual([1, 2, 5, 6])
})

test('slice refuses what lies outside', () => {
  const at = (starts: number[], sizes: number[], steps: number[]) => () => slice.infer({ starts, sizes, steps }, [f32(4, 6)])
  expect(at([0, 4], [4, 3], [1, 1])).toThrow('slice: axis 1 of [4, 6] has no elements 4 to 6 (start 4, size 3, step 1)')
  expect(at([0, 1], [4, 3], [1, -1])).toThrow('slice: axis 1 of [4, 6] has no elements 1 to -1')
  expect(at([0, -1], [4, 1], [1, 1])).toThrow('slice: axis 1 of [4, 6] has no elements -1 to -1')
  expect(at([0, 0], [4, 1], [1, 0])).toThrow('slice: steps[1]=0 must not be 0')
  expect(at([0, 0], [4, -1], [1, 1])).toThrow('slice: sizes[1]=-1 must be an integer >= 0')
  expect(at([0, 0.5], [4, 1], [1, 1])).toThrow('slice: starts[1]=0.5 must be an integer')
  expect(at([0], [4, 1], [1, 1])).toThrow('slice: starts must have 2 elements, got [0]')
  expect(() => slice.infer({ starts: [0], sizes: [1], steps: [1] }, [f32('N')])).toThrow('slice: shape [N] has unknown sizes; specialise the graph first')
})

test('pad puts a border around', () => {
  expect(apply((x) => x.pad([1, 0], [0, 2], 9), counting(1, 2))).toEqual({ dtype: 'float32', shape: [2, 4], values: [9, 9, 9, 9, 0, 1, 9, 9] })
  expect(apply((x) => x.pad([2], [1], -Infinity), counting(0)).values).toEqual([-Infinity, -Infinity, -Infinity])
  expect(apply((x) => x.pad([], []), tensor(5)).values).toEqual([5])
  expect(apply((x) => x.pad([1], [0], 1), tensor([0], [1], 'bool'))).toEqual({ dtype: 'bool', shape: [2], values: [1, 0] })
  expect(pad.infer({ before: [0, 1], after: [0, 1], value: 0 }, [f32('N', 3)])).toEqual(f32('N', 5))
  expect(() => pad.infer({ before: [1, 1], after: [0, 1], value: 0 }, [f32('N', 3)])).toThrow('pad: padded axis 0 of [N, 3] must be a known size, got N; specialise the graph first')
  expect(() => pad.infer({ before: [-1], after: [0], value: 0 }, [f32(3)])).toThrow('pad: before[0]=-1 must be an integer >= 0')
  expect(() => pad.infer({ before: [0], after: [], value: 0 }, [f32(3)])).toThrow('pad: after must have 1 element, got []')
  expect(() => pad.infer({ before: [0], after: [0], value: 0.5 }, [{ dtype: 'int32', shape: [3] }])).toThrow('pad: value=0.5 is not a value of int32')
})

test('concat puts tensors one after another', () => {
  const [a, b, c] = [counting(1, 2), counting(2, 2), counting(0, 2)]
  expect(apply((...xs) => concat(xs), a, b, c)).toEqual({ dtype: 'float32', shape: [3, 2], values: [0, 1, 0, 1, 2, 3] })
  expect(apply((...xs) => concat(xs, -1), counting(2, 1), counting(2, 3))).toEqual({ dtype: 'float32', shape: [2, 4], values: [0, 0, 1, 2, 1, 3, 4, 5] })
  expect(apply((x) => concat([x, x], 1), counting(2, 1, 2)).values).toEqual([0, 1, 0, 1, 2, 3, 2, 3])
  expect(apply((x) => concat([x]), counting(2)).values).toEqual([0, 1])
  expect(concatOp.infer({ axis: 1 }, [f32('N', 2), f32('N', 3)])).toEqual(f32('N', 5))
  expect(() => concatOp.infer({ axis: 0 }, [f32('N', 2), f32(3, 2)])).toThrow('concat: axis 0 of input 0 must be a known size, got N; specialise the graph first')
  expect(() => concatOp.infer({ axis: 0 }, [f32(2, 2), f32(3, 2), f32(3, 4)])).toThrow(
    'concat: input 2 is [3, 4], input 0 is [2, 2]; they may differ along axis 0 only',
  )
  expect(() => concatOp.infer({ axis: 0 }, [f32(2), f32(2, 1)])).toThrow('concat: input 1 is [2, 1], input 0 is [2]')
  expect(() => concatOp.infer({ axis: 1 }, [f32(2)])).toThrow('concat: axis=1 is not an axis of a tensor of rank 1')
  expect(() => concatOp.infer({ axis: 0 }, [f32(2), { dtype: 'int32', shape: [2] }])).toThrow('concat: dtypes differ: input 0 is float32, input 1 is int32; cast one of them')
  expect(() => concatOp.infer({ axis: 0 }, [])).toThrow('concat: takes at least 1 input, got 0')
  expect(() => concat([])).toThrow('concat: takes at least 1 tensor, got 0')
})

const cases: readonly (readonly [name: string, fn: (...xs: Tensor[]) => Tensor, shapes: readonly StaticShape[]])[] = [
  ['reshape', (x) => x.reshape([3, 2, 1]), [[2, 3]]],
  ['reshape to a scalar', (x) => x.reshape([]), [[1, 1, 1]]],
  ['transpose', (x) => x.transpose([2, 0, 1]), [[2, 1, 3]]],
  ['transpose of rank 6', (x) => x.transpose([5, 0, 4, 1, 3, 2]), [[2, 1, 2, 1, 2, 1]]],
  ['transpose of a scalar', (x) => x.transpose([]), [[]]],
  ['broadcastTo', (x) => x.broadcastTo([2, 2, 3]), [[2, 1]]],
  ['broadcastTo from a scalar', (x) => x.broadcastTo([2, 1, 2]), [[]]],
  ['broadcastTo nothing', (x) => x.broadcastTo([0, 3]), [[1]]],
  ['slice', (x) => x.slice([1, 0], [2, 2]), [[4, 3]]],
  ['slice with steps', (x) => x.slice([1, 0], [2, 2], [2, 3]), [[5, 4]]],
  ['slice backwards', (x) => x.slice([4], [5], [-1]), [[5]]],
  ['slice backwards with steps', (x) => x.slice([1, 4, 0], [1, 2, 2], [-7, -3, 1]), [[2, 5, 3]]],
  ['slice of nothing', (x) => x.slice([9, 0], [0, 2]), [[4, 2]]],
  ['pad', (x) => x.pad([1, 0, 2], [0, 0, 1], 3), [[2, 1, 2]]],
  ['pad of nothing', (x) => x.pad([1, 0], [1, 0]), [[0, 2]]],
  ['concat', (...xs) => concat(xs, 1), [[2, 1], [2, 3], [2, 0]]],
  ['concat of one', (x) => concat([x], 0), [[2, 1]]],
  ['concat of the same twice', (x) => concat([x, x, x], -1), [[1, 2]]],
]

test.each(cases)('the gradient of %s agrees with differences, twice over', (_, fn, shapes) => {
  const inputs = shapes.map((shape, i) => randomRef(shape, i))
  expect(checkGradient(fn, inputs).worst).toBeLessThan(1e-6)
  expect(checkSecondOrder((...xs) => fn(...xs).tanh(), inputs).worst).toBeLessThan(1e-6)
})

test('gradients go back to where elements came from', () => {
  const weighted = (y: Tensor): Tensor => y.mul(y.constant(counting(3)).add(1))
  expect(gradientsOfSum((x) => weighted(x.slice([4], [3], [-2])), counting(6))).toEqual([[3, 0, 2, 0, 1, 0]])
  expect(gradientsOfSum((x) => weighted(x.slice([2], [3])), counting(6))).toEqual([[0, 0, 1, 2, 3, 0]])
  expect(gradientsOfSum((x, y) => weighted(concat([x, y])), counting(1), counting(2))).toEqual([[1], [2, 3]])
})

test('a plain slice needs no scatter, and concat slices only what is needed', () => {
  const plain = trace((x) => gradients(x.slice([1], [2]).sum(), [x]), { inputs: [{ shape: [4] }] }).graph
  expect(plain.nodes.map((n) => n.op)).not.toContain('scatterAdd')
  const joined = trace((x, y) => gradients(concat([x, y]).sum(), [y]), { inputs: [{ shape: [4] }, { shape: [2] }] }).graph
  expect(joined.nodes.filter((n) => n.op === 'slice')).toHaveLength(1)
})
