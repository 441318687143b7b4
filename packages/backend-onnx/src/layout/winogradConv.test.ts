// The Winograd form against the float64 oracle, forward and backward: even and odd sizes, one chunk and several.

import { compile, Conv2d, conv2d, DynamicConv2d, evaluate, gradients, type HostTensor, Module, type Tensor, toRef, traceModule } from '@dynconv/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { OnnxBackend, plainLayouts } from '../backend.ts'
import type { Engine } from '../session.ts'
import { startBlocked } from '../testing/blocked.ts'
import { compare, difference, graphOf, randn } from '../testing/compare.ts'
import { type ConvCase, convCase } from './support.ts'
import { winogradForm } from './winogradConv.ts'

let engine: Engine
let backend: OnnxBackend
beforeAll(async () => {
  ;({ engine, backend } = await startBlocked())
})
afterAll(() => backend.dispose())

const attrs = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 } as const
const caseOf = (batch: number, channels: number, height: number, width: number, other: Partial<typeof attrs> = {}): ConvCase =>
  convCase({ ...attrs, ...other }, [batch, channels, height, width], [channels, channels, 3, 3], [batch, channels, height, width])

test('which convolutions take which form', () => {
  const changing = (c: ConvCase) => winogradForm(c, { perSample: false, onlyRead: false })
  expect(changing(caseOf(24, 256, 4, 4))).toBe('tiles')
  expect(changing(caseOf(16, 512, 7, 7))).toBe('tiles')
  expect(changing(caseOf(8, 512, 7, 7))).toBeUndefined()
  expect(changing(caseOf(16, 512, 4, 4))).toBeUndefined()
  expect(changing(caseOf(24, 128, 32, 32))).toBe('rows')
  expect(changing(caseOf(24, 32, 32, 32))).toBeUndefined()
  expect(changing({ ...caseOf(24, 256, 4, 4), groups: 2 })).toBeUndefined()
  expect(changing(convCase(attrs, [24, 256, 8, 8], [256, 256, 1, 1], [24, 256, 8, 8]))).toBeUndefined()
  for (const perSample of [false, true]) {
    const read = (c: ConvCase) => winogradForm(c, { perSample, onlyRead: true })
    expect(read(caseOf(8, 64, 56, 56))).toBe('rows')
    expect(read(caseOf(8, 128, 28, 28))).toBe('rows')
    expect(read(caseOf(8, 256, 14, 14))).toBe('tiles')
    expect(read(caseOf(8, 512, 7, 7))).toBe(perSample ? undefined : 'tiles')
    expect(read(caseOf(1, 512, 7, 7))).toBeUndefined()
    expect(read(caseOf(8, 32, 56, 56))).toBeUndefined()
  }
  const mixed = (c: ConvCase) => winogradForm(c, { perSample: true, onlyRead: true })
  expect(mixed(caseOf(16, 256, 8, 8))).toBeUndefined()
  expect(mixed(caseOf(64, 256, 8, 8))).toBe('tiles')
  expect(mixed(caseOf(64, 512, 4, 4))).toBeUndefined()
  expect(winogradForm(caseOf(64, 256, 14, 14), { perSample: true, onlyRead: false })).toBeUndefined()
})

const fn = (x: Tensor, w: Tensor, bias: Tensor): readonly Tensor[] => {
  const y = conv2d(x, w, { padding: 1, bias }).add(x).relu()
  return [y, ...gradients(y.mul(y).sum(), [x, w])]
}
const channels = 256
const inputsOf = (batch: number, size: readonly [number, number]) => [randn([batch, channels, ...size], 1), randn([channels, channels, 3, 3], 2), randn([channels], 3)]

// The oracle would take a minute here.
test('several chunks agree with the plain layout', async () => {
  const plain = new OnnxBackend(engine, plainLayouts, {})
  const inputs = inputsOf(17, [16, 16])
  const graph = graphOf(fn, inputs)
  const [blocked, direct] = [await backend.compile(graph), await plain.compile(graph)]
  try {
    const [got, want] = [await blocked.run(inputs), await direct.run(inputs)]
    got.forEach((t, i) => {
      const reference = want[i]
      expect(reference && compare(t, toRef(reference), 16 * (9 * channels + 17 * 16 * 16))).toBeUndefined()
    })
  } finally {
    blocked.dispose()
    await plain.dispose()
  }
})

test.each([
  { name: 'even', batch: 24, size: [4, 4] },
  { name: 'odd', batch: 16, size: [5, 3] },
] as const)('agrees with the oracle: $name', async ({ batch, size }) => {
  const inputs = inputsOf(batch, size)
  // Twice the roundings of the direct sums: the transforms add and subtract once more on each side.
  expect(await difference(backend, { name: 'winograd', fn, inputs, roundings: 16 * (9 * channels + batch * size[0] * size[1]) })).toBeUndefined()
})

// Two convolutions whose kernels a program only reads: a bias and an activation; a bias, a sum and an activation.
class Net<T extends Conv2d | DynamicConv2d> extends Module {
  readonly first: T
  readonly second: T

  constructor(make: () => T) {
    super()
    this.first = make()
    this.second = make()
  }

  override forward(x: Tensor): Tensor {
    return this.second.forward(this.first.forward(x).relu()).add(x).clamp(-1, 1)
  }
}

test.each([
  { name: 'rows', channels: 64, size: [8, 4] },
  { name: 'rows that 4 does not divide', channels: 64, size: [5, 6] },
  { name: 'one row of tiles', channels: 64, size: [3, 3] },
] as const)('over rows, by kernels that are only read, agrees with the oracle: $name', async ({ channels: count, size }) => {
  expect(await differences('rows', count, size, undefined)).toEqual([])
})

// The oracle would take half a minute here.
test.each([
  { name: 'even', size: [12, 12] },
  { name: 'odd', size: [13, 11] },
] as const)('over tiles, by kernels that are only read, agrees with the plain layout: $name', async ({ size }) => {
  const plain = new OnnxBackend(engine, plainLayouts, {})
  expect(await differences('tiles', 256, size, plain)).toEqual([])
  await plain.dispose()
})

// Static, and with a kernel for every sample; against another backend, or the oracle.
async function differences(form: string, count: number, size: readonly [number, number], other: OnnxBackend | undefined): Promise<readonly string[]> {
  const found: string[] = []
  const layer = { inChannels: count, outChannels: count, kernelSize: 3, padding: 1, bias: true } as const
  const x = randn([8, count, ...size], 1)
  const inputs = [{ shape: x.shape }]
  for (const net of [new Net(() => new Conv2d(layer)), new Net(() => new DynamicConv2d({ ...layer, numBases: 3, form: 'kernels' }))]) {
    // Biases are 0 and mixtures uniform at the start: they would hide mistakes.
    for (const [name, p] of net.namedParameters()) if (p.data.shape.length < 4) p.data = randn(p.data.shape, name.length)
    const program = await compile(net, { backend, inputs })
    const reference = other && (await compile(net, { backend: other, inputs }))
    try {
      if (!program.explain().includes(`by Winograd over ${form}`)) found.push(program.explain())
      const [got] = await program.run([x])
      const [want] = reference ? (await reference.run([x])).map(toRef) : oracle(net, x)
      const difference = got ? compare(got, want, 2 * 9 * count) : 'no result'
      if (difference !== undefined) found.push(difference)
    } finally {
      program.dispose()
      reference?.dispose()
    }
  }
  return found
}

function oracle(net: Module, x: HostTensor): readonly ReturnType<typeof toRef>[] {
  const { graph } = traceModule(net, { inputs: [{ shape: x.shape }] })
  return evaluate(graph, [toRef(x)], new Map([...net.state()].map(([name, t]) => [name, toRef(t)]))).outputs
}
