// What the planner knows of a machine, and what the forms of a dynamic convolution cost by it. Both forms end in a
// convolution; form kernels mixes a kernel for every sample first, form outputs adds up K results afterwards (the counts of
// multiply-adds and bytes: core's passes/planDynamicConv.ts). So the model has two terms, multiply-adds at the rate of the
// convolution and bytes at the rate of the mixing, each with a rate for small and for large:
//
// - on narrow images the engine's convolution is slow, and more so with a kernel for every sample;
// - kernels that do not stay in the cache are written to memory and read again.

import type { DynamicConvCost, DynamicConvLayer, PlannedForm } from '@dynconv/core'

/** Multiply-adds per second. */
export interface ConvRates {
  readonly wide: number
  readonly narrow: number
}

/** The rates of one engine on one machine. */
export interface Rates {
  /** One kernel for all samples. */
  readonly shared: ConvRates
  /** A kernel for every sample. */
  readonly perSample: ConvRates
  /** Bytes per second of mixing kernels, written and read, as `extraBytes` counts them: in the cache, and beyond. */
  readonly mixing: { readonly cached: number; readonly streamed: number }
  /** Bytes per second of adding up results. */
  readonly summing: number
}

/** Images of at most this width are narrow. */
export const narrowWidth: number = 8

/** Kernels of all samples of at most this many bytes stay in the cache. */
export const cachedBytes: number = 8 * 2 ** 20

/** The names of all rates, for whoever checks a stored table. */
export function flatten(r: Rates): readonly number[] {
  return [r.shared.wide, r.shared.narrow, r.perSample.wide, r.perSample.narrow, r.mixing.cached, r.mixing.streamed, r.summing]
}

/**
 * Typical of two cores with AVX-512, measured with ONNX Runtime 1.30: for plans that must not depend on a measurement.
 */
export const typicalRates: Rates = {
  shared: { wide: 110e9, narrow: 100e9 },
  perSample: { wide: 110e9, narrow: 80e9 },
  mixing: { cached: 60e9, streamed: 25e9 },
  summing: 12e9,
}

/** The cost model of an engine with these rates. */
export function costOf(rates: Rates): DynamicConvCost {
  return { unit: 'seconds', estimate: (layer, form) => estimate(rates, layer, form) }
}

function estimate(rates: Rates, layer: DynamicConvLayer, form: PlannedForm): number {
  const width = Math.min(layer.inputSize[1], layer.outputSize[1])
  const kind = width <= narrowWidth ? 'narrow' : 'wide'
  const { batch, numBases, inChannels, outChannels, kernelSize, groups } = layer
  if (form === 'outputs') return layer.macs.outputs / rates.shared[kind] + layer.extraBytes.outputs / rates.summing
  const kernel = outChannels * (inChannels / groups) * kernelSize[0] * kernelSize[1]
  // Mixing is bound by its bytes: its own multiply-adds are not counted twice.
  const mixing = batch * numBases * kernel * (layer.op === 'dynamicConv2dKernelGrad' ? 2 : 1)
  const bytesRate = 4 * batch * kernel <= cachedBytes ? rates.mixing.cached : rates.mixing.streamed
  return Math.max(0, layer.macs.kernels - mixing) / rates.perSample[kind] + layer.extraBytes.kernels / bytesRate
}
