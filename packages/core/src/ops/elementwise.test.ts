import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { trace } from '../graph/trace.ts'
import { apply, gradientsOfSum, typeOfResult } from '../testing/apply.ts'
import { checkGradient, checkSecondOrder, randomRef, ref } from '../testing/gradcheck.ts'
import { type DType, dtypes } from '../tensor/dtype.ts'
import { type HostTensor, tensor } from '../tensor/hostTensor.ts'
import type { Shape, StaticShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Comparison } from './attrs.ts'
import type { RefTensor, ValueType } from './define.ts'
import { elementwiseOps } from './elementwise.ts'

const of = (dtype: DType, ...shape: Shape): ValueType => ({ dtype, shape })
const values = (fn: (...inputs: Tensor[]) => Tensor, ...inputs: HostTensor[]): readonly number[] => apply(fn, ...inputs).values
const floatsOf = (...list: number[]): HostTensor => tensor(list)
const intsOf = (...list: number[]): HostTensor => tensor(list, [list.length], 'int32')
const boolsOf = (...list: number[]): HostTensor => tensor(list, [list.length], 'bool')
const { NaN: nan, POSITIVE_INFINITY: inf } = Number
const maxInt = 2 ** 31 - 1
const minInt = -(2 ** 31)

test('arithmetic on floats', () => {
  const [a, b] = [floatsOf(6, -3, 0.5), floatsOf(2, 4, -8)]
  expect(values((x, y) => x.add(y), a, b)).toEqual([8, 1, -7.5])
  expect(values((x, y) => x.sub(y), a, b)).toEqual([4, -7, 8.5])
  expect(values((x, y) => x.mul(y), a, b)).toEqual([12, -12, -4])
  expect(values((x, y) => x.div(y), a, b)).toEqual([3, -0.75, -0.0625])
  expect(values((x, y) => x.min(y), a, b)).toEqual([2, -3, -8])
  expect(values((x, y) => x.max(y), a, b)).toEqual([6, 4, 0.5])
  expect(values((x) => x.div(0), floatsOf(1, -1, 0))).toEqual([inf, -inf, nan])
})

test('int32 wraps at 32 bits', () => {
  expect(values((x, y) => x.add(y), intsOf(maxInt, 5), intsOf(1, -7))).toEqual([minInt, -2])
  expect(values((x, y) => x.sub(y), intsOf(minInt, 5), intsOf(1, -7))).toEqual([maxInt, 12])
  // 123456789 * 987654321 = 121932631112635269 = -67153019 modulo 2^32; beyond 2^53, so not by float64.
  expect(values((x, y) => x.mul(y), intsOf(123456789, -3), intsOf(987654321, 5))).toEqual([-67153019, -15])
  expect(values((x) => x.neg(), intsOf(minInt, 3, 0))).toEqual([minInt, -3, 0])
  expect(values((x) => x.abs(), intsOf(minInt, -3))).toEqual([minInt, 3])
  expect(values((x, y) => x.max(y), intsOf(1, -4), intsOf(0, 9))).toEqual([1, 9])
  expect(values((x) => x.relu(), intsOf(-2, 3))).toEqual([0, 3])
  expect(values((x) => x.clamp(-1, 4), intsOf(-2, 3, 5))).toEqual([-1, 3, 4])
})

test('functions of one float', () => {
  const x = floatsOf(1, 4, 0.25)
  expect(values((t) => t.neg(), x)).toEqual([-1, -4, -0.25])
  expect(values((t) => t.abs(), floatsOf(-1.5, 0, 2))).toEqual([1.5, 0, 2])
  expect(values((t) => t.exp(), floatsOf(0, 1, -inf))).toEqual([1, Math.E, 0])
  expect(values((t) => t.log(), floatsOf(1, 0, -1, inf))).toEqual([0, -inf, nan, inf])
  expect(values((t) => t.sqrt(), floatsOf(4, 0, -1))).toEqual([2, 0, nan])
  expect(values((t) => t.rsqrt(), floatsOf(4, 0, 0.25))).toEqual([0.5, inf, 2])
  expect(values((t) => t.tanh(), floatsOf(0, inf, -inf))).toEqual([0, 1, -1])
  expect(values((t) => t.sigmoid(), floatsOf(0, inf, -inf, -1000))).toEqual([0.5, 1, 0, 0])
  expect(values((t) => t.relu(), floatsOf(-1, 0, 2.5))).toEqual([0, 0, 2.5])
  expect(values((t) => t.clamp(-1, 1), floatsOf(-3, 0.5, 1, 7))).toEqual([-1, 0.5, 1, 1])
  expect(values((t) => t.clamp(-inf, 1), floatsOf(-3, 7))).toEqual([-3, 1])
  expect(values((t) => t.stopGradient(), x)).toEqual([1, 4, 0.25])
})

test('a power is that of IEEE 754', () => {
  expect(values((a, b) => a.pow(b), floatsOf(2, 3, -2, 0, 0, 4, -8), floatsOf(3, -1, 3, 0, 2, 0.5, 0.5))).toEqual([8, 1 / 3, -8, 1, 0, 2, nan])
  expect(values((a, b) => a.pow(b), floatsOf(nan, 1, 1, -1, 0), floatsOf(0, nan, inf, -inf, -1))).toEqual([1, 1, 1, 1, inf])
})

test('NaN passes through whatever reads it', () => {
  const unary: ((x: Tensor) => Tensor)[] = [
    (x) => x.neg(),
    (x) => x.abs(),
    (x) => x.exp(),
    (x) => x.log(),
    (x) => x.sqrt(),
    (x) => x.rsqrt(),
    (x) => x.tanh(),
    (x) => x.sigmoid(),
    (x) => x.relu(),
    (x) => x.clamp(0, 1),
    (x) => x.min(1),
    (x) => x.max(1),
    (x) => x.operand(1).min(x),
    (x) => x.operand(1).max(x),
  ]
  for (const fn of unary) expect(values(fn, floatsOf(nan))).toEqual([nan])
})

test('comparisons; with NaN only notEqual holds', () => {
  const expected: Record<Comparison, number[]> = {
    equal: [0, 1, 0, 0],
    notEqual: [1, 0, 1, 1],
    less: [1, 0, 0, 0],
    lessEqual: [1, 1, 0, 0],
    greater: [0, 0, 1, 0],
    greaterEqual: [0, 1, 1, 0],
  }
  for (const [kind, holds] of Object.entries(expected) as [Comparison, number[]][]) {
    expect(apply((a, b) => a.compare(kind, b), floatsOf(1, 2, 3, nan), floatsOf(2, 2, 2, 2))).toEqual({ dtype: 'bool', shape: [4], values: holds })
    expect(values((a, b) => a.compare(kind, b), intsOf(1, 2, 3), intsOf(2, 2, 2))).toEqual(holds.slice(0, 3))
  }
  expect(values((a, b) => a.equal(b), boolsOf(0, 1, 1), boolsOf(0, 0, 1))).toEqual([1, 0, 1])
  expect(values((a, b) => a.compare('notEqual', b), boolsOf(0, 1, 1), boolsOf(0, 0, 1))).toEqual([0, 1, 0])
})

test('select chooses, and what is not chosen does not matter', () => {
  expect(values((c, a, b) => c.select(a, b), boolsOf(1, 0, 1), floatsOf(1, nan, 3), floatsOf(nan, 5, inf))).toEqual([1, 5, 3])
  expect(apply((c, a, b) => c.select(a, b), tensor([1, 0], [2, 1], 'bool'), tensor([1, 2, 3], [3], 'int32'), tensor(9, [], 'int32'))).toEqual({
    dtype: 'int32',
    shape: [2, 3],
    values: [1, 2, 3, 9, 9, 9],
  })
  expect(apply((c, a, b) => c.select(a, b), boolsOf(1, 0), boolsOf(0, 0), boolsOf(1, 1))).toEqual({ dtype: 'bool', shape: [2], values: [0, 1] })
})

test('casts truncate to int32 and test for zero to bool', () => {
  expect(apply((x) => x.cast('int32'), floatsOf(1.9, -1.9, 0.5, 3e9, -3e9, nan))).toEqual({ dtype: 'int32', shape: [6], values: [1, -1, 0, maxInt, minInt, 0] })
  expect(values((x) => x.cast('bool'), floatsOf(0, 0.5, -2, nan))).toEqual([0, 1, 1, 1])
  expect(apply((x) => x.cast('float16'), boolsOf(0, 1))).toEqual({ dtype: 'float16', shape: [2], values: [0, 1] })
  expect(apply((x) => x.cast('float32'), intsOf(-5, 7))).toEqual({ dtype: 'float32', shape: [2], values: [-5, 7] })
  for (const from of dtypes) for (const to of dtypes) expect(elementwiseOps.cast.infer({ dtype: to }, [of(from, 2)])).toEqual(of(to, 2))
})

test('operands broadcast from the last axis on', () => {
  const column = tensor([10, 20], [2, 1])
  const row = tensor([1, 2, 3])
  expect(apply((a, b) => a.add(b), column, row)).toEqual({ dtype: 'float32', shape: [2, 3], values: [11, 12, 13, 21, 22, 23] })
  expect(apply((a, b) => b.sub(a), column, row).values).toEqual([-9, -8, -7, -19, -18, -17])
  expect(apply((a, b) => a.mul(b), tensor([], [2, 0]), tensor(3))).toEqual({ dtype: 'float32', shape: [2, 0], values: [] })
  expect(apply((a, b) => a.mul(b), tensor([], [2, 0]), tensor([5], [1])).shape).toEqual([2, 0])
  expect(apply((a, b) => a.add(b), tensor([1, 2], [1, 2, 1, 1, 1, 1]), tensor([5], [1, 1, 1, 1, 1, 1])).values).toEqual([6, 7])
})

test('unknown sizes match their own name and a 1', () => {
  expect(typeOfResult((a, b) => a.add(b), { shape: ['N', 3] }, { shape: ['N', 1] }).shape).toEqual(['N', 3])
  expect(typeOfResult((a, b) => a.add(b), { shape: ['N', 3] }, { shape: [1, 3] }).shape).toEqual(['N', 3])
  expect(typeOfResult((a) => a.mul(2).relu(), { shape: ['N'] }).shape).toEqual(['N'])
  expect(() => elementwiseOps.add.infer({}, [of('float32', 'N'), of('float32', 4)])).toThrow('add: shapes [N] and [4] do not broadcast')
  expect(() => elementwiseOps.add.infer({}, [of('float32', 'N'), of('float32', 'M')])).toThrow('add: shapes [N] and [M] do not broadcast')
  const { graph } = trace((x, w) => gradients(x.mul(w).sum(), [x, w]), { inputs: [{ shape: ['N', 3] }, { shape: [3] }] })
  expect(graph.outputs.map((o) => graph.values[o.value]?.shape)).toEqual([['N', 3], [3]])
})

test('what does not fit is refused', () => {
  const ops = elementwiseOps
  const [f32, i32, bool] = [of('float32', 2), of('int32', 2), of('bool', 2)]
  expect(() => ops.add.infer({}, [f32, of('float32', 3)])).toThrow('add: shapes [2] and [3] do not broadcast: 2 against 3 at axis 0')
  expect(() => ops.mul.infer({}, [f32, i32])).toThrow('mul: dtypes differ: a is float32, b is int32; cast one of them')
  expect(() => ops.sub.infer({}, [f32])).toThrow('sub: takes 2 inputs (a, b), got 1')
  expect(() => ops.add.infer({}, [bool, bool])).toThrow('add: inputs must be float32 or float16 or int32, got bool')
  for (const op of [ops.div, ops.pow]) expect(() => op.infer({}, [i32, i32])).toThrow(`${op.name}: inputs must be float32 or float16, got int32`)
  for (const op of [ops.exp, ops.log, ops.sqrt, ops.rsqrt, ops.tanh, ops.sigmoid]) {
    expect(() => op.infer({}, [i32])).toThrow(`${op.name}: x must be float32 or float16, got int32`)
    expect(op.infer({}, [of('float16', 2)])).toEqual(of('float16', 2))
  }
  expect(() => ops.relu.infer({}, [bool])).toThrow('relu: x must be')
  expect(() => ops.neg.infer({}, [f32, f32])).toThrow('neg: takes 1 input (x), got 2')
  expect(() => ops.compare.infer({ kind: 'less' }, [bool, bool])).toThrow('compare: inputs of less must be float32 or float16 or int32, got bool')
  expect(() => ops.compare.infer({ kind: 'toString' as Comparison }, [f32, f32])).toThrow('compare: kind must be equal, notEqual, ')
  expect(() => ops.select.infer({}, [f32, f32, f32])).toThrow('select: condition must be bool, got float32')
  expect(() => ops.select.infer({}, [bool, f32, i32])).toThrow('select: dtypes differ: a is float32, b is int32; cast one of them')
  expect(() => ops.clamp.infer({ min: 2, max: 1 }, [f32])).toThrow('clamp: min=2 must not exceed max=1')
  expect(() => ops.clamp.infer({ min: nan, max: 1 }, [f32])).toThrow('clamp: min=NaN must not exceed max=1')
  expect(() => ops.clamp.infer({ min: 0.5, max: 1 }, [i32])).toThrow('clamp: min=0.5 is not a value of int32')
  expect(() => ops.cast.infer({ dtype: 'float64' as DType }, [f32])).toThrow('cast: dtype must be float32 or float16 or int32 or bool, got float64')
})

// Inputs are kept away from kinks (0 for relu and abs) and from the bounds of domains.
const positive = (shape: StaticShape, seed: number): RefTensor => ref(shape, randomRef(shape, seed).data.map((v) => 0.5 + Math.abs(v)))
const awayFromZero = (shape: StaticShape, seed: number): RefTensor => ref(shape, randomRef(shape, seed).data.map((v) => v + 0.1 * (Math.sign(v) || 1)))

const shapes: readonly StaticShape[] = [[], [1], [0], [3], [2, 1, 2], [1, 2, 1, 1, 2, 1]]

const unaryCases: readonly (readonly [name: string, fn: (x: Tensor) => Tensor, make: (shape: StaticShape, seed: number) => RefTensor])[] = [
  ['neg', (x) => x.neg(), randomRef],
  ['abs', (x) => x.abs(), awayFromZero],
  ['exp', (x) => x.exp(), randomRef],
  ['log', (x) => x.log(), positive],
  ['sqrt', (x) => x.sqrt(), positive],
  ['rsqrt', (x) => x.rsqrt(), positive],
  ['tanh', (x) => x.tanh(), randomRef],
  ['sigmoid', (x) => x.sigmoid(), randomRef],
  ['relu', (x) => x.relu(), awayFromZero],
  ['clamp', (x) => x.clamp(-0.05, 0.05), awayFromZero],
  ['cast', (x) => x.cast('float16').cast('float32'), randomRef],
  ['pow of a constant', (x) => x.pow(3), randomRef],
  ['power of a constant', (x) => x.operand(2).pow(x), randomRef],
]

test.each(unaryCases)('the gradient of %s agrees with differences, twice over', (_, fn, make) => {
  for (const [seed, shape] of shapes.entries()) {
    expect(checkGradient(fn, [make(shape, seed)]).worst).toBeLessThan(1e-6)
    expect(checkSecondOrder(fn, [make(shape, seed)]).worst).toBeLessThan(1e-6)
  }
})

const pairs: readonly (readonly [a: StaticShape, b: StaticShape])[] = [
  [[], []],
  [[3], []],
  [[], [2, 2]],
  [[2, 1], [3]],
  [[2, 3], [2, 3]],
  [[0, 2], [2]],
  [[1], [0]],
  [[2, 1, 2, 1], [3, 1, 2]],
  [[1, 2, 1, 1, 2, 1], [2, 1, 1, 2, 1, 1]],
]

const binaryCases: readonly (readonly [name: string, fn: (a: Tensor, b: Tensor) => Tensor])[] = [
  ['add', (a, b) => a.add(b)],
  ['sub', (a, b) => a.sub(b)],
  ['mul', (a, b) => a.mul(b)],
  ['div', (a, b) => a.div(b)],
  ['min', (a, b) => a.min(b)],
  ['max', (a, b) => a.max(b)],
  ['pow', (a, b) => a.pow(b)],
  ['select', (a, b) => a.greater(b).select(a.mul(b), b)],
]

test.each(binaryCases)('the gradient of %s agrees with differences for every broadcast, twice over', (_, fn) => {
  for (const [seed, [a, b]] of pairs.entries()) {
    // b in steps away from a, so that min, max and select are not near a tie.
    const inputs = [positive(a, seed), ref(b, positive(b, seed + 100).data.map((v, i) => (i % 2 ? v + 4 : v / 8)))]
    expect(checkGradient(fn, inputs).worst).toBeLessThan(1e-6)
    expect(checkSecondOrder(fn, inputs).worst).toBeLessThan(1e-6)
  }
})

test('gradients at kinks: shares, zeros and bounds', () => {
  expect(gradientsOfSum((x) => x.relu(), floatsOf(-1, 0, 2))).toEqual([[0, 0, 1]])
  expect(gradientsOfSum((x) => x.abs(), floatsOf(-1, 0, 2))).toEqual([[-1, 0, 1]])
  expect(gradientsOfSum((x) => x.clamp(-1, 1), floatsOf(-2, -1, 0, 1, 2))).toEqual([[0, 1, 1, 1, 0]])
  expect(gradientsOfSum((a, b) => a.max(b), floatsOf(1, 2, 3), floatsOf(2, 2, 2))).toEqual([
    [0, 0.5, 1],
    [1, 0.5, 0],
  ])
  expect(gradientsOfSum((a, b) => a.min(b), floatsOf(1, 2, 3), floatsOf(2, 2, 2))).toEqual([
    [1, 0.5, 0],
    [0, 0.5, 1],
  ])
  expect(gradientsOfSum((x) => x.mul(x.stopGradient()), floatsOf(3, 5))).toEqual([[3, 5]])
})

test('the gradient of a power stays finite at the edges of its domain', () => {
  const [da, db] = gradientsOfSum((a, b) => a.pow(b), floatsOf(0, 0, 0, -2, 3, 0, -8), floatsOf(0, 1, 2, 3, 0, -1, 0.5))
  expect(da).toEqual([0, 1, 0, 12, 0, -inf, nan])
  expect(db).toEqual([0, 0, 0, 0, Math.log(3), 0, 0])
  // Second order at 0 ^ 2: d2/da2 = 2, and no NaN comes from the logarithm of 0.
  const second = (which: number) => gradientsOfSum((a, b) => gradients(a.pow(b).sum(), [a, b])[which] ?? a, floatsOf(0), floatsOf(2))
  expect(second(0)).toEqual([[2], [0]])
  expect(second(1)).toEqual([[0], [0]])
})

test('the gradient of relu has the form that backends recognise', () => {
  const { graph } = trace((x) => gradients(x.relu().sum(), [x]), { inputs: [{ shape: [4] }] })
  const relu = graph.nodes.find((n) => n.op === 'relu')
  const compare = graph.nodes.find((n) => n.op === 'compare')
  const select = graph.nodes.find((n) => n.op === 'select')
  expect(compare?.attrs).toEqual({ kind: 'greater' })
  expect(compare?.inputs[0]).toBe(relu?.outputs[0])
  expect(select?.inputs[0]).toBe(compare?.outputs[0])
  expect(graph.outputs[0]?.value).toBe(select?.outputs[0])
})

test('rules compute only what is needed', () => {
  const { graph } = trace((a, b) => gradients(a.pow(b).sum(), [a]), { inputs: [{ shape: [4] }, { shape: [4] }] })
  expect(graph.nodes.map((n) => n.op)).not.toContain('log')
})

test('decompositions are the same functions', () => {
  const x = floatsOf(-3, -0.5, 0, 0.25, 4, inf)
  const whole: Record<'rsqrt' | 'sigmoid' | 'relu' | 'stopGradient', (t: Tensor) => Tensor> = {
    rsqrt: (t) => t.rsqrt(),
    sigmoid: (t) => t.sigmoid(),
    relu: (t) => t.relu(),
    stopGradient: (t) => t.stopGradient(),
  }
  for (const name of ['rsqrt', 'sigmoid', 'relu', 'stopGradient'] as const) {
    expect(values((t) => elementwiseOps[name].decompose?.({}, [t])[0] ?? t.full(nan), x)).toEqual(values(whole[name], x))
  }
  expect(values((t) => elementwiseOps.clamp.decompose?.({ min: -1, max: 1 }, [t])[0] ?? t.full(nan), x)).toEqual([-1, -0.5, 0, 0.25, 1, 1])
})

test('half precision stays half precision in the gradient', () => {
  const { graph } = trace((x) => gradients(x.abs().exp().add(1).log().sqrt().rsqrt().tanh().sigmoid().relu().clamp(0, 1).pow(2).div(x).max(x).min(1).sum(), [x]), { inputs: [{ shape: [2, 3], dtype: 'float16' }] })
  expect(graph.values.filter((v) => v.dtype === 'float32')).toEqual([])
  expect(graph.outputs.map((o) => graph.values[o.value])).toEqual([{ dtype: 'float16', shape: [2, 3] }])
})
