// The direct convolution with a kernel for every sample, each a mixture of bases. The batch lies side by side as groups of
// channels: [N, C, H, W] as [1, N C, H, W] is the same memory in blocks too. The mixed kernels come blocked straight from one
// product, pi [N, K] x bases [K, n], because mixing is linear and the bases are stored blocked.
//
// Where the kernels of all samples are large, they are mixed and used in pieces of output channels, so that a piece is still
// in the cache when the convolution reads it and the memory of one is the memory of the next: the engine runs what one input
// of Concat needs before what the next one does.

import { sizeOf } from '@dynconv/core'
import type { ModelBuilder } from '../model.ts'
import { conv, type Epilogue, finish } from './nchwc.ts'
import { type ConvCase, forwardWalk } from './support.ts'

/** What the kernels of the samples are mixed from. */
export interface Mixtures {
  /** [N, K] */
  readonly pi: string
  /** [K, O, I/g, kh, kw] in kernel layout. */
  readonly bases: string
  /** K. */
  readonly count: number
  /** Whether the program only reads the bases, so that what depends on them alone is computed once and not in every run. */
  readonly onlyRead: boolean
}

// Blocks of output channels that the engine's convolution computes together: with fewer of them it is slower (256@14 batch 8 in
// pieces of 4 and of 2 blocks takes 5.8 and 6.7 ms, whole 6.3).
const blocksTogether = 4

// Measured on 2 cores with AVX-512 and 2 MiB of second-level cache each, K = 4, 3x3, a layer in milliseconds, whole and in
// pieces:
//
//   batch 8:   512@7 12.2 and 9.8    256@14 6.3 and 5.8    128@28 (a piece is 2.4 MB, the result 3.2) 4.8 and 5.2
//   batch 16:  512@4 17 and 12       256@8 6.8 and 5.2     128@16 (9.4 MB of mixed kernels) 4.0 and 3.9
//   batch 64:  512@4 63 and 49       256@8 24 and 21       128@16 16.5 and 15.7
//
// A piece costs a further node, and putting the results together a further pass over them.
const leastMixedBytes = 16 * 2 ** 20
const leastKernelsToResults = 2
const leastBatch = 4
// Bases that the program changes are cut in every run: that moves 2 K numbers where mixing moves K + N.
const leastSamplesToBases = 4

/** How many output channels are mixed at a time: all, or as many as the engine's convolution computes together. */
export function channelsTogether(c: ConvCase, { count, onlyRead }: Pick<Mixtures, 'count' | 'onlyRead'>, block: number): number {
  const piece = blocksTogether * block
  const kernel = c.outChannels * c.inChannels * c.rows.kernel * c.columns.kernel
  const gains =
    c.groups === 1 &&
    c.outChannels > piece &&
    c.outChannels % piece === 0 &&
    c.batch >= (onlyRead ? leastBatch : leastSamplesToBases * count) &&
    4 * c.batch * kernel >= leastMixedBytes &&
    kernel >= leastKernelsToResults * c.outChannels * c.rows.output * c.columns.output
  return gains ? piece : c.outChannels
}

/**
 * The convolution of `x` (blocked; plain for a stem) by the mixed kernels, blocked [N, O, P, Q]. The bias is [N O], the sum
 * blocked.
 */
export function convPerSample(model: ModelBuilder, c: ConvCase, x: string, mixtures: Mixtures, block: number, extra: Epilogue = {}): string {
  const { pi, bases, count } = mixtures
  const { batch, outChannels, rows, columns } = c
  const [height, width] = [rows.output, columns.output]
  const [inPerGroup, kernelSize] = [c.inChannels / c.groups, [rows.kernel, columns.kernel]]
  const images = model.reshape(x, [1, batch * c.inChannels, rows.input, columns.input])
  const some = (kernels: string, channels: number, epilogue: Epilogue): string => {
    const mixed = model.op('MatMul', [pi, model.reshape(kernels, [count, channels * inPerGroup * sizeOf(kernelSize)])])
    const y = conv(model, images, model.reshape(mixed, [batch * channels, inPerGroup, ...kernelSize]), forwardWalk(c, batch * c.groups), epilogue)
    return model.reshape(y, [batch, channels, height, width])
  }
  const together = channelsTogether(c, mixtures, block)
  if (together === outChannels) {
    return some(bases, outChannels, { ...extra, sum: extra.sum === undefined ? undefined : model.reshape(extra.sum, [1, batch * outChannels, height, width]) })
  }
  const view = model.reshape(bases, [count, outChannels, inPerGroup, ...kernelSize])
  const bias = extra.bias === undefined ? undefined : model.reshape(extra.bias, [batch, outChannels])
  // A sum is added to all pieces at once, and an activation must wait for it.
  const activation = extra.sum === undefined ? extra.activation : undefined
  const pieces = Array.from({ length: outChannels / together }, (_, i) => {
    const cut = (name: string): string => model.slice(name, [i * together], [(i + 1) * together], [1])
    return some(cut(view), together, { bias: bias === undefined ? undefined : model.reshape(cut(bias), [batch * together]), activation })
  })
  const y = model.concat(pieces, 1)
  return extra.sum === undefined ? y : finish(model, y, outChannels, extra)
}
