// Convolutions for adapters that run on a processor (and such where workgroup memory is no gain): an invocation keeps a tile
// of pixels times vec4s of output channels in registers, and shares each loaded pixel among all of them. No workgroup
// memory: there it costs more than storage.
//
// One generator makes the forward pass and the input gradient. Along an axis the outputs of a dispatch are outStart + u
// outStep, u = 0, 1, ..., and output u reads inputs u inStep + offset(t), t going through the taps:
//   forward     outStart 0, outStep 1, inStep s, every tap r: offset r d - top
//   input grad  dx[h] = sum over r, p with p s = h + top - r d of dy[p] w[r]. For h = s u + phase those taps r count for
//               which phase + top - r d divides by s: p = u + (phase + top - r d) / s. So a dispatch for each phase, with
//               outStart = phase, outStep s, inStep 1. Stride 1 has a single phase.
//
// Weights are packed for it as [.., groups, C, taps, ceil(D/4)] vec4s along the channels D that are computed, where C are
// the channels that are summed over; for products in workgroup memory (convTiled.ts) as [.., groups, taps, C, ceil(D/4)].

import { type Finish, itemKernel, kernel, type Kernel, loaded, reads, storing } from '../wgsl/kernel.ts'
import { type Bias, biasBinding, convMacs, type ConvShape, perGroup, weightSize } from './convShape.ts'

/** The walk along one axis. */
export interface Axis {
  readonly count: number
  readonly outStart: number
  readonly outStep: number
  readonly inStep: number
  readonly taps: readonly { readonly tap: number; readonly offset: number }[]
  readonly inSize: number
  readonly outSize: number
}

/** What is computed: `forward` or `backward` (the input gradient). */
export type Direction = 'forward' | 'backward'

/** The walk of the forward pass along axis 0 (rows) or 1 (columns). */
export function forwardAxis({ attrs, kernelSize, inSize, outSize }: ConvShape, axis: 0 | 1): Axis {
  const pad = attrs.padding[axis * 2] ?? 0
  const taps = Array.from({ length: kernelSize[axis] }, (_, tap) => ({ tap, offset: tap * attrs.dilation[axis] - pad }))
  return { count: outSize[axis], outStart: 0, outStep: 1, inStep: attrs.stride[axis], taps, inSize: inSize[axis], outSize: outSize[axis] }
}

/** The walks of the input gradient, one for each phase. */
export function backwardAxes({ attrs, kernelSize, inSize, outSize }: ConvShape, axis: 0 | 1): readonly Axis[] {
  const [pad, stride, dilation] = [attrs.padding[axis * 2] ?? 0, attrs.stride[axis], attrs.dilation[axis]]
  return Array.from({ length: Math.min(stride, inSize[axis]) }, (_, phase) => {
    const taps = Array.from({ length: kernelSize[axis] }, (_unused, tap) => ({ tap, offset: (phase + pad - tap * dilation) / stride }))
    const count = Math.ceil((inSize[axis] - phase) / stride)
    const integral = taps.filter(({ offset }) => Number.isInteger(offset))
    return { count, outStart: phase, outStep: stride, inStep: 1, taps: integral, inSize: outSize[axis], outSize: inSize[axis] }
  })
}

/** What comes first along the products of a packed weight: a channel with all of its taps, or a tap with all channels. */
export type Order = 'channel' | 'tap'

/** vec4s of a packed weight. */
export function packedSize(shape: ConvShape, direction: Direction): number {
  const [summed, computed] = channelsOf(shape, direction)
  return shape.attrs.groups * summed * shape.kernelSize[0] * shape.kernelSize[1] * Math.ceil(computed / 4)
}

function channelsOf(shape: ConvShape, direction: Direction): readonly [summed: number, computed: number] {
  const [ig, og] = perGroup(shape)
  return direction === 'forward' ? [ig, og] : [og, ig]
}

// WGSL: of the vec4 number `place` of a weight its first element's place in [O, I/g, taps] as `at`, how many there are as
// `count`, and its own place among the packed ones as `to`; and the distance of its elements. Four quads of channels come
// first, then channels and taps that are summed over: so neighbours write whole cache lines, and read along their rows.
function packedPlace(shape: ConvShape, direction: Direction, order: Order): { readonly code: string; readonly step: number } {
  const [ig, og] = perGroup(shape)
  const [summed, computed] = channelsOf(shape, direction)
  const taps = shape.kernelSize[0] * shape.kernelSize[1]
  const quads = Math.ceil(computed / 4)
  const near = quads % 4 === 0 ? 4 : 1
  const [o, i] = direction === 'forward' ? ['d', 'c'] : ['c', 'd']
  return {
    code: `  let tap = (place / ${near}u) % ${taps}u;
  let c = (place / ${near * taps}u) % ${summed}u;
  let quad = ((place / ${near * taps * summed}u) % ${quads / near}u) * ${near}u + place % ${near}u;
  let g = place / ${quads * taps * summed}u;
  let d = quad * 4u;
  let count = ${computed}u - d;
  let at = ((g * ${og}u + ${o}) * ${ig}u + ${i}) * ${taps}u + tap;
  let to = (${order === 'channel' ? `(g * ${summed}u + c) * ${taps}u + tap` : `(g * ${taps}u + tap) * ${summed}u + c`}) * ${quads}u + quad;`,
    step: direction === 'forward' ? ig * taps : taps,
  }
}

/** Packs `count` weights. Bindings: w, packed (float32). */
export function packKernel(shape: ConvShape, direction: Direction, count: number, order: Order = 'channel'): Kernel {
  const { dtype, target } = shape
  const { code, step } = packedPlace(shape, direction, order)
  const size = packedSize(shape, direction)
  const element = (j: number): string => {
    const value = loaded(`w[base + at${j ? ` + select(0u, ${j * step}u, count > ${j}u)` : ''}]`, dtype, target)
    return j ? `select(0.0, ${value}, count > ${j}u)` : value
  }
  return itemKernel({
    label: 'pack',
    target,
    bindings: [
      { name: 'w', dtype },
      { name: 'packed', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    count: size * count,
    body: `  let place = item % ${size}u;
  let base = (item / ${size}u) * ${weightSize(shape)}u;
${code}
  packed[(item / ${size}u) * ${size}u + to] = vec4<f32>(${[0, 1, 2, 3].map(element).join(', ')});`,
  })
}

/** Mixes and packs in one pass over the bases (see aggregateKernel). Bindings: bases, pi, packed (float32). */
export function aggregatePackedKernel(shape: ConvShape, direction: Direction, numBases: number, order: Order = 'channel'): Kernel {
  const { dtype, target, batch } = shape
  const { code, step } = packedPlace(shape, direction, order)
  const size = packedSize(shape, direction)
  const elements = weightSize(shape)
  const all = Array.from({ length: numBases }, (_, k) => k)
  const element = (k: number, j: number): string => {
    const value = loaded(`bases[${k * elements}u + at${j ? ` + select(0u, ${j * step}u, count > ${j}u)` : ''}]`, dtype, target)
    return j ? `select(0.0, ${value}, count > ${j}u)` : value
  }
  return itemKernel({
    label: 'aggregate',
    target,
    bindings: [
      { name: 'bases', dtype },
      { name: 'pi', dtype },
      { name: 'packed', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    count: size,
    body: `  let place = item;
${code}
  ${all.map((k) => `let w${k} = vec4<f32>(${[0, 1, 2, 3].map((j) => element(k, j)).join(', ')});`).join('\n  ')}
  for (var b = 0u; b < ${batch}u; b++) {
    packed[b * ${size}u + to] = ${all.map((k) => `${loaded(`pi[b * ${numBases}u + ${k}u]`, dtype, target)} * w${k}`).join(' + ')};
  }`,
  })
}

/** The register tile of an invocation: rows x columns of pixels, times vec4s of channels. */
export interface Tile {
  readonly rows: number
  readonly columns: number
  readonly quads: number
}

// Multiply-adds of the unrolled text, which takes a bit more than a millisecond each to compile: half of what is fastest where
// a whole run of the layer takes no longer than the compilation of the long text.
const unrolled = { small: 450, large: 900 }
const largeMacs = 2 ** 26

/** How long the text of a layer's tile may be. */
export function unrollLimit(shape: ConvShape): number {
  return convMacs(shape) < largeMacs ? unrolled.small : unrolled.large
}

/** Nanoseconds of one core of SwiftShader's that a direct convolution takes: what long tiles were measured to take, all in all. */
export function directCost(shape: ConvShape): number {
  return (convMacs(shape) / 4) * 2.1
}

// Accumulators, and rows or columns of a tile.
const maxTile = 98
const maxSide = 8

// Nanoseconds for four lanes on SwiftShader: a load of one pixel, of a vec4 of weights, a multiply-add, and a sum carried over
// an iteration.
const price = { pixel: 25, weights: 58, multiplyAdd: 8, carry: 12 }

/** A tile for these walks: the one that costs least for each element of the result, rims included. */
export function tileFor(rows: Axis, columns: Axis, quads: number, maxUnrolled: number): Tile {
  const taps = Math.max(1, rows.taps.length * columns.taps.length)
  const sides = (count: number): readonly number[] => Array.from({ length: Math.min(maxSide, Math.max(1, count)) }, (_, i) => i + 1)
  const span = (axis: Axis, tile: number): number => new Set(Array.from({ length: tile }, (_, u) => axis.taps.map(({ offset }) => u * axis.inStep + offset)).flat()).size
  let best: { readonly tile: Tile; readonly cost: number } | undefined
  for (const quadsOfTile of [1, 2, 4]) {
    if (quads % quadsOfTile !== 0) continue
    for (const height of sides(rows.count)) {
      for (const width of sides(columns.count)) {
        const accumulators = height * width * quadsOfTile
        if (accumulators > maxTile || (accumulators > quadsOfTile && accumulators * taps > maxUnrolled)) continue
        const work = span(rows, height) * span(columns, width) * price.pixel + taps * quadsOfTile * price.weights + accumulators * (taps * price.multiplyAdd + price.carry)
        const tiles = Math.ceil(rows.count / height) * Math.ceil(columns.count / width) * (quads / quadsOfTile)
        const cost = work * tiles
        if (!best || cost < best.cost) best = { tile: { rows: height, columns: width, quads: quadsOfTile }, cost }
      }
    }
  }
  return best?.tile ?? { rows: 1, columns: 1, quads: 1 }
}

/** A dispatch of the direct convolution. */
export interface DirectOptions {
  readonly shape: ConvShape
  readonly direction: Direction
  readonly rows: Axis
  readonly columns: Axis
  readonly tile: Tile
  readonly bias: Bias
  /** Stores y (or dx) unless given. */
  readonly finish?: Finish | undefined
}

const workgroup = 32

/** Bindings: x (or dy), packed weights (float32), bias where there is one, and y (or dx; named y) or what `finish` has. */
export function convDirectKernel({ shape, direction, rows, columns, tile, bias, finish = storing(shape.dtype, shape.target) }: DirectOptions): Kernel {
  const { target, dtype, batch, attrs, kernelSize, perSample } = shape
  const [summed, computed] = channelsOf(shape, direction)
  const quads = Math.ceil(computed / 4)
  const [tilesY, tilesX, tilesC] = [Math.ceil(rows.count / tile.rows), Math.ceil(columns.count / tile.columns), quads / tile.quads]
  const total = tilesY * tilesX * tilesC
  const taps = kernelSize[0] * kernelSize[1]
  const [ys, xs] = [readsOf(rows, tile.rows), readsOf(columns, tile.columns)]
  // Every accumulator gets several products an iteration, for carrying it over one is dear.
  const perChannel = rows.taps.length * columns.taps.length
  const unroll = perChannel > 0 && perChannel < 8 && summed % 4 === 0 ? 4 : 1
  const each = (f: (y: number, x: number, v: number) => string): string => {
    const parts: string[] = []
    for (let y = 0; y < tile.rows; y++) for (let x = 0; x < tile.columns; x++) for (let v = 0; v < tile.quads; v++) parts.push(f(y, x, v))
    return parts.join(' ')
  }
  const plane = rows.inSize * columns.inSize
  const outPlane = rows.outSize * columns.outSize
  const step = (u: number): string => {
    const lines: string[] = []
    for (const { tap: r } of rows.taps) {
      for (const { tap: s } of columns.taps) {
        const t = r * kernelSize[1] + s
        for (let v = 0; v < tile.quads; v++) lines.push(`let w${t}_${v} = w[wi + ${(u * taps + t) * quads + v}u];`)
      }
    }
    for (const y of ys) {
      for (const x of xs) {
        const ok = [...(y.always ? [] : [`rowOk${y.name}`]), ...(x.always ? [] : [`columnOk${x.name}`])]
        const value = loaded(`x[xi + ${u * plane} + row${y.name} + column${x.name}]`, dtype, target)
        lines.push(`let v${y.name}_${x.name} = ${ok.length ? `select(0.0, ${value}, ${ok.join(' & ')})` : value};`)
        for (const a of y.uses) {
          for (const b of x.uses) {
            for (let v = 0; v < tile.quads; v++) lines.push(`a${a.out}_${b.out}_${v} += v${y.name}_${x.name} * w${a.tap * kernelSize[1] + b.tap}_${v};`)
          }
        }
      }
    }
    return `    {\n      ${lines.join('\n      ')}\n    }`
  }
  const outChannels = computed * attrs.groups
  const start = (v: number): string => {
    if (bias === 'none') return 'vec4<f32>(0.0)'
    const parts = [0, 1, 2, 3].map((c) => {
      const o = `min((quad + ${v}u) * 4u + ${c}u, ${computed - 1}u) + g * ${computed}u`
      return loaded(bias === 'channel' ? `bias[${o}]` : `bias[n * ${outChannels}u + ${o}]`, dtype, target)
    })
    return `vec4<f32>(${parts.join(', ')})`
  }
  const stores: string[] = []
  for (let v = 0; v < tile.quads; v++) {
    for (let c = 0; c < 4; c++) {
      const inner: string[] = []
      for (let y = 0; y < tile.rows; y++) {
        for (let x = 0; x < tile.columns; x++) {
          const guards = [...(rows.count % tile.rows ? [`y0 + ${y} < ${rows.count}`] : []), ...(columns.count % tile.columns ? [`x0 + ${x} < ${columns.count}`] : [])]
          const at = `out + ${(v * 4 + c) * outPlane + y * rows.outStep * columns.outSize + x * columns.outStep}u`
          const store = finish.store(`a${y}_${x}_${v}.${'xyzw'[c]}`, at)
          inner.push(guards.length ? `if (${guards.join(' && ')}) { ${store} }` : store)
        }
      }
      const guard = computed % (4 * tile.quads) ? `if ((quad + ${v}u) * 4u + ${c}u < ${computed}u) ` : ''
      stores.push(`  ${guard}{ ${inner.join(' ')} }`)
    }
  }
  const biases = Array.from({ length: tile.quads }, (_, v) => `let bias${v} = ${start(v)};`)
  const body = `  let item = group.x * ${workgroup}u + lane;
  if (item >= ${total}u) { return; }
  let quad = (item % ${tilesC}u) * ${tile.quads}u;
  let tileAt = item / ${tilesC}u;
  let y0 = i32(tileAt / ${tilesX}u) * ${tile.rows};
  let x0 = i32(tileAt % ${tilesX}u) * ${tile.columns};
  let n = group.y / ${attrs.groups}u;
  let g = group.y % ${attrs.groups}u;
  ${ys.map((y) => place('row', y, 'y0', rows, columns.inSize)).join('\n  ')}
  ${xs.map((x) => place('column', x, 'x0', columns, 1)).join('\n  ')}
  ${biases.join('\n  ')}
  ${each((y, x, v) => `var a${y}_${x}_${v} = bias${v};`)}
  var xi = i32(group.y) * ${summed * plane};
  var wi = ${perSample ? `n * ${packedSize(shape, direction)}u + ` : ''}g * ${summed * taps * quads}u + quad;
${perChannel === 0 ? '' : `  for (var i = 0; i < ${summed}; i += ${unroll}) {
${Array.from({ length: unroll }, (_, u) => step(u)).join('\n')}
    xi += ${plane * unroll};
    wi += ${taps * quads * unroll}u;
  }`}
  let out = (n * ${outChannels}u + g * ${computed}u + quad * 4u) * ${outPlane}u + u32((${rows.outStart} + y0 * ${rows.outStep}) * ${columns.outSize} + ${columns.outStart} + x0 * ${columns.outStep});
${stores.join('\n')}`
  return kernel({
    label: `${direction === 'forward' ? 'conv2d direct' : 'conv2dInputGrad direct'}${finish.label}`,
    target,
    bindings: [...reads(dtype, 'x'), { name: 'w', dtype: 'float32', width: 4 }, ...biasBinding(bias, dtype), ...finish.bindings],
    declarations: finish.declarations,
    workgroupSize: workgroup,
    groups: [Math.ceil(total / workgroup), batch * attrs.groups, 1],
    multiplyAdds: total * batch * attrs.groups * tile.rows * tile.columns * tile.quads * 4 * summed * rows.taps.length * columns.taps.length,
    body,
  })
}

// An input row (or column) that a tile reads, relative to its first: which outputs of the tile take it by which tap.
interface Read {
  readonly name: number
  readonly offset: number
  /** Whether it lies inside the image for every tile. */
  readonly always: boolean
  readonly uses: readonly { readonly out: number; readonly tap: number }[]
}

function readsOf(axis: Axis, tile: number): readonly Read[] {
  const uses = new Map<number, { out: number; tap: number }[]>()
  for (let out = 0; out < tile; out++) {
    for (const { tap, offset } of axis.taps) {
      const at = out * axis.inStep + offset
      uses.set(at, [...(uses.get(at) ?? []), { out, tap }])
    }
  }
  const last = (Math.ceil(axis.count / tile) - 1) * tile * axis.inStep
  return [...uses].sort(([a], [b]) => a - b).map(([offset, list], name) => ({ name, offset, uses: list, always: offset >= 0 && last + offset < axis.inSize }))
}

function place(what: 'row' | 'column', { name, offset, always }: Read, origin: string, axis: Axis, stride: number): string {
  const at = `${origin} * ${axis.inStep} + ${offset}`
  const times = stride === 1 ? '' : ` * ${stride}`
  if (always) return `let ${what}${name} = (${at})${times};`
  return `let ${what}At${name} = ${at}; let ${what}Ok${name} = (${what}At${name} >= 0) & (${what}At${name} < ${axis.inSize}); let ${what}${name} = clamp(${what}At${name}, 0, ${Math.max(0, axis.inSize - 1)})${times};`
}
