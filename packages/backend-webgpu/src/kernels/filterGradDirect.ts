// The filter gradient for adapters that run on a processor: an invocation keeps the gradients of a few input channels times
// some rows of the kernel times vec4s of output channels in registers, and walks over the pixels of dy, several at a time:
//
//   dw[o, i, r, s] += x[n, c(o) + i, p sh - top + r dh, q sw - left + s dw] dy[n, o, p, q]
//
// The samples of a dispatch are summed up in `split` parts, or each has a result of its own.

import { kernel, type Kernel, loaded, range, stored } from '../wgsl/kernel.ts'
import { type ConvShape, perGroup, weightSize } from './convShape.ts'

const workgroup = 32
// Accumulators (vec4s) and multiply-adds of the unrolled text.
const maxAccumulators = 72
const maxUnrolled = 600

/** The register tile of an invocation. */
export interface GradTile {
  readonly channels: number
  readonly kernelRows: number
  readonly quads: number
  /** Pixels of a row of dy at a time. */
  readonly pixels: number
}

/** A tile for this convolution; undefined where a single row of the kernel is too long. */
export function gradTileFor(shape: ConvShape): GradTile | undefined {
  const [ig, og] = perGroup(shape)
  const [kh, kw] = shape.kernelSize
  const quads = Math.ceil(og / 4) % 2 === 0 ? 2 : 1
  if (kw * quads > maxAccumulators / 2) return undefined
  const kernelRows = kh * kw <= 9 ? kh : 1
  const channels = [4, 2, 1].find((c) => ig % c === 0 && c * kernelRows * kw * quads <= maxAccumulators) ?? 1
  const width = shape.outSize[1]
  const most = Math.max(1, Math.min(7, Math.floor(maxUnrolled / (channels * kernelRows * kw * quads))))
  const sizes = Array.from({ length: most }, (_, i) => i + 1)
  const pixels = sizes.reduce((best, t) => (Math.ceil(width / t) * t <= Math.ceil(width / best) * best * 1.05 ? t : best), 1)
  return { channels, kernelRows, quads, pixels }
}

/** Bindings: x, dy, dw (one after another for each part or sample; float32 where there are several parts). */
export function filterGradDirectKernel(shape: ConvShape, samples: { readonly first: number; readonly count: number }, tile: GradTile, split: number): Kernel {
  const { target, dtype, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[H, W], [P, Q], [kh, kw]] = [inSize, outSize, kernelSize]
  const [[sh, sw], [dh, dw], [top, , left]] = [attrs.stride, attrs.dilation, attrs.padding]
  const [blocksO, blocksI, blocksR] = [Math.ceil(og / 4) / tile.quads, ig / tile.channels, Math.ceil(kh / tile.kernelRows)]
  const perPart = blocksO * blocksI * blocksR * attrs.groups
  const parts = perSample ? samples.count : split
  const samplesOfPart = perSample ? 1 : Math.ceil(samples.count / split)
  const all = (f: (i: number, r: number, s: number, v: number) => string): string =>
    range(tile.channels).flatMap((i) => range(tile.kernelRows).flatMap((r) => range(kw).flatMap((s) => range(tile.quads).map((v) => f(i, r, s, v))))).join(' ')
  // Columns of x that the pixels of a tile read, relative to the first pixel's first.
  const columns = [...new Set(range(tile.pixels).flatMap((q) => range(kw).map((s) => q * sw + s * dw - left)))].sort((a, b) => a - b)
  const loadDy = range(tile.pixels).flatMap((q) =>
    range(tile.quads).map((v) => {
      const parts4 = range(4).map((c) => {
        const channel = v * 4 + c
        const value = loaded(`dy[di + ${channel * P * Q + q}]`, dtype, target)
        const ok = [...(Q % tile.pixels && q ? [`(q0 + ${q} < ${Q})`] : []), ...(og % (4 * tile.quads) ? [`(o0 + ${channel} < ${og})`] : [])]
        return ok.length ? `select(0.0, ${value}, ${ok.join(' & ')})` : value
      })
      return `let d${q}_${v} = vec4<f32>(${parts4.join(', ')});`
    }),
  )
  const loadColumns = columns.map((offset, c) => `let at${c} = q0 * ${sw} + ${offset}; let ok${c} = (at${c} >= 0) & (at${c} < ${W}); let column${c} = clamp(at${c}, 0, ${Math.max(0, W - 1)});`)
  const products = range(tile.kernelRows).map((r) => {
    const lines = [`let h${r} = p * ${sh} + (r0 + ${r}) * ${dh} - ${top}; let rowOk${r} = (h${r} >= 0) & (h${r} < ${H})${kh % tile.kernelRows ? ` & (r0 + ${r} < ${kh})` : ''}; let row${r} = clamp(h${r}, 0, ${Math.max(0, H - 1)}) * ${W};`]
    for (const i of range(tile.channels)) {
      columns.forEach((offset, c) => {
        lines.push(`let x${r}_${i}_${c} = select(0.0, ${loaded(`x[xi + ${i * H * W} + row${r} + column${c}]`, dtype, target)}, rowOk${r} & ok${c});`)
        for (const q of range(tile.pixels)) {
          for (const s of range(kw)) {
            if (q * sw + s * dw - left !== offset) continue
            for (const v of range(tile.quads)) lines.push(`a${i}_${r}_${s}_${v} += x${r}_${i}_${c} * d${q}_${v};`)
          }
        }
      })
    }
    return lines.join('\n        ')
  })
  const stores = range(tile.quads).flatMap((v) =>
    range(4).map((c) => {
      const o = v * 4 + c
      const inner = range(tile.channels).flatMap((i) =>
        range(tile.kernelRows).map((r) => {
          const row = range(kw).map((s) => {
            const at = `to + ${(o * ig + i) * kh * kw + r * kw + s}`
            const value = `a${i}_${r}_${s}_${v}.${'xyzw'[c]}`
            return `dw[${at}] = ${split > 1 ? value : stored(value, dtype, target)};`
          })
          return kh % tile.kernelRows ? `if (r0 + ${r} < ${kh}) { ${row.join(' ')} }` : row.join(' ')
        }),
      )
      const guard = og % (4 * tile.quads) ? `if (o0 + ${o} < ${og}) ` : ''
      return `  ${guard}{ ${inner.join(' ')} }`
    }),
  )
  const body = `  let item = group.x * ${workgroup}u + lane;
  if (item >= ${perPart}u) { return; }
  let part = i32(group.y);
  let o0 = i32(item % ${blocksO}u) * ${4 * tile.quads};
  let i0 = i32((item / ${blocksO}u) % ${blocksI}u) * ${tile.channels};
  let r0 = i32((item / ${blocksO * blocksI}u) % ${blocksR}u) * ${tile.kernelRows};
  let g = i32(item / ${blocksO * blocksI * blocksR}u);
  ${all((i, r, s, v) => `var a${i}_${r}_${s}_${v} = vec4<f32>(0.0);`)}
  let begin = ${samples.first} + part * ${samplesOfPart};
  for (var n = begin; n < min(begin + ${samplesOfPart}, ${samples.first + samples.count}); n++) {
    let xi = (n * ${inChannels} + g * ${ig} + i0) * ${H * W};
    for (var p = 0; p < ${P}; p++) {
      for (var q0 = 0; q0 < ${Q}; q0 += ${tile.pixels}) {
        let di = (n * ${outChannels} + g * ${og} + o0) * ${P * Q} + p * ${Q} + q0;
        ${loadDy.join('\n        ')}
        ${loadColumns.join('\n        ')}
        ${products.join('\n        ')}
      }
    }
  }
  let to = part * ${weightSize(shape)} + ((g * ${og} + o0) * ${ig} + i0) * ${kh * kw} + r0 * ${kw};
${stores.join('\n')}`
  return kernel({
    label: 'conv2dFilterGrad direct',
    target,
    bindings: [
      { name: 'x', dtype },
      { name: 'dy', dtype },
      { name: 'dw', dtype: split > 1 ? 'float32' : dtype, access: 'read_write' },
    ],
    workgroupSize: workgroup,
    groups: [Math.ceil(perPart / workgroup), parts, 1],
    multiplyAdds: perPart * samples.count * P * Math.ceil(Q / tile.pixels) * tile.pixels * tile.channels * tile.kernelRows * kw * tile.quads * 4,
    body,
  })
}
