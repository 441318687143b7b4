import { expect, test } from 'vitest'
import { Random } from '../random.ts'
import { trace } from '../graph/trace.ts'
import { float16Bits, float16Value } from './dtype.ts'
import { hostTensor, tensor, toFloat64, zeros } from './hostTensor.ts'
import { broadcastShapes, normaliseAxes, type Shape, stridesOf } from './shape.ts'
import type { Tensor } from './tensor.ts'

const shapeOf = (shape: Shape, fn: (x: Tensor) => Tensor): Shape => {
  const { graph } = trace(fn, { inputs: [{ shape }] })
  return graph.values[graph.outputs[0]?.value ?? -1]?.shape ?? []
}

test('every half survives the way to a number and back', () => {
  const values = Array.from({ length: 65536 }, (_, bits) => float16Value(bits))
  const wrong = values.filter((value, bits) => (Number.isNaN(value) ? !Number.isNaN(float16Value(float16Bits(value))) : float16Bits(value) !== bits))
  expect(wrong).toEqual([])
  expect(values.filter(Number.isNaN).length).toBe(2 * 1023)
})

test('numbers round to the nearest half, ties to even', () => {
  // Next to 1 the halves are 2^-10 apart, next to 2048 they are 2 apart.
  const cases = [
    [1 + 2 ** -11, 1],
    [1 + 3 * 2 ** -11, 1 + 2 ** -9],
    [2049, 2048],
    [2051, 2052],
    [65519, 65504],
    [65520, Number.POSITIVE_INFINITY],
    [-1e9, Number.NEGATIVE_INFINITY],
    [2 ** -25, 0],
    [2 ** -25 * 1.001, 2 ** -24],
    [2 ** -14 * (1 - 2 ** -12), 2 ** -14],
  ] as const
  for (const [value, half] of cases) expect(float16Value(float16Bits(value))).toBe(half)
})

test('host tensors check their storage', () => {
  expect(() => hostTensor('float32', [2, 3], new Float32Array(5))).toThrow('shape [2, 3] needs 6 elements, got 5')
  // @ts-expect-error the wrong storage for the dtype, as plain JavaScript may pass it
  expect(() => hostTensor('int32', [1], new Float32Array(1))).toThrow('hostTensor: int32 data must be a Int32Array, got Float32Array')
  expect(() => zeros([-1])).toThrow('a dimension must be a non-negative integer or a name, got -1')
  expect(tensor([1.9, -1.9], [2], 'int32').data).toEqual(Int32Array.of(1, -1))
  expect(toFloat64(tensor([0.5, 2, -0], undefined, 'float16'))).toEqual(Float64Array.of(0.5, 2, -0))
  expect(tensor(3).shape).toEqual([])
})

test('shapes: broadcasting, strides, axes', () => {
  expect(broadcastShapes('add', [8, 1, 3], [2, 1], ['N', 1, 1, 1])).toEqual(['N', 8, 2, 3])
  expect(() => broadcastShapes('add', [2, 3], [2, 4])).toThrow('add: shapes [2, 3] and [2, 4] do not broadcast: 3 against 4 at axis 1')
  expect(() => broadcastShapes('add', ['N'], [2])).toThrow('N against 2')
  expect(stridesOf([2, 3, 4])).toEqual([12, 4, 1])
  expect(normaliseAxes('sum', [-1, 0], 3)).toEqual([0, 2])
  expect(() => normaliseAxes('sum', [0, -3], 3)).toThrow('name one axis twice')
  expect(() => normaliseAxes('sum', [3], 3)).toThrow('sum: axis 3 is not in a tensor of rank 3; use -3 to 2')
})

test('reshape finds what -1 stands for, with names of sizes too', () => {
  expect(shapeOf([2, 3, 4], (x) => x.reshape([-1, 4]))).toEqual([6, 4])
  expect(shapeOf(['N', 3, 4], (x) => x.flatten())).toEqual(['N', 12])
  expect(shapeOf(['N', 3, 4], (x) => x.reshape([-1, 12]))).toEqual(['N', 12])
  expect(() => shapeOf([2, 3], (x) => x.reshape([4, -1]))).toThrow('[2, 3] (6 elements) does not divide into [4, -1]')
  expect(() => shapeOf([2, 3], (x) => x.reshape([-1, -1]))).toThrow('more than one -1')
  expect(() => shapeOf(['N', 3], (x) => x.reshape([-1]))).toThrow('would be a product of unknown sizes')
  expect(() => shapeOf(['N', 3], (x) => x.reshape(['M', 3, -1]))).toThrow('names M, which is not in [N, 3]')
})

test('sumTo undoes a broadcast', () => {
  expect(shapeOf([4, 2, 3], (x) => x.sumTo([2, 1]))).toEqual([2, 1])
  expect(shapeOf([4, 2, 3], (x) => x.sumTo([]))).toEqual([])
})

test('tensors of two traces do not mix', () => {
  let stray: Tensor | undefined
  trace((x) => (stray = x), { inputs: [{ shape: [1] }] })
  expect(() => trace((x) => x.add(stray ?? 0), { inputs: [{ shape: [1] }] })).toThrow('add: an input belongs to another graph')
})

test('random numbers are the same on every machine', () => {
  // Fixed once: a change of the generator changes every seeded result.
  const random = new Random(42, 1)
  expect([random.nextUint32(), random.nextUint32(), random.nextUint32()]).toMatchInlineSnapshot(`
    [
      3526143370,
      1523133002,
      37018669,
    ]
  `)
  expect(new Random(42, 1).uniform()).not.toBe(new Random(42, 2).uniform())
  expect(new Random(0).uniform()).not.toBe(new Random(2 ** 32).uniform())
  expect(random.int(1)).toBe(0)
  for (const n of [0, -1, 1.5, Number.NaN, 2 ** 33]) expect(() => random.int(n)).toThrow(`Random.int: n must be an integer from 1 to 2^32, got ${n}`)
})

test('random numbers are distributed as they should be', () => {
  const random = new Random(7)
  const n = 100_000
  const uniform = Array.from({ length: n }, () => random.uniform())
  const normal = Array.from({ length: n }, () => random.normal())
  const mean = (list: number[]): number => list.reduce((a, b) => a + b) / list.length
  // Five standard errors: a false alarm once in a million seeds, and this seed is fixed.
  expect(Math.abs(mean(uniform) - 0.5)).toBeLessThan((5 / Math.sqrt(12)) / Math.sqrt(n))
  expect(Math.abs(mean(normal))).toBeLessThan(5 / Math.sqrt(n))
  expect(Math.abs(mean(normal.map((x) => x * x)) - 1)).toBeLessThan((5 * Math.SQRT2) / Math.sqrt(n))
  const counts = Array.from({ length: 5 }, () => 0)
  for (let i = 0; i < n; i++) {
    const k = random.int(5)
    counts[k] = (counts[k] ?? 0) + 1
  }
  expect(counts.every((c) => Math.abs(c - n / 5) < 5 * Math.sqrt(n * 0.16))).toBe(true)
  expect([...random.shuffle([1, 2, 3, 4])].sort((a, b) => a - b)).toEqual([1, 2, 3, 4])
})
