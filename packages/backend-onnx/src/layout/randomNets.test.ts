// Random small nets with gradients, of widths that fill blocks and widths that do not: whatever the policy chooses, the
// numbers are the oracle's.

import { avgPool2d, batchNorm, batchNormInference, concat, conv2d, dynamicConv2d, evaluate, fromNumbers, type Graph, gradients, type HostTensor, maxPool2d, optimise, Random, type Tensor, toRef, trace } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { OnnxBackend } from '../backend.ts'
import { startBlocked } from '../testing/blocked.ts'

let backend: OnnxBackend
beforeAll(async () => {
  ;({ backend } = await startBlocked())
})
afterAll(() => backend.dispose())

interface Net {
  readonly shapes: readonly (readonly number[])[]
  readonly fn: (...inputs: Tensor[]) => readonly Tensor[]
}

// A net as a function of its parameters, which are inputs so that their gradients come out. It is traced twice: once to
// learn the parameters' shapes, once for real.
function randomNet(seed: number): Net {
  const shapes: (readonly number[])[] = []
  const build = (random: Random, x: Tensor, parameter: (shape: readonly number[]) => Tensor): Tensor => {
    const pick = <T>(list: readonly T[]): T => list[random.int(list.length)] as T
    const pool: Tensor[] = [x]
    const sizes = (t: Tensor): readonly [number, number, number, number] => t.shape as readonly [number, number, number, number]
    const same = (t: Tensor): Tensor => pick(pool.filter((other) => other.shape.join() === t.shape.join()))
    const steps: readonly (() => Tensor)[] = [
      () => {
        const t = pick(pool)
        const [, channels, height] = sizes(t)
        const groups = pick([1, 1, 1, channels % 16 === 0 ? 2 : 1])
        const kernelSize = pick([1, 3, 3])
        const out = pick([16, 32, 24])
        const weight = parameter([out, channels / groups, kernelSize, kernelSize]).mul(1 / (kernelSize * Math.sqrt(channels)))
        const stride = height > 3 ? pick([1, 1, 2]) : 1
        return conv2d(t, weight, { padding: kernelSize >> 1, stride, groups, ...(random.int(2) ? { bias: parameter([out]) } : {}) })
      },
      () => {
        const t = pick(pool)
        const [batch, channels] = sizes(t)
        const out = pick([16, 32])
        const pi = t.mean([2, 3]).matmul(parameter([channels, 2])).softmax(1)
        const bases = parameter([2, out, channels, 3, 3]).mul(1 / (3 * Math.sqrt(channels)))
        return dynamicConv2d(t, bases, random.int(2) ? pi : pi.mul(parameter([batch, 2])), { padding: 1, form: pick(['kernels', 'kernels', 'outputs'] as const) })
      },
      () => {
        const t = pick(pool)
        const channels = sizes(t)[1]
        return conv2d(t, parameter([channels, 1, 3, 3]).mul(1 / 3), { padding: 1, groups: channels })
      },
      () => {
        const t = pick(pool)
        const channels = sizes(t)[1]
        if (random.int(3) === 0) return batchNormInference(t, parameter([channels]), parameter([channels]), parameter([channels]), parameter([channels]).square().add(1))
        return batchNorm(t, parameter([channels]), parameter([channels]))[0]
      },
      () => pick(pool).relu(),
      () => { const t = pick(pool); return t.add(same(t)) },
      () => { const t = pick(pool); return t.add(same(t)).relu() },
      () => { const t = pick(pool); return t.mul(same(t).sigmoid()) },
      () => { const t = pick(pool); const [, channels] = sizes(t); return t.add(parameter([channels, 1, 1])) },
      () => { const t = pick(pool); return t.mul(t.mean([2, 3], true).sigmoid()) },
      () => { const t = pick(pool); return t.add(t.mean([2, 3], true)) },
      () => { const t = pick(pool); return t.sub(t.mean([1], true)) },
      () => pick(pool).clamp(-1, 1),
      () => { const t = pick(pool); return concat([t, same(t)], 1) },
      () => { const t = pick(pool); const [n, c, h, w] = sizes(t); return t.slice([0, 0, 0, 0], [n, Math.min(c, 16), h, w]) },
      () => { const t = pick(pool); return sizes(t)[2] > 2 ? avgPool2d(t, { kernelSize: 2 }) : t.neg() },
      () => { const t = pick(pool); return sizes(t)[2] > 2 ? maxPool2d(t, { kernelSize: 2 }) : t.tanh() },
    ]
    for (let i = 0; i < 9; i++) pool.push(pick(steps)())
    return pool.slice(-3).map((t) => t.mul(t).mean()).reduce((a, b) => a.add(b))
  }
  const input = [2 + (seed % 2), [3, 16, 24][seed % 3] ?? 16, ...([[8, 8], [6, 5], [16, 4]][seed % 3] ?? [8, 8])]
  trace((x) => build(new Random(seed), x, (shape) => (shapes.push(shape), x.full(1, shape))), { inputs: [{ shape: input }] })
  const parameters = [...shapes]
  return {
    shapes: [input, ...parameters],
    fn: (...inputs) => {
      const [x, ...rest] = inputs
      if (!x) throw new RangeError('a net has an input')
      let next = 0
      const loss = build(new Random(seed), x, () => rest[next++] ?? x)
      return [loss, ...gradients(loss, inputs)]
    },
  }
}

const normal = (shape: readonly number[], seed: number): HostTensor => {
  const random = new Random(seed, 9)
  return fromNumbers('float32', shape, Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()))
}

const largest = (values: ArrayLike<number>): number => Array.from(values).reduce((m, v) => Math.max(m, Math.abs(v)), 0)

// The largest difference from the oracle of each result, relative to the result's largest number, or to a thousandth of
// the largest of all results: what cancels (the gradient of a bias before a normalisation is 0) leaves roundings behind.
async function differences(graph: Graph, inputs: readonly HostTensor[]): Promise<readonly number[]> {
  const expected = evaluate(graph, inputs.map(toRef)).outputs
  const program = await backend.compile(graph)
  const outputs = await program.run(inputs)
  program.dispose()
  const floor = 1e-3 * Math.max(...expected.map((t) => largest(t.data)))
  return expected.map(({ data }, i) => largest(data.map((v, k) => v - (outputs[i]?.data[k] ?? Number.NaN))) / Math.max(largest(data), floor))
}

test.each(Array.from({ length: 24 }, (_, seed) => seed))('net %i agrees with the oracle, before and after the passes', async (seed) => {
  const { shapes, fn } = randomNet(seed)
  const { graph } = trace(fn, { inputs: shapes.map((shape) => ({ shape })) })
  const inputs = shapes.map((shape, i) => normal(shape, i))
  for (const candidate of [graph, optimise(graph)]) expect(Math.max(...(await differences(candidate, inputs)))).toBeLessThan(1e-4)
})
