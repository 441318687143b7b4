// How decided the routings are: for each dynamic layer the entropy of its mixture, averaged over some images.
//
//   p_b = pi_b / sum_k pi_bk        H = -1/B sum_b sum_k p_bk log p_bk / log K        (sigmoid mixtures are normalised first)
//
// 1: all bases equally (the layer is an ordinary convolution with their mean); 0: one basis for each image.

import { type Backend, type Compiled, compile, type HostTensor, type Module, ShapeError, toFloat64, type Training } from '@dynconv/core'

/** The entropy of mixtures [B, K], as a fraction of log K; 0 for K = 1. @throws ShapeError for another rank */
export function meanEntropy(pi: HostTensor): number {
  const [batch, bases] = pi.shape
  if (batch === undefined || bases === undefined || pi.shape.length !== 2) throw new ShapeError(`entropy: expected mixtures [B, K], got [${pi.shape.join(', ')}]`)
  if (bases === 1 || batch === 0) return 0
  const values = toFloat64(pi)
  let sum = 0
  for (let b = 0; b < batch; b++) {
    const row = values.subarray(b * bases, (b + 1) * bases)
    const total = row.reduce((x, y) => x + y, 0)
    for (const v of row) if (v > 0) sum -= (v / total) * Math.log(v / total)
  }
  return sum / batch / Math.log(bases)
}

/** Looks at the routings of a network in training, always on the same images. */
export class RoutingWatch {
  readonly #compiled: Compiled
  readonly #images: HostTensor

  private constructor(compiled: Compiled, images: HostTensor) {
    this.#compiled = compiled
    this.#images = images
  }

  /** Compiles `net` once, with its mixtures as outputs. */
  static async create(net: Module, backend: Backend, images: HostTensor): Promise<RoutingWatch> {
    return new RoutingWatch(await compile(net, { backend, inputs: [{ shape: images.shape }], taps: true }), images)
  }

  /** The entropy of each layer's mixture as the network is now, by the layer's path. */
  async look(training: Training): Promise<{ readonly [layer: string]: number }> {
    const { state, outputs } = this.#compiled
    for (const name of state.names) await state.write(name, await training.read(name))
    const values = await this.#compiled.run([this.#images])
    return Object.fromEntries(
      outputs.flatMap((name, i) => {
        const value = values[i]
        const layer = TAP.exec(name)?.[1]
        return layer === undefined || !value ? [] : [[layer, meanEntropy(value)]]
      }),
    )
  }

  dispose(): void {
    this.#compiled.dispose()
  }
}

// `tap:layer1.0.conv1.routing.pi` is the mixture of `layer1.0.conv1`.
const TAP = /^tap:(.*?)\.?(?:routing\.)?pi$/
