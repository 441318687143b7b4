// Asks the running engine whether it has the blocked layout, with which block, and whether its numbers are right. All
// numbers of the check are small integers, exact in float32, so the comparison is exact too.

import { fromNumbers } from '@dynconv/core'
import { ModelBuilder } from '../model.ts'
import type { Engine } from '../session.ts'
import { toKernelLayout } from './host.ts'
import { conv, globalAverage, type Nchwc, reorderInput, reorderOutput } from './nchwc.ts'

const channels = 32
const size = 4
const image = [1, channels, size, size] as const
const kernel = [channels, channels, 3, 3] as const
const pixels = size * size

let probed: Promise<Nchwc | undefined> | undefined

/** The engine's blocked layout; undefined where it has none, or one that this library does not know. Asked once a process. */
export function probeNchwc(engine: Engine): Promise<Nchwc | undefined> {
  probed ??= probe(engine)
  return probed
}

async function probe(engine: Engine): Promise<Nchwc | undefined> {
  const x = pattern(image)
  const plainWeight = pattern(kernel)
  try {
    const session = await engine.createSession(probeModel())
    try {
      const run = async (weight: Float32Array): Promise<Readonly<Record<string, Float32Array>>> => {
        const feeds = { x: new engine.ort.Tensor('float32', x, image), w: new engine.ort.Tensor('float32', weight, kernel) }
        const results = await session.run(feeds)
        // Boundary: the model's outputs are float32, so their data are Float32Arrays.
        return Object.fromEntries(Object.entries(results).map(([name, t]) => [name, t.data as Float32Array]))
      }
      const { blocked } = await run(plainWeight)
      const block = blocked && [16, 8].find((b) => same(blocked, blockedOrder(x, b)))
      if (!block) return undefined
      const weight = toKernelLayout(fromNumbers('float32', kernel, plainWeight), block)
      const { y, mean } = await run(Float32Array.from(weight.data))
      const expected = reference(x, plainWeight)
      return y && mean && same(y, expected.y) && same(mean, expected.mean) ? { block } : undefined
    } finally {
      await session.release()
    }
  } catch {
    // A build without the domain refuses the model: that is an answer, not a failure.
    return undefined
  }
}

// blocked = x reordered; y = relu(conv3x3(x, w) + bias + x) back in plain order, bias[c] = c; mean = means of x.
function probeModel(): Uint8Array {
  const model = new ModelBuilder()
  const x = model.input('x', 'float32', image)
  const w = model.input('w', 'float32', kernel)
  const blocked = reorderInput(model, x)
  const bias = model.constant(fromNumbers('float32', [channels], Array.from({ length: channels }, (_, c) => c)))
  const walk = { kernelSize: [3, 3], stride: [1, 1], pads: [1, 1, 1, 1], dilation: [1, 1], groups: 1 } as const
  const y = conv(model, blocked, w, walk, { bias, sum: blocked, activation: 'relu' })
  model.output('blocked', blocked, 'float32', image)
  model.output('y', reorderOutput(model, y, channels), 'float32', image)
  model.output('mean', globalAverage(model, blocked), 'float32', [1, channels, 1, 1])
  return model.encode()
}

function pattern(shape: readonly number[]): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1)
  return Float32Array.from({ length: count }, (_, i) => ((i * 7 + (i >> 4) * 3) % 17) - 8)
}

function blockedOrder(x: Float32Array, block: number): Float32Array {
  return Float32Array.from({ length: x.length }, (_, i) => {
    const [inBlock, rest] = [i % block, Math.floor(i / block)]
    const [pixel, first] = [rest % pixels, Math.floor(rest / pixels)]
    return x[(first * block + inBlock) * pixels + pixel] ?? 0
  })
}

function reference(x: Float32Array, w: Float32Array): { readonly y: Float32Array; readonly mean: Float32Array } {
  const y = new Float32Array(x.length)
  const mean = new Float32Array(channels)
  for (let i = 0; i < x.length; i++) {
    const [o, row, column] = [Math.floor(i / pixels), Math.floor((i % pixels) / size), i % size]
    let sum = o + (x[i] ?? 0)
    for (let j = 0; j < w.length / channels; j++) {
      const [c, r, s] = [Math.floor(j / 9), row + Math.floor((j % 9) / 3) - 1, column + (j % 3) - 1]
      if (r < 0 || r >= size || s < 0 || s >= size) continue
      sum += (x[c * pixels + r * size + s] ?? 0) * (w[(o * w.length) / channels + j] ?? 0)
    }
    y[i] = Math.max(0, sum)
    mean[o] = (mean[o] ?? 0) + (x[i] ?? 0) / pixels
  }
  return { y, mean }
}

function same(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((v, i) => v === b[i])
}
