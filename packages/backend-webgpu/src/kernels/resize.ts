// Resampling and its gradient, from tables. Along one axis output pixel j reads pixels lo[j] and hi[j] with the shares
// 1 - f[j] and f[j] (core/ops/resize.ts); the gradient needs for each pixel i the list of the (j, share) that read it.
// The tables are computed in float64 when the program is made.

import type { DType, ResizeMode } from '@dynconv/core'
import { itemKernel, type Kernel, loaded, reads, stored, type Target, writes } from '../wgsl/kernel.ts'
import { place } from '../wgsl/views.ts'

/** Which pixels of `from` each of `to` reads, and their shares. */
export interface AxisTable {
  readonly lo: readonly number[]
  readonly hi: readonly number[]
  readonly fraction: readonly number[]
}

/** The reads along one axis. */
export function axisTable(mode: ResizeMode, from: number, to: number): AxisTable {
  const all = Array.from({ length: to }, (_, j) => {
    if (mode === 'nearest') return { lo: Math.floor((j * from) / to), hi: Math.floor((j * from) / to), f: 0 }
    const t = Math.max(((j + 0.5) * from) / to - 0.5, 0)
    const lo = Math.min(Math.floor(t), from - 1)
    return { lo, hi: Math.min(lo + 1, from - 1), f: t - lo }
  })
  return { lo: all.map((r) => r.lo), hi: all.map((r) => r.hi), fraction: all.map((r) => r.f) }
}

/** The reads of one axis seen from the pixels: those of pixel i stand at starts[i] to starts[i + 1] - 1. */
export interface ReverseTable {
  readonly starts: readonly number[]
  readonly readers: readonly number[]
  readonly shares: readonly number[]
}

/** An axis table turned round. */
export function reverseTable({ lo, hi, fraction }: AxisTable, from: number): ReverseTable {
  const lists: { readonly j: number; readonly share: number }[][] = Array.from({ length: from }, () => [])
  lo.forEach((pixel, j) => {
    const f = fraction[j] ?? 0
    lists[pixel]?.push({ j, share: 1 - f })
    if (f !== 0) lists[hi[j] ?? 0]?.push({ j, share: f })
  })
  const starts = [0]
  for (const list of lists) starts.push((starts.at(-1) ?? 0) + list.length)
  return { starts, readers: lists.flatMap((l) => l.map((r) => r.j)), shares: lists.flatMap((l) => l.map((r) => r.share)) }
}

/** x [planes, ...inSize], y [planes, ...outSize] */
export interface ResizeShape {
  readonly target: Target
  readonly dtype: DType
  readonly planes: number
  readonly inSize: readonly [height: number, width: number]
  readonly outSize: readonly [height: number, width: number]
}

/** Bindings: x, pixels (int32: lo and hi of the rows, then of the columns), fractions (of rows, then columns), y. */
export function resizeKernel({ target, dtype, planes, inSize, outSize }: ResizeShape, mode: ResizeMode): Kernel {
  const [P, Q] = outSize
  const at = (r: string, s: string): string => loaded(`x[(plane * ${inSize[0]} + ${r}) * ${inSize[1]} + ${s}]`, dtype, target)
  const mix =
    mode === 'nearest'
      ? `let v = ${at('pixels[p]', `pixels[${2 * P} + q]`)};`
      : `let r0 = pixels[p]; let r1 = pixels[${P} + p]; let s0 = pixels[${2 * P} + q]; let s1 = pixels[${2 * P + Q} + q];
  let f = fractions[p];
  let g = fractions[${P} + q];
  let left = ${at('r0', 's0')} * (1.0 - f) + ${at('r1', 's0')} * f;
  let right = ${at('r0', 's1')} * (1.0 - f) + ${at('r1', 's1')} * f;
  let v = left * (1.0 - g) + right * g;`
  return itemKernel({
    label: 'resize',
    target,
    bindings: [...reads(dtype, 'x'), ...reads('int32', 'pixels'), ...reads('float32', 'fractions'), ...writes(dtype, 'y')],
    count: planes * P * Q,
    body: `  ${place('item', [['plane', planes], ['p', P], ['q', Q]])}
  ${mix}
  y[item] = ${stored('v', dtype, target)};`,
  })
}

/** Bindings: dy, starts (int32: of rows, then columns), readers (likewise), shares (likewise), dx. `rows` = readers of rows. */
export function resizeGradKernel({ target, dtype, planes, inSize, outSize }: ResizeShape, rows: number): Kernel {
  const [H, W] = inSize
  return itemKernel({
    label: 'resizeGrad',
    target,
    bindings: [...reads(dtype, 'dy'), ...reads('int32', 'starts', 'readers'), ...reads('float32', 'shares'), ...writes(dtype, 'dx')],
    count: planes * H * W,
    body: `  ${place('item', [['plane', planes], ['h', H], ['w', W]])}
  var sum = 0.0;
  for (var a = starts[h]; a < starts[h + 1]; a++) {
    var row = 0.0;
    for (var b = starts[${H + 1} + w]; b < starts[${H + 2} + w]; b++) {
      row += ${loaded(`dy[(plane * ${outSize[0]} + readers[a]) * ${outSize[1]} + readers[${rows} + b]]`, dtype, target)} * shares[${rows} + b];
    }
    sum += row * shares[a];
  }
  dx[item] = ${stored('sum', dtype, target)};`,
  })
}
