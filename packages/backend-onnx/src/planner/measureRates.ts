// Measures the rates that the planner reads: a handful of tiny models, each run a few times, in about half a second.

import { ModelBuilder } from '../model.ts'
import { conv, type Nchwc, pointwise } from '../layout/nchwc.ts'
import type { Engine, OrtTensor } from '../session.ts'
import { cachedBytes, type Rates } from './rates.ts'

const runs = 4
const samples = 8
const numBases = 4

/** The rates of `engine`, on blocked values where it has them. */
export async function measureRates(engine: Engine, nchwc: Nchwc | undefined): Promise<Rates> {
  // Channels of wide and narrow images, so that each takes a millisecond or two.
  const wide = { channels: 64, size: 28 }
  const narrow = { channels: 128, size: 4 }
  const rate = async ({ channels, size }: typeof wide, perSample: boolean): Promise<number> => {
    const seconds = await time(engine, (inputs) => convolution(inputs, nchwc, channels, size, perSample))
    return (samples * channels * channels * 9 * size * size) / seconds
  }
  const mixing = async (elements: number): Promise<number> => {
    const seconds = await time(engine, ({ model, input }) => model.op('MatMul', [input([samples, numBases]), input([numBases, elements])]))
    return (2 * 4 * samples * elements) / seconds
  }
  const results = 2 ** 16
  return {
    shared: { wide: await rate(wide, false), narrow: await rate(narrow, false) },
    perSample: { wide: await rate(wide, true), narrow: await rate(narrow, true) },
    mixing: { cached: await mixing(cachedBytes / (8 * samples)), streamed: await mixing((4 * cachedBytes) / (4 * samples)) },
    summing:
      (2 * 4 * samples * numBases * results) /
      (await time(engine, ({ model, input }) => model.op('MatMul', [input([samples, 1, numBases]), input([samples, numBases, results])]))),
  }
}

interface Inputs {
  readonly model: ModelBuilder
  /** A new float32 input. */
  readonly input: (shape: readonly number[]) => string
}

function convolution({ model, input }: Inputs, nchwc: Nchwc | undefined, channels: number, size: number, perSample: boolean): string {
  const [batch, groups] = perSample ? [1, samples] : [samples, 1]
  const x = input([batch, groups * channels, size, size])
  const weight = input([groups * channels, channels, 3, 3])
  const pads = [1, 1, 1, 1] as const
  if (nchwc) return conv(model, x, weight, { ...pointwise, kernelSize: [3, 3], pads, groups })
  return model.op('Conv', [x, weight], { pads, group: groups })
}

// Seconds of the fastest run of a model. Its result is cut down to one number: copying it out would count too.
async function time(engine: Engine, build: (inputs: Inputs) => string): Promise<number> {
  const model = new ModelBuilder()
  const feeds: Record<string, OrtTensor> = {}
  const input = (shape: readonly number[]): string => {
    const name = model.input(model.unique('x').concat('.in'), 'float32', shape)
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i % 7) - 3)
    feeds[name] = new engine.ort.Tensor('float32', data, shape)
    return name
  }
  const result = build({ model, input })
  const flat = model.op('Reshape', [result, model.ints([-1])])
  model.output('y', model.slice(flat, [0], [1], [0]), 'float32', [1])
  const session = await engine.createSession(model.encode())
  try {
    await session.run(feeds)
    let best = Number.POSITIVE_INFINITY
    for (let i = 0; i < runs; i++) {
      const start = performance.now()
      await session.run(feeds)
      best = Math.min(best, performance.now() - start)
    }
    return best / 1000
  } finally {
    await session.release()
  }
}
