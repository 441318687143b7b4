// Pools, an output element for each invocation. Gradients are gathered: each pixel looks through the windows that cover it,
// p with p sh <= h + top < p sh + kh, that is p from ceil((h + top - kh + 1) / sh) to floor((h + top) / sh).

import type { DType, Pool2dAttrs } from '@dynconv/core'
import { itemKernel, type Kernel, loaded, reads, stored, type Target, writes } from '../wgsl/kernel.ts'
import { place } from '../wgsl/views.ts'

/** x [planes, H, W], y [planes, P, Q]; planes = N C. */
export interface PoolShape {
  readonly target: Target
  readonly dtype: DType
  readonly planes: number
  readonly inSize: readonly [height: number, width: number]
  readonly outSize: readonly [height: number, width: number]
  readonly attrs: Pool2dAttrs
}

// The window of (p, q) cut to the image: rows h0 to h1 - 1, columns w0 to w1 - 1.
function window({ attrs, inSize: [H, W] }: PoolShape, p: string, q: string): string {
  const [top, , left] = attrs.padding
  const [[sh, sw], [kh, kw]] = [attrs.stride, attrs.kernelSize]
  return `let h0 = max(${p} * ${sh} - ${top}, 0); let h1 = min(${p} * ${sh} - ${top} + ${kh}, ${H});
  let w0 = max(${q} * ${sw} - ${left}, 0); let w1 = min(${q} * ${sw} - ${left} + ${kw}, ${W});`
}

// A kernel with an item for each pixel (h, w) of `size` in each plane.
function pixelKernel(shape: PoolShape, label: string, inputs: readonly string[], output: string, size: readonly [number, number], [h, w]: readonly [string, string], body: string): Kernel {
  const { target, dtype, planes } = shape
  const [height, width] = size
  return itemKernel({
    label,
    target,
    bindings: [...reads(dtype, ...inputs), ...writes(dtype, output)],
    count: planes * height * width,
    body: `  ${place('item', [['plane', planes], [h, height], [w, width]])}
${body}`,
  })
}

// `visit` of every window (p, q) that covers pixel (h, w).
function covering({ attrs, outSize: [P, Q] }: PoolShape, visit: string): string {
  const [top, , left] = attrs.padding
  const [[sh, sw], [kh, kw]] = [attrs.stride, attrs.kernelSize]
  return `let p1 = min((h + ${top}) / ${sh}, ${P - 1});
  let q1 = min((w + ${left}) / ${sw}, ${Q - 1});
  for (var p = max(h + ${top} - ${kh} + ${sh}, 0) / ${sh}; p <= p1; p++) {
    for (var q = max(w + ${left} - ${kw} + ${sw}, 0) / ${sw}; q <= q1; q++) {
${visit}
    }
  }`
}

// The index of the first NaN or else first largest of the window of (p, q), in `best`.
function firstMax(shape: PoolShape): string {
  const [, W] = shape.inSize
  return `${window(shape, 'p', 'q')}
  var best = base + h0 * ${W} + w0;
  var largest = ${loaded('x[best]', shape.dtype, shape.target)};
  for (var r = h0; r < h1; r++) { for (var s = w0; s < w1; s++) {
    let at = base + r * ${W} + s;
    let v = ${loaded('x[at]', shape.dtype, shape.target)};
    if (!isNan(largest) && (v > largest || isNan(v))) { best = at; largest = v; }
  } }`
}

/** Bindings: x, y. */
export function maxPoolKernel(shape: PoolShape): Kernel {
  const { target, dtype, inSize } = shape
  const body = `  let base = plane * ${inSize[0] * inSize[1]};
  ${firstMax(shape)}
  y[item] = ${stored('largest', dtype, target)};`
  return pixelKernel(shape, 'maxPool2d', ['x'], 'y', shape.outSize, ['p', 'q'], body)
}

/** Each window's dy goes to its first largest pixel. Bindings: x, dy, dx. */
export function maxPoolGradKernel(shape: PoolShape): Kernel {
  const { target, dtype, inSize, outSize } = shape
  const body = `  let base = plane * ${inSize[0] * inSize[1]};
  var sum = 0.0;
  ${covering(
    shape,
    `  ${firstMax(shape)}
  if (best == i32(item)) { sum += ${loaded(`dy[(plane * ${outSize[0]} + p) * ${outSize[1]} + q]`, dtype, target)}; }`,
  )}
  dx[item] = ${stored('sum', dtype, target)};`
  return pixelKernel(shape, 'maxPool2dGrad', ['x', 'dy'], 'dx', shape.inSize, ['h', 'w'], body)
}

const windowSize = ({ attrs }: PoolShape, countIncludePad: boolean): string =>
  countIncludePad ? `${attrs.kernelSize[0] * attrs.kernelSize[1]}.0` : 'f32((h1 - h0) * (w1 - w0))'

/** Bindings: x, y. */
export function avgPoolKernel(shape: PoolShape, countIncludePad: boolean): Kernel {
  const { target, dtype, inSize } = shape
  const body = `  ${window(shape, 'p', 'q')}
  var sum = 0.0;
  for (var r = h0; r < h1; r++) { for (var s = w0; s < w1; s++) {
    sum += ${loaded(`x[(plane * ${inSize[0]} + r) * ${inSize[1]} + s]`, dtype, target)};
  } }
  let mean = sum / ${windowSize(shape, countIncludePad)};
  y[item] = ${stored('mean', dtype, target)};`
  return pixelKernel(shape, 'avgPool2d', ['x'], 'y', shape.outSize, ['p', 'q'], body)
}

/** Bindings: dy, dx. */
export function avgPoolGradKernel(shape: PoolShape, countIncludePad: boolean): Kernel {
  const { target, dtype, outSize } = shape
  const body = `  var sum = 0.0;
  ${covering(
    shape,
    `  ${window(shape, 'p', 'q')}
  sum += ${loaded(`dy[(plane * ${outSize[0]} + p) * ${outSize[1]} + q]`, dtype, target)} / ${windowSize(shape, countIncludePad)};`,
  )}
  dx[item] = ${stored('sum', dtype, target)};`
  return pixelKernel(shape, 'avgPool2dGrad', ['dy'], 'dx', shape.inSize, ['h', 'w'], body)
}
