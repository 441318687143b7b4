// Statistics of batch normalisation over x [N, C, pixels], in two steps: each plane (n, c) by itself, then the planes of a
// channel. A plane's mean comes first and its squared deviations from that mean second, and planes are merged as Chan,
// Golub & LeVeque (1979) say, so that a mean far from 0 costs no digits:
//   mean = sum_n mean_n / N        M v = sum_n (M2_n + pixels (mean_n - mean)^2),   M = N pixels
//
// With r = 1 / sqrt(v + epsilon), the gradient takes dbeta = sum dy and dgamma = sum dy (x - mean) r, summed likewise, and
//   dx = factor (dy - offset - slope (x - mean)),   factor = gamma r, offset = dbeta / M, slope = r dgamma / M

import type { DType } from '@dynconv/core'
import { combineLanes, itemKernel, type Kernel, lanesFor, literal, loaded, reads, rowKernel, sharedLanes, stored, type Target, valueType, writes } from '../wgsl/kernel.ts'

/** x [batch, channels, pixels] */
export interface NormShape {
  readonly target: Target
  readonly dtype: DType
  readonly batch: number
  readonly channels: number
  readonly pixels: number
}

// How a plane is read: four pixels at a time where they divide so.
function lineOf(pixels: number) {
  const width = pixels % 4 === 0 ? 4 : 1
  const type = valueType('float32', width)
  return { width, length: pixels / width, type, zero: `${type}(0.0)`, total: (sum: string): string => (width === 4 ? `dot(${sum}, vec4<f32>(1.0))` : sum) } as const
}

/** Of each plane its mean and the sum of squared deviations from it. Bindings: x, part (float32 [N, C, 2]). */
export function planeStatisticsKernel({ target, dtype, batch, channels, pixels }: NormShape): Kernel {
  const lanes = lanesFor(target, pixels)
  const { width, length, type, zero, total } = lineOf(pixels)
  const load = loaded(`x[row * ${length}u + i]`, dtype, target, width)
  const loop = (statement: string): string => `  for (var i = first; i < ${length}u; i += ${lanes}u) { ${statement} }`
  const add = (a: string, b: string): string => `${a} + ${b}`
  return rowKernel({
    label: 'batchNorm planes',
    target,
    bindings: [{ name: 'x', dtype, width }, ...writes('float32', 'part')],
    declarations: sharedLanes('lanes', 'f32', lanes),
    rows: batch * channels,
    lanes,
    body: `  var sums = ${zero};
${loop(`sums += ${load};`)}
  var sum = ${total('sums')};
${combineLanes(target, 'sum', 'lanes', lanes, add)}
  let mean = sum / ${pixels}.0;
  sums = ${zero};
${loop(`let d = ${load} - ${type}(mean); sums += d * d;`)}
  var squares = ${total('sums')};
${combineLanes(target, 'squares', 'lanes', lanes, add)}
  ${lanes === 1 ? '' : 'if (lane == 0u) '}{ part[row * 2u] = mean; part[row * 2u + 1u] = squares; }`,
  })
}

/** Mean, biased variance and r of each channel. Bindings: part, mean, variance, r. */
export function channelStatisticsKernel({ target, dtype, batch, channels, pixels }: NormShape, epsilon: number): Kernel {
  return itemKernel({
    label: 'batchNorm channels',
    target,
    bindings: [...reads('float32', 'part'), ...writes(dtype, 'mean', 'variance', 'r')],
    count: channels,
    body: `  var sum = 0.0;
  for (var n = 0u; n < ${batch}u; n++) { sum += part[(n * ${channels}u + item) * 2u]; }
  let m = sum / ${batch}.0;
  var squares = 0.0;
  for (var n = 0u; n < ${batch}u; n++) {
    let at = (n * ${channels}u + item) * 2u;
    let d = part[at] - m;
    squares += part[at + 1u] + d * d * ${pixels}.0;
  }
  let v = squares / ${batch * pixels}.0;
  mean[item] = ${stored('m', dtype, target)};
  variance[item] = ${stored('v', dtype, target)};
  let deviation = inverseSqrt(v + ${literal(epsilon, 'float32')});
  r[item] = ${stored('deviation', dtype, target)};`,
  })
}

/** Of each plane sum dy and sum dy (x - mean). Bindings: x, dy, mean, part. */
export function planeGradientsKernel({ target, dtype, batch, channels, pixels }: NormShape): Kernel {
  const lanes = lanesFor(target, pixels)
  const { width, length, type, zero, total } = lineOf(pixels)
  const at = `[row * ${length}u + i]`
  return rowKernel({
    label: 'batchNormGrad planes',
    target,
    bindings: [{ name: 'x', dtype, width }, { name: 'dy', dtype, width }, ...reads(dtype, 'mean'), ...writes('float32', 'part')],
    declarations: sharedLanes('lanes', 'vec2<f32>', lanes),
    rows: batch * channels,
    lanes,
    body: `  let m = ${loaded(`mean[row % ${channels}u]`, dtype, target)};
  var ofDy = ${zero};
  var ofProducts = ${zero};
  for (var i = first; i < ${length}u; i += ${lanes}u) {
    let g = ${loaded(`dy${at}`, dtype, target, width)};
    ofDy += g;
    ofProducts += g * (${loaded(`x${at}`, dtype, target, width)} - ${type}(m));
  }
  var sums = vec2<f32>(${total('ofDy')}, ${total('ofProducts')});
${combineLanes(target, 'sums', 'lanes', lanes, (a, b) => `${a} + ${b}`)}
  ${lanes === 1 ? '' : 'if (lane == 0u) '}{ part[row * 2u] = sums.x; part[row * 2u + 1u] = sums.y; }`,
  })
}

/** Of each channel the gradients and what dx is made of. Bindings: part, variance, gamma, dgamma, dbeta, factor, offset, slope. */
export function channelGradientsKernel({ target, dtype, batch, channels, pixels }: NormShape, epsilon: number): Kernel {
  const load = (element: string): string => loaded(element, dtype, target)
  const results = { dgamma: 'sums.y * r', dbeta: 'sums.x', factor: `${load('gamma[item]')} * r`, offset: 'sums.x / count', slope: 'sums.y * r * r / count' }
  return itemKernel({
    label: 'batchNormGrad channels',
    target,
    bindings: [...reads('float32', 'part'), ...reads(dtype, 'variance', 'gamma'), ...writes(dtype, ...Object.keys(results))],
    count: channels,
    body: `  var sums = vec2<f32>(0.0);
  for (var n = 0u; n < ${batch}u; n++) {
    let at = (n * ${channels}u + item) * 2u;
    sums += vec2<f32>(part[at], part[at + 1u]);
  }
  let count = ${batch * pixels}.0;
  let r = inverseSqrt(${load('variance[item]')} + ${literal(epsilon, 'float32')});
  ${Object.entries(results).map(([name, value]) => `${name}[item] = ${stored(value, dtype, target)};`).join('\n  ')}`,
  })
}
