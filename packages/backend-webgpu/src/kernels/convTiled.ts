// Convolutions and their gradients as implicit matrix products for graphics cards (tiledGemm.ts). Per group:
//
//   forward       m = o, k = (i, r, s), n = pixel of y      A = w[o, i, r, s]   B = x at p sh - top + r dh, ...
//   input grad    m = i, k = (o, r, s), n = pixel of x      A = w[o, i, r, s]   B = dy at (h + top - r dh) / sh, ... where
//                                                                               integral and inside
//   filter grad   m = o, k = pixel of y, n = (i, r, s)      A = dy[o, pixel]    B = x as in forward
//
// With one weight for all samples n (or k) runs through the pixels of the whole batch, so that small images fill the tiles;
// with a weight for each sample z is the sample and the weight's pointer moves with it.

import { type Kernel, loaded, reads, stored, writes } from '../wgsl/kernel.ts'
import { type Bias, biasBinding, type ConvShape, perGroup, weightSize } from './convShape.ts'
import { type Side, splitFor, tiledGemmKernel } from './tiledGemm.ts'

// What both sides need to know of z: the group, and the sample where z has one.
function zParts(shape: ConvShape): string {
  const { attrs, perSample } = shape
  const g = attrs.groups === 1 ? '0u' : perSample ? `z % ${attrs.groups}u` : 'z'
  const n = !perSample ? '0u' : attrs.groups === 1 ? 'z' : `z / ${attrs.groups}u`
  return `let g = ${g}; let zn = ${n};`
}

const batches = ({ attrs, perSample, batch }: ConvShape): number => attrs.groups * (perSample ? batch : 1)

// A pixel's number in n (or k) as sample, row and column; `ok` whether there is one.
function pixelOf(index: string, count: number, [height, width]: readonly [number, number], perSample: boolean, suffix: string): string {
  const pixels = height * width
  return `let ok${suffix} = ${index} < ${count}u;
  let pixel${suffix} = ${index} % ${pixels}u; let n${suffix} = ${perSample ? 'zn' : `${index} / ${pixels}u`};
  let row${suffix} = i32(pixel${suffix} / ${width}u); let column${suffix} = i32(pixel${suffix} % ${width}u);`
}

const tapOf = (index: string, [, kw]: readonly [number, number], taps: number, suffix: string): string =>
  `let channel${suffix} = ${index} / ${taps}u; let tap${suffix} = ${index} % ${taps}u; let r${suffix} = i32(tap${suffix} / ${kw}u); let s${suffix} = i32(tap${suffix} % ${kw}u);`

const masked = (array: string, index: string, ok: string, { dtype, target }: ConvShape): string =>
  `select(0.0, ${loaded(`${array}[select(0u, ${index}, ${ok})]`, dtype, target)}, ${ok})`

/**
 * Bindings: x, w, y, bias where there is one. With `numBases` w holds bases, and pi follows y: the kernels are mixed as they
 * are loaded, and never stored.
 */
export function convTiledKernel(shape: ConvShape, bias: Bias, numBases: number = 0): Kernel {
  const { target, dtype, batch, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[H, W], pixels, taps] = [inSize, outSize[0] * outSize[1], kernelSize[0] * kernelSize[1]]
  const columns = pixels * (perSample ? 1 : batch)
  const bases = Array.from({ length: numBases }, (_, k) => k)
  const shares = bases.map((k) => `let pi${k} = ${loaded(`pi[zn * ${numBases}u + ${k}u]`, dtype, target)};`).join(' ')
  const ofSample = perSample && numBases === 0 ? `zn * ${weightSize(shape)}u + ` : ''
  const weight = (j: number, basis: number): string => masked('w', `${basis ? `${basis * weightSize(shape)}u + ` : ''}atA${j} + k`, `(inside & okA${j})`, shape)
  const a: Side = {
    prepare: (m, j) => `${j === 0 ? `${zParts(shape)} ${shares}` : ''} let okA${j} = ${m} < ${og}u; let atA${j} = ${ofSample}(g * ${og}u + ${m}) * ${ig * taps}u;`,
    load: (j) => (numBases === 0 ? weight(j, 0) : bases.map((k) => `pi${k} * ${weight(j, k)}`).join(' + ')),
  }
  const b: Side = {
    prepare: (n, j) => `${pixelOf(n, columns, outSize, perSample, `B${j}`)}
  let y${j} = row${`B${j}`} * ${attrs.stride[0]} - ${attrs.padding[0]}; let x${j} = columnB${j} * ${attrs.stride[1]} - ${attrs.padding[2]}; let plane${j} = i32(nB${j} * ${inChannels}u + g * ${ig}u);`,
    atK: tapOf('k', kernelSize, taps, 'K'),
    load: (j) => {
      const [h, w] = [`(y${j} + rK * ${attrs.dilation[0]})`, `(x${j} + sK * ${attrs.dilation[1]})`]
      const ok = `(inside & okB${j} & (${h} >= 0) & (${h} < ${H}) & (${w} >= 0) & (${w} < ${W}))`
      return masked('x', `u32(((plane${j} + i32(channelK)) * ${H} + ${h}) * ${W} + ${w})`, ok, shape)
    },
  }
  const sample = perSample ? 'zn' : `n / ${pixels}u`
  const added = bias === 'none' ? 'value' : `value + ${loaded(bias === 'channel' ? 'bias[o]' : `bias[sample * ${outChannels}u + o]`, dtype, target)}`
  return tiledGemmKernel({
    label: numBases === 0 ? 'conv2d tiled' : 'dynamicConv2d tiled',
    target,
    dtype,
    bindings: [...reads(dtype, 'x', 'w'), ...writes(dtype, 'y'), ...(numBases === 0 ? [] : reads(dtype, 'pi')), ...biasBinding(bias, dtype)],
    rows: og,
    columns,
    inner: ig * taps,
    batches: batches(shape),
    split: 1,
    a,
    b,
    store: `let sample = ${sample}; let o = g * ${og}u + m; y[(sample * ${outChannels}u + o) * ${pixels}u + n % ${pixels}u] = ${stored(added, dtype, target)};`,
  })
}

/** Bindings: dy, w, dx. */
export function inputGradTiledKernel(shape: ConvShape): Kernel {
  const { target, dtype, batch, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[P, Q], pixels, taps] = [outSize, inSize[0] * inSize[1], kernelSize[0] * kernelSize[1]]
  const [[sh, sw], [dh, dw]] = [attrs.stride, attrs.dilation]
  const columns = pixels * (perSample ? 1 : batch)
  const a: Side = {
    prepare: (m, j) => `${j === 0 ? zParts(shape) : ''} let okA${j} = ${m} < ${ig}u; let atA${j} = ${perSample ? `zn * ${weightSize(shape)}u + ` : ''}g * ${og * ig * taps}u + ${m} * ${taps}u;`,
    atK: tapOf('k', kernelSize, taps, 'K'),
    load: (j) => masked('w', `atA${j} + channelK * ${ig * taps}u + tapK`, `(inside & okA${j})`, shape),
  }
  const b: Side = {
    prepare: (n, j) => `${pixelOf(n, columns, inSize, perSample, `B${j}`)}
  let h${j} = rowB${j} + ${attrs.padding[0]}; let w${j} = columnB${j} + ${attrs.padding[2]}; let plane${j} = i32(nB${j} * ${outChannels}u + g * ${og}u);`,
    atK: tapOf('k', kernelSize, taps, 'K'),
    load: (j) => {
      const [rows, cols] = [`(h${j} - rK * ${dh})`, `(w${j} - sK * ${dw})`]
      const integral = [...(sh > 1 ? [`(${rows} % ${sh} == 0)`] : []), ...(sw > 1 ? [`(${cols} % ${sw} == 0)`] : [])]
      const [p, q] = [sh > 1 ? `(${rows} / ${sh})` : rows, sw > 1 ? `(${cols} / ${sw})` : cols]
      const ok = `(${['inside', `okB${j}`, `(${rows} >= 0)`, `(${cols} >= 0)`, `(${p} < ${P})`, `(${q} < ${Q})`, ...integral].join(' & ')})`
      return masked('dy', `u32(((plane${j} + i32(channelK)) * ${P} + ${p}) * ${Q} + ${q})`, ok, shape)
    },
  }
  return tiledGemmKernel({
    label: 'conv2dInputGrad tiled',
    target,
    dtype,
    bindings: [...reads(dtype, 'dy', 'w'), ...writes(dtype, 'dx')],
    rows: ig,
    columns,
    inner: og * taps,
    batches: batches(shape),
    split: 1,
    a,
    b,
    store: `let sample = ${perSample ? 'zn' : `n / ${pixels}u`}; dx[(sample * ${inChannels}u + g * ${ig}u + m) * ${pixels}u + n % ${pixels}u] = ${stored('value', dtype, target)};`,
  })
}

/**
 * Whether kernels are better mixed as they are loaded. That reads all bases for every sample and tile of pixels, so it pays
 * where one tile holds the image and there are at most two samples: B K reads of a kernel against K + 2 B.
 */
export function mixesOnLoad({ target, batch, outSize }: ConvShape, numBases: number): boolean {
  return target.kind === 'gpu' && batch <= 2 && outSize[0] * outSize[1] <= 64 && numBases <= 8
}

/** Into how many partial results `filterGradTiledKernel` cuts the sum over the batch. */
export function filterGradSplit(shape: ConvShape, samples: number): number {
  const [ig, og] = perGroup(shape)
  const pixels = shape.outSize[0] * shape.outSize[1]
  const inner = pixels * (shape.perSample ? 1 : samples)
  return splitFor(og, ig * shape.kernelSize[0] * shape.kernelSize[1], inner, shape.attrs.groups * (shape.perSample ? samples : 1))
}

/**
 * Samples [first, first + count), summed up or each into a weight of its own. Bindings: x, dy, dw (one after another for each
 * part, [split, (count,) O, I/g, kh, kw], float32 where there are several).
 */
export function filterGradTiledKernel(shape: ConvShape, samples: { readonly first: number; readonly count: number }, split: number): Kernel {
  const { target, dtype, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[H, W], pixels, taps] = [inSize, outSize[0] * outSize[1], kernelSize[0] * kernelSize[1]]
  const inner = pixels * (perSample ? 1 : samples.count)
  const columns = ig * taps
  const a: Side = {
    prepare: (m, j) => `${j === 0 ? zParts(shape) : ''} let okA${j} = ${m} < ${og}u; let atA${j} = g * ${og}u + ${m};`,
    atK: pixelOf('k', inner, outSize, perSample, 'K'),
    load: (j) => masked('dy', `((nK + ${samples.first}u) * ${outChannels}u + atA${j}) * ${pixels}u + pixelK`, `(inside & okA${j})`, shape),
  }
  const b: Side = {
    prepare: (n, j) => `let okB${j} = ${n} < ${columns}u; ${tapOf(n, kernelSize, taps, `B${j}`)} let y${j} = rB${j} * ${attrs.dilation[0]} - ${attrs.padding[0]}; let x${j} = sB${j} * ${attrs.dilation[1]} - ${attrs.padding[2]};`,
    atK: pixelOf('k', inner, outSize, perSample, 'K'),
    load: (j) => {
      const [h, w] = [`(rowK * ${attrs.stride[0]} + y${j})`, `(columnK * ${attrs.stride[1]} + x${j})`]
      const ok = `(inside & okB${j} & (${h} >= 0) & (${h} < ${H}) & (${w} >= 0) & (${w} < ${W}))`
      return masked('x', `u32((i32((nK + ${samples.first}u) * ${inChannels}u + g * ${ig}u + channelB${j}) * ${H} + ${h}) * ${W} + ${w})`, ok, shape)
    },
  }
  const size = weightSize(shape)
  const parts = split > 1
  const at = `${parts ? `part * ${size * (perSample ? samples.count : 1)}u + ` : ''}${perSample ? `zn * ${size}u + ` : ''}(g * ${og}u + m) * ${columns}u + n`
  return tiledGemmKernel({
    label: 'conv2dFilterGrad tiled',
    target,
    dtype,
    bindings: [
      { name: 'x', dtype },
      { name: 'dy', dtype },
      { name: 'dw', dtype: parts ? 'float32' : dtype, access: 'read_write' },
    ],
    rows: og,
    columns,
    inner,
    batches: attrs.groups * (perSample ? samples.count : 1),
    split,
    a,
    b,
    store: `dw[${at}] = ${parts ? 'value' : stored('value', dtype, target)};`,
  })
}
