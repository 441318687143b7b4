import { GraphBuilder, type HostTensor, ops, tensor, type Tensor, trace } from '@dynconv/core'
import { expect, test } from 'vitest'
import { expectation, type Wanted } from './expectation.ts'
import type { Program } from './program.ts'

function program(fn: (...xs: Tensor[]) => Tensor, ...inputs: readonly HostTensor[]): Program {
  return { graph: trace(fn, { inputs: inputs.map(({ dtype, shape }) => ({ dtype, shape })) }).graph, states: [], runs: [inputs] }
}

async function only(p: Program): Promise<Wanted> {
  const [wanted] = (await expectation(p)).runs[0] ?? []
  if (!wanted) throw new RangeError('no output')
  return wanted
}

test('what moves, chooses or needs no rounding is exact', async () => {
  const x = tensor([0.1, -0.2, 0.3, 4], [2, 2])
  expect([...(await only(program((t) => t.transpose().reshape([4]).relu(), x))).allowed]).toEqual([0, 0, 0, 0])
  expect([...(await only(program((t) => t.mul(2).add(t.mul(2)), tensor([1, 2, 3])))).allowed]).toEqual([0, 0, 0])
  expect([...(await only(program((t) => t.sum(), tensor([3, -4, 100, 7])))).allowed]).toEqual([0])
})

test('one op straight from the inputs has its row of the table', async () => {
  // One rounding: an ulp of the result.
  expect([...(await only(program((a, b) => a.add(b), tensor([0.1]), tensor([1.7])))).allowed]).toEqual([2 ** -23])
  // Five roundings of numbers up to 5.5.
  const x = tensor([0.5, -0.5, 1.5, -1.5, 1.5])
  const sum = await only(program((t) => t.sum(), x))
  expect(sum.value.data[0]).toBe(1.5)
  expect([...sum.allowed]).toEqual([5 * 2 ** -21])
})

test('a cancelling sum has an absolute floor', async () => {
  const wanted = await only(program((t) => t.sum(), tensor([1e6, 0.25, -1e6])))
  expect(wanted.value.data[0]).toBe(0.25)
  expect([...wanted.allowed]).toEqual([3 * 2 ** -3])
})

test('long sums grow by the root of their length', async () => {
  const long = await only(program((t) => t.sum(), tensor(new Float32Array(4096).fill(0.75))))
  expect([...long.allowed]).toEqual([8 * 64 * 2 ** -12])
})

test('behind several roundings the program decides: a stable one stays tight, an unstable one gets room', async () => {
  const x = tensor([0.3, 0.7, 0.9])
  const stable = await only(program((t) => t.exp().log().mul(3), x))
  const unstable = await only(program((t) => t.add(1000).sub(1000).mul(3), x))
  const largest = (w: Wanted): number => Math.max(...w.allowed)
  // exp(0.9) is off by 4.8 ulp of 2.46, which the logarithm divides by 2.46 and adds 4 ulp to; times three, rounded, four times.
  expect(largest(stable)).toBeLessThan(110 * 2 ** -23)
  // 1000.3 is rounded by up to 2^-14; three times that, and the safety.
  expect(largest(unstable)).toBeGreaterThan(3 * 2 ** -14)
  expect(largest(unstable)).toBeLessThan(100 * 2 ** -14)
})

test('the tolerance covers float32 itself', async () => {
  const x = Array.from({ length: 50 }, (_, i) => Math.sin(i * 12.9898) * 2)
  const wanted = await only(program((t) => t.sigmoid().mul(t).sub(t.square().add(1).log()), tensor(x)))
  const f = Math.fround
  x.map(f).forEach((v, i) => {
    const sigmoid = f(1 / f(1 + f(Math.exp(-v))))
    const got = f(f(sigmoid * v) - f(Math.log(f(f(v * v) + 1))))
    expect(Math.abs(got - (wanted.value.data[i] ?? Number.NaN))).toBeLessThanOrEqual(wanted.allowed[i] ?? 0)
  })
})

test('states carry over from run to run, and their tolerance with them', async () => {
  const builder = new GraphBuilder(ops)
  const x = builder.input('x', 'float32', [])
  const total = builder.readState('total', 'buffer', 'float32', [])
  builder.writeState('total', 'buffer', 'float32', [], total.add(x))
  builder.output('y', total)
  const wanted = await expectation({
    graph: builder.build(),
    states: [{ name: 'total', kind: 'buffer', data: tensor(1) }],
    runs: Array.from({ length: 3 }, () => [tensor(0.1)]),
  })
  const [first, second, third] = wanted.runs.map(([y]) => y)
  expect([first?.name, third?.name, wanted.states[0]?.name]).toEqual(['run 0: y', 'run 2: y', 'state total'])
  expect(wanted.states[0]?.value.data[0]).toBeCloseTo(1.3, 6)
  expect([...(first?.allowed ?? [])]).toEqual([0])
  expect([...(second?.allowed ?? [])]).toEqual([2 ** -23])
  expect(third?.allowed[0]).toBeGreaterThan(2 ** -23)
})

test('a program in which roundings decide is refused', async () => {
  const x = tensor([0.1, 0.2])
  await expect(expectation(program((t) => t.add(0.3).sub(0.3).sub(t).argMax(0), x))).rejects.toThrow('rests on a decision that roundings can turn')
})

test('float16 sums accumulate in float32 and are rounded once', async () => {
  const x = tensor(Array.from({ length: 1000 }, (_, i) => 0.1 + (i % 7) / 10), [1000], 'float16')
  const wanted = await only(program((t) => t.sum(), x))
  // One rounding to float16 near 400, and float32's own.
  expect(wanted.allowed[0]).toBeGreaterThanOrEqual(0.25)
  expect(wanted.allowed[0]).toBeLessThan(0.3)
})
