// Convolutions and their gradients as implicit matrix products for graphics cards (tiledGemm.ts). Per group:
//
//   forward       m = o, k = (i, r, s), n = pixel of y      A = w[o, i, r, s]   B = x at p sh - top + r dh, ...
//   input grad    m = i, k = (o, r, s), n = pixel of x      A = w[o, i, r, s]   B = dy at (h + top - r dh) / sh, ... where
//                                                                               integral and inside
//   filter grad   m = o, k = pixel of y, n = (i, r, s)      A = dy[o, pixel]    B = x as in forward
//
// With one weight for all samples n (or k) runs through the pixels of the whole batch, so that small images fill the tiles;
// with a weight for each sample z is the sample and the weight's pointer moves with it.

import { type Binding, type Finish, type Kernel, loaded, range, reads, stored, storing } from '../wgsl/kernel.ts'
import { type Direction, type Order, packedSize } from './convDirect.ts'
import { type Bias, biasBinding, type ConvShape, perGroup, weightSize } from './convShape.ts'
import { type Cut, cutFor, type ElementSide, type QuadSide, sliceOf, splitFor, tiledGemmKernel, tileOf, tilesOf } from './tiledGemm.ts'

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
 * The order in which the weights of a tiled convolution are packed. Where a slice of products never leaves a tap, a pixel's
 * place is found once a slice.
 */
export function tiledOrder(shape: ConvShape, direction: Direction): Order {
  return perGroup(shape)[direction === 'forward' ? 0 : 1] % sliceOf === 0 ? 'tap' : 'channel'
}

// Longer slices where they do not leave a tap either: less is to be found out for each product. 16 KiB is what every adapter has
// for two tiles.
function cutOf(rows: number, columns: number, summed: number): Cut {
  const cut = cutFor({ rows, columns })
  const [m, n] = tileOf(cut)
  return summed % 32 === 0 && m + n <= 32 ? { ...cut, slice: 32 } : cut
}

// The product of a direction: what is summed over, what is computed, and how large the images are that are read and written.
function productOf(shape: ConvShape, direction: Direction): {
  readonly summed: number
  readonly computed: number
  readonly from: readonly [height: number, width: number]
  readonly to: readonly [height: number, width: number]
  readonly columns: number
  readonly inner: number
} {
  const { inSize, outSize, kernelSize, perSample, batch } = shape
  const [ig, og] = perGroup(shape)
  const [summed, computed, from, to] = direction === 'forward' ? [ig, og, inSize, outSize] : [og, ig, outSize, inSize]
  return { summed, computed, from, to, columns: to[0] * to[1] * (perSample ? 1 : batch), inner: summed * kernelSize[0] * kernelSize[1] }
}

/** Into how many parts the sum of a convolution or of its input gradient is cut, each a result of its own in float32. */
export function tiledSplit(shape: ConvShape, direction: Direction): number {
  const { computed, columns, inner } = productOf(shape, direction)
  return splitFor(tilesOf(computed, columns, batches(shape)), inner)
}

// Packed weights [.., groups, k, quads], one for all samples or one for each; with `numBases` bases that are mixed.
function packedSide(shape: ConvShape, direction: Direction, numBases: number): QuadSide {
  const { dtype, target, attrs, perSample } = shape
  const size = packedSize(shape, direction)
  const quads = Math.ceil(perGroup(shape)[direction === 'forward' ? 1 : 0] / 4)
  const bases = range(numBases)
  const shares = bases.map((k) => `let pi${k} = ${loaded(`pi[zn * ${numBases}u + ${k}u]`, dtype, target)};`).join(' ')
  const quad = (basis: number): string => `w[select(0u, ${basis > 0 ? `${basis * size}u + ` : ''}atA + k * ${quads}u, inside & okA)]`
  const value = numBases === 0 ? quad(0) : bases.map((k) => `pi${k} * ${quad(k)}`).join(' + ')
  return {
    prepareQuad: (q) => `${zParts(shape)} ${shares} let okA = ${q} < ${quads}u; let atA = ${perSample && numBases === 0 ? `zn * ${size}u + ` : ''}g * ${size / attrs.groups}u + ${q};`,
    loadQuad: `select(vec4<f32>(0.0), ${value}, inside & okA)`,
  }
}

// Where the pixels are read from.
interface Pixels {
  readonly array: 'x' | 'dy'
  /** WGSL that declares what place needs of the columns' pixels (`rowB`, `columnB`; i32, by suffix). */
  readonly prepare: (j: number) => string
  /** Where tap (r, s) of a pixel lies, and what must hold besides that it is in the image. */
  readonly place: (j: number, r: string, s: string) => { readonly h: string; readonly w: string; readonly ok: readonly string[] }
}

// The pixels of the images that are read, [N, C, height, width], as columns.
function pixelSide(shape: ConvShape, direction: Direction, { array, prepare: further, place }: Pixels): ElementSide {
  const { kernelSize, attrs, perSample } = shape
  const taps = kernelSize[0] * kernelSize[1]
  const { summed, from: [H, W], to, columns } = productOf(shape, direction)
  const prepare = (n: string, j: number): string => `${pixelOf(n, columns, to, perSample, `B${j}`)}
  ${further(j)} let plane${j} = i32(nB${j} * ${summed * attrs.groups}u + g * ${summed}u);`
  const inImage = (j: number, r: string, s: string): { readonly at: string; readonly ok: string } => {
    const { h, w, ok } = place(j, r, s)
    return { at: `${h} * ${W} + ${w}`, ok: [`okB${j}`, `(${h} >= 0)`, `(${h} < ${H})`, `(${w} >= 0)`, `(${w} < ${W})`, ...ok].join(' & ') }
  }
  if (tiledOrder(shape, direction) === 'channel') {
    return {
      prepare,
      atK: tapOf('k', kernelSize, taps, 'K'),
      load: (j) => {
        const { at, ok } = inImage(j, 'rK', 'sK')
        return masked(array, `u32((plane${j} + i32(channelK)) * ${H * W} + ${at})`, `(inside & ${ok})`, shape)
      },
    }
  }
  const places = range(4).map((j) => {
    const { at, ok } = inImage(j, 'rS', 'sS')
    return `let in${j} = ${ok}; let from${j} = u32(select(0, plane${j} * ${H * W} + ${at}, in${j})) + c0 * ${H * W}u;`
  })
  return {
    prepare,
    atSlice: `let tapS = k0 / ${summed}u; let c0 = k0 % ${summed}u; let rS = i32(tapS / ${kernelSize[1]}u); let sS = i32(tapS % ${kernelSize[1]}u); ${places.join('\n    ')}`,
    load: (j) => `select(0.0, ${loaded(`${array}[from${j} + at * ${H * W}u]`, shape.dtype, shape.target)}, inside & in${j})`,
  }
}

// A convolution by packed weights, forward or backward, with `split` in parts.
function packedConvKernel(
  shape: ConvShape,
  direction: Direction,
  { label, pixels, finish, split, numBases, more, value }: {
    readonly label: string
    readonly pixels: Pixels
    readonly finish: Finish
    readonly split: number
    readonly numBases: number
    readonly more: readonly Binding[]
    /** WGSL of what is stored for `value` in channel `o` of `sample`. */
    readonly value: string
  },
): Kernel {
  const { target, dtype, batch, attrs, perSample } = shape
  const { summed, computed, to: [height, width], columns, inner } = productOf(shape, direction)
  const plane = height * width
  const channels = computed * attrs.groups
  const part = split > 1 ? `part * ${batch * channels * plane}u + ` : ''
  return tiledGemmKernel({
    label: `${label}${finish.label}`,
    target,
    dtype,
    bindings: [{ name: pixels.array, dtype }, { name: 'w', dtype: 'float32', width: 4 }, ...more, ...finish.bindings],
    declarations: finish.declarations,
    rows: computed,
    columns,
    inner,
    batches: batches(shape),
    split,
    a: packedSide(shape, direction, numBases),
    b: pixelSide(shape, direction, pixels),
    store: `let sample = ${perSample ? 'zn' : `n / ${plane}u`}; let o = g * ${computed}u + m; ${finish.store(value, `${part}(sample * ${channels}u + o) * ${plane}u + n % ${plane}u`)}`,
    cut: cutOf(computed, columns, summed),
  })
}

/**
 * Bindings: x, w (packed in `tiledOrder`, forward), bias where there is one, and y or what `finish` has. With `numBases` w holds
 * bases, and pi follows it: the kernels are mixed as they are loaded, and never stored. With `split` y is float32,
 * [split, N, O, P, Q].
 */
export function convTiledKernel(shape: ConvShape, bias: Bias, options: { readonly numBases?: number; readonly split?: number; readonly finish?: Finish | undefined } = {}): Kernel {
  const { target, dtype, outChannels, attrs } = shape
  const { numBases = 0, split = 1, finish = storing(split === 1 ? dtype : 'float32', target) } = options
  const { stride, padding, dilation } = attrs
  const biasOf = loaded(bias === 'channel' ? 'bias[o]' : `bias[sample * ${outChannels}u + o]`, dtype, target)
  return packedConvKernel(shape, 'forward', {
    label: numBases === 0 ? 'conv2d tiled' : 'dynamicConv2d tiled',
    pixels: {
      array: 'x',
      prepare: (j) => `let y${j} = rowB${j} * ${stride[0]} - ${padding[0]}; let x${j} = columnB${j} * ${stride[1]} - ${padding[2]};`,
      place: (j, r, s) => ({ h: `(y${j} + ${r} * ${dilation[0]})`, w: `(x${j} + ${s} * ${dilation[1]})`, ok: [] }),
    },
    finish,
    split,
    numBases,
    more: [...(numBases === 0 ? [] : reads(dtype, 'pi')), ...biasBinding(bias, dtype)],
    value: bias === 'none' ? 'value' : `value + ${split === 1 ? biasOf : `select(0.0, ${biasOf}, part == 0u)`}`,
  })
}

/** Bindings: dy, w (packed in `tiledOrder`, backward), and dx (named y; float32, [split, N, I, H, W] with `split`) or what `finish` has. */
export function inputGradTiledKernel(shape: ConvShape, split: number = 1, finish: Finish = storing(split === 1 ? shape.dtype : 'float32', shape.target)): Kernel {
  const { stride: [sh, sw], padding: [top, , left], dilation: [dh, dw] } = shape.attrs
  return packedConvKernel(shape, 'backward', {
    label: 'conv2dInputGrad tiled',
    pixels: {
      array: 'dy',
      prepare: (j) => `let h${j} = rowB${j} + ${top}; let w${j} = columnB${j} + ${left};`,
      place: (j, r, s) => {
        const [rows, cols] = [`(h${j} - ${r} * ${dh})`, `(w${j} - ${s} * ${dw})`]
        const integral = [...(sh > 1 ? [`(${rows} % ${sh} == 0)`] : []), ...(sw > 1 ? [`(${cols} % ${sw} == 0)`] : [])]
        return { h: sh > 1 ? `(${rows} / ${sh})` : rows, w: sw > 1 ? `(${cols} / ${sw})` : cols, ok: [`(${rows} >= 0)`, `(${cols} >= 0)`, ...integral] }
      },
    },
    finish,
    split,
    numBases: 0,
    more: [],
    value: 'value',
  })
}

/**
 * Whether kernels are better mixed as they are loaded, of bases that are packed already. That reads all bases for every sample and
 * tile of pixels, so it pays where one tile holds the image and there are at most two samples: B K reads of a kernel against K + 2 B.
 */
export function mixesOnLoad({ target, batch, outSize }: ConvShape, numBases: number): boolean {
  return target.kind === 'gpu' && batch <= 2 && outSize[0] * outSize[1] <= 64 && numBases <= 8
}

/** Into how many partial results `filterGradTiledKernel` cuts the sum over the batch. */
export function filterGradSplit(shape: ConvShape, samples: number): number {
  const [ig, og] = perGroup(shape)
  const pixels = shape.outSize[0] * shape.outSize[1]
  const inner = pixels * (shape.perSample ? 1 : samples)
  return splitFor(tilesOf(og, ig * shape.kernelSize[0] * shape.kernelSize[1], shape.attrs.groups * (shape.perSample ? samples : 1)), inner)
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
  const a: ElementSide = {
    prepare: (m, j) => `${j === 0 ? zParts(shape) : ''} let okA${j} = ${m} < ${og}u; let atA${j} = g * ${og}u + ${m};`,
    atK: pixelOf('k', inner, outSize, perSample, 'K'),
    load: (j) => masked('dy', `((nK + ${samples.first}u) * ${outChannels}u + atA${j}) * ${pixels}u + pixelK`, `(inside & okA${j})`, shape),
  }
  const b: ElementSide = {
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
