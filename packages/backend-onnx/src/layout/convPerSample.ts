// The direct convolution with a kernel for every sample, each a mixture of bases. The batch lies side by side as groups of
// channels: [N, C, H, W] as [1, N C, H, W] is the same memory in blocks too. The mixed kernels come blocked straight from one
// product, pi [N, K] x bases [K, n], because mixing is linear and the bases are stored blocked.
//
// Where the kernels of all samples are large, they are mixed and used in pieces of output channels, and of samples where the
// batch is large, so that a piece is still in the cache when the convolution reads it and the memory of one is the memory of the
// next: the engine runs what one input of Concat needs before what the next one does.

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
  /** How many threads mix them. */
  readonly threads: number
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

// At 512@4 batch 64 a piece of 64 channels has 75 MB. On 2 cores of an AMD EPYC with 32 MiB of third-level cache, four layers take
// 308 ms with all samples at once, 164 with 8 of them, 161 with 16, 215 with 32.
const mostPieceBytes = 16 * 2 ** 20
const leastSamples = 4

/** Into how many parts `units` are cut so that threads have whole parts of their own, each of at least so many units. */
export function partsFor(threads: number, units: number, least: number = 1): number {
  let parts = Math.max(1, Math.min(threads, Math.floor(units / least)))
  while (threads % parts !== 0 || units % parts !== 0) parts--
  return parts
}

/** How many samples' kernels are mixed at a time, if those of so many output channels are. */
export function samplesTogether(c: ConvCase, channels: number): number {
  if (channels === c.outChannels) return c.batch
  const bytes = 4 * channels * c.inChannels * c.rows.kernel * c.columns.kernel
  let samples = c.batch
  while (samples % (2 * leastSamples) === 0 && samples * bytes > mostPieceBytes) samples /= 2
  return samples
}

/**
 * Kernels mixed by pi [N, K] from one of `places` bases [K, n], which lie one after another in a tensor of any shape: [N, n], or
 * [1, parts, N/parts, n] where parts of the batch are products of their own, one for each thread.
 *
 * The engine gives each thread a part of a product's columns, or one of several products, but samples of a convolution: of one
 * product, half of what a core reads then lies in the cache of another. Where cores do not share a cache (a virtual machine's
 * change from second to second: here between 55 and 320 ns for a line to go there and back) that takes longer than all else.
 * Parts are the threads' own samples; the price is that each thread reads all bases. Four layers at batch 8 on 2 cores of an AMD
 * EPYC, while they share a cache and while they do not, in milliseconds:
 *
 *                     one product    halves
 *   512@7 by tiles       41  133      48   60
 *   256@14 by tiles      27           27
 *   128@28 by rows       22           22
 *   64@56 by rows        24   30      23   28
 *
 * (Pieces of output channels have another way: their parts are of channels.)
 */
export function mixedAt(model: ModelBuilder, { pi, bases, count, threads }: Mixtures, batch: number, places: number, numbers: number): (place: number) => string {
  const parts = partsFor(threads, batch, leastSamples)
  const rows = parts === 1 ? pi : model.reshape(pi, [parts, batch / parts, count])
  // The bases have more axes than pi, for the engine would make one product of them else.
  const apart = model.reshape(bases, [places, ...(parts === 1 ? [] : [1, 1]), count, numbers])
  return (place) => model.op('MatMul', [rows, placeOf(model, apart, place)])
}

/** One place of kernels [places, ...]. */
export function placeOf(model: ModelBuilder, kernels: string, place: number): string {
  return model.op('Gather', [kernels, model.int(place)], { axis: 0 })
}

/** The convolution of `x` (blocked; plain for a stem) by a kernel for every sample, [N, O, I/g, kh, kw] in kernel layout and of any shape. */
export function convByKernels(model: ModelBuilder, c: ConvCase, x: string, kernels: string, extra: Epilogue = {}): string {
  const { batch, outChannels, rows, columns } = c
  const images = model.reshape(x, [1, batch * c.inChannels, rows.input, columns.input])
  const weight = model.reshape(kernels, [batch * outChannels, c.inChannels / c.groups, rows.kernel, columns.kernel])
  const sum = extra.sum === undefined ? undefined : model.reshape(extra.sum, [1, batch * outChannels, rows.output, columns.output])
  return model.reshape(conv(model, images, weight, forwardWalk(c, batch * c.groups), { ...extra, sum }), [batch, outChannels, rows.output, columns.output])
}

/**
 * The convolution of `x` (blocked; plain for a stem) by the mixed kernels, blocked [N, O, P, Q]. The bias is [N O], the sum
 * blocked.
 */
export function convPerSample(model: ModelBuilder, c: ConvCase, x: string, mixtures: Mixtures, block: number, extra: Epilogue = {}): string {
  const { bases, count } = mixtures
  const { batch, outChannels, rows, columns } = c
  const [height, width] = [rows.output, columns.output]
  const [inPerGroup, kernelSize] = [c.inChannels / c.groups, [rows.kernel, columns.kernel]]
  const numbersOf = (channels: number): number => channels * inPerGroup * sizeOf(kernelSize)
  const channels = channelsTogether(c, mixtures, block)
  if (channels === outChannels) {
    return convByKernels(model, c, x, model.op('MatMul', [mixtures.pi, model.reshape(bases, [count, numbersOf(outChannels)])]), extra)
  }
  const samples = samplesTogether(c, channels)
  // Parts of each piece's channels, each a product of its own and the convolutions of a part of the groups, so that threads use
  // what they have mixed (see `mixedAt`). The images stand there for each part. Four layers of 512@7 batch 8 with two threads take
  // 44 ms whether the cores share a cache or not; by one product 41 and 110, by halves of the batch 46 and 53.
  const shares = partsFor(mixtures.threads, channels / block)
  const share = channels / shares
  const sharesFirst = (name: string): string => (shares === 1 ? name : model.transpose(name, [1, 0, 2]))
  const parts = Array.from({ length: batch / samples }, (_, i) => {
    const cut = (name: string): string => (samples === batch ? name : model.slice(name, [i * samples], [(i + 1) * samples], [0]))
    const bias = extra.bias === undefined ? undefined : cut(model.reshape(extra.bias, [batch, outChannels]))
    const once = model.reshape(cut(x), [1, samples * c.inChannels, rows.input, columns.input])
    return { images: model.concat(new Array<string>(shares).fill(once), 1), pi: cut(mixtures.pi), bias }
  })
  const view = model.reshape(bases, [count, outChannels, inPerGroup, ...kernelSize])
  // A sum is added to all pieces at once, and an activation must wait for it.
  const activation = extra.sum === undefined ? extra.activation : undefined
  const pieces = Array.from({ length: outChannels / channels }, (_, i) => {
    const cut = (name: string): string => model.slice(name, [i * channels], [(i + 1) * channels], [1])
    const kernels = sharesFirst(model.reshape(cut(view), shares === 1 ? [count, numbersOf(share)] : [count, shares, numbersOf(share)]))
    const ys = parts.map(({ images, pi, bias }) => {
      const weight = model.op('MatMul', [pi, kernels])
      const own = bias === undefined ? undefined : model.reshape(sharesFirst(model.reshape(cut(bias), [samples, shares, share])), [samples * channels])
      const y = conv(model, images, model.reshape(weight, [samples * channels, inPerGroup, ...kernelSize]), forwardWalk(c, shares * samples), { bias: own, activation })
      return model.reshape(y, [shares, samples, share * height * width])
    })
    return model.concat(ys, 1)
  })
  const y = model.reshape(model.transpose(model.concat(pieces, 0), [1, 0, 2]), [batch, outChannels, height, width])
  return extra.sum === undefined ? y : finish(model, y, outChannels, extra)
}
