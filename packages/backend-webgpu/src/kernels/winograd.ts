// Winograd's minimal filtering F(2x2, 3x3) for 3 x 3 kernels with stride 1 (Lavin & Gray, Fast Algorithms for Convolutional
// Neural Networks, 2015): an output tile of 2 x 2 pixels takes 16 multiplications instead of 36. With d the 4 x 4 patch of x
// that it reads, w the kernel, e a tile of dy,
//
//   y  = A^T [ (G w G^T) . (B^T d B) ] A        summed over input channels
//   dw = G^T [ (B^T d B) . (A e A^T) ] G        summed over tiles
//
//        1  0 -1  0         1    0    0          1  0
//   B^T  0  1  1  0     G  1/2  1/2  1/2     A   1  1
//        0 -1  1  0        1/2 -1/2  1/2         1 -1
//        0  1  0 -1         0    0    1          0 -1
//
// (A's last row is -1 because B^T's is 1, 0, -1 with this sign.) Each of the 16 products is a matrix product (registerGemm.ts
// or tiledGemm.ts). The input gradient is the same with dy for x and the kernel turned by 180 degrees, I and O exchanged.
// All transforms are linear: kernels are mixed, and their gradients taken apart, transformed.
//
// F(4x4, 3x3) has tiles of 4 x 4 pixels, patches of 6 x 6 and 36 products instead of 144. It interpolates at 0, +-r, +-s and
// infinity, with r = sqrt(1/2) and s = sqrt(2): the usual +-1 and +-2 give twice to five times the error, these that of the plain
// sum (512 channels of normal numbers, float32: 2.0e-6 of the results' deviation, the plain sum 1.2e-6, +-1 and +-2 4.4e-6).
//
// Arrays (float32; channels divide by 4, tiles are padded to T4 whole vec4s, whose rest nobody reads; F(4x4, 3x3) has 36 for 16):
//   U  [.., 16, C, D]        kernels: C channels summed over, D computed
//   V  [z, 16, C, T4]        patches, for y; z is the sample where each has a kernel of its own, else T runs through the batch
//   P  [z, 16, D, T4]        products
//   X  [z, 16, T, C]         patches and tiles of dy, for dw

import { type Finish, itemKernel, type Kernel, loaded, range, reads, stored, storing, type Target, writes } from '../wgsl/kernel.ts'
import { type Bias, biasBinding, type ConvShape, weightSize } from './convShape.ts'
import type { Direction } from './convDirect.ts'

const square = [0, 1, 2, 3]

// The rows of B^T, A, A^T, G and G^T applied to expressions; `keep` gives a name to what several of them share.
type Rows = (column: readonly string[], keep: (expression: string) => string) => readonly string[]

/** How many pixels a side of a tile of the result has. */
export type TileSide = 2 | 4

// The points of F(4x4, 3x3) besides 0 and infinity.
const [near, far] = [Math.SQRT1_2, Math.SQRT2]

/** B^T's. */
export const inputRows: { readonly [T in TileSide]: Rows } = {
  2: ([a, b, c, d]) => [`${a} - ${c}`, `${b} + ${c}`, `${c} - ${b}`, `${b} - ${d}`],
  4: ([a, b, c, d, e, f], keep) => {
    const [evenNear, oddNear] = [keep(`${e} - 2.0 * ${c}`), keep(`${near} * ${d} - ${far} * ${b}`)]
    const [evenFar, oddFar] = [keep(`${e} - 0.5 * ${c}`), keep(`${far} * ${d} - ${near} * ${b}`)]
    return [`${a} - 2.5 * ${c} + ${e}`, `${evenNear} + ${oddNear}`, `${evenNear} - ${oddNear}`, `${evenFar} + ${oddFar}`, `${evenFar} - ${oddFar}`, `${b} - 2.5 * ${d} + ${f}`]
  },
}
const tileRows: Rows = ([a, b]) => [`${a}`, `${a} + ${b}`, `${a} - ${b}`, `-${b}`]
/** A^T's. */
export const outputRows: { readonly [T in TileSide]: Rows } = {
  2: ([a, b, c, d]) => [`${a} + ${b} + ${c}`, `${b} - ${c} - ${d}`],
  4: ([a, b, c, d, e, f], keep) => {
    const [evenNear, oddNear, evenFar, oddFar] = [keep(`${b} + ${c}`), keep(`${b} - ${c}`), keep(`${d} + ${e}`), keep(`${d} - ${e}`)]
    return [`${a} + ${evenNear} + ${evenFar}`, `${near} * ${oddNear} + ${far} * ${oddFar}`, `0.5 * ${evenNear} + 2.0 * ${evenFar}`, `${near ** 3} * ${oddNear} + ${far ** 3} * ${oddFar} + ${f}`]
  },
}
const kernelRows: { readonly [T in TileSide]: Rows } = {
  2: ([a, b, c]) => [`${a}`, `0.5 * (${a} + ${b} + ${c})`, `0.5 * (${a} - ${b} + ${c})`, `${c}`],
  4: ([a, b, c], keep) => {
    const [evenNear, oddNear] = [keep(`(${a} + 0.5 * ${c}) * ${-2 / 3}`), keep(`${b} * ${(-2 / 3) * near}`)]
    const [evenFar, oddFar] = [keep(`(${a} + 2.0 * ${c}) * ${1 / 6}`), keep(`${b} * ${(1 / 6) * far}`)]
    return [`${a}`, `${evenNear} + ${oddNear}`, `${evenNear} - ${oddNear}`, `${evenFar} + ${oddFar}`, `${evenFar} - ${oddFar}`, `${c}`]
  },
}
const gradientRows: Rows = ([a, b, c, d]) => [`${a} + 0.5 * (${b} + ${c})`, `0.5 * (${b} - ${c})`, `0.5 * (${b} + ${c}) + ${d}`]

/** WGSL that applies a transform to both sides of the matrix `name`r_q: declares `name`t.._.. on the way, gives the elements. */
export function both(rows: Rows, name: string, size: number): { readonly code: string; readonly elements: readonly (readonly string[])[] } {
  const indices = range(size)
  const lines: string[] = []
  let kept = 0
  const keep = (expression: string): string => {
    lines.push(`let ${name}k${kept} = ${expression};`)
    return `${name}k${kept++}`
  }
  const heights = indices.map((q) => {
    const column = rows(
      indices.map((p) => `${name}${p}_${q}`),
      keep,
    )
    lines.push(column.map((value, p) => `let ${name}t${p}_${q} = ${value};`).join(' '))
    return column.length
  })
  const elements = Array.from({ length: heights[0] ?? 0 }, (_, p) =>
    rows(
      indices.map((q) => `${name}t${p}_${q}`),
      keep,
    ),
  )
  return { code: lines.join('\n  '), elements }
}

/** One side of a convolution as tiles: the images that patches are read from, or the images that tiles make up. */
export interface TileGrid {
  readonly target: Target
  readonly dtype: ConvShape['dtype']
  readonly batch: number
  /** Whether each sample has arrays of its own. */
  readonly perSample: boolean
  readonly side: TileSide
  /** Of the tiles: their rows and columns, and all of them in one array. */
  readonly rows: number
  readonly columns: number
}

/** The tiles of images of `size`. */
export function tileGrid({ target, dtype, batch, perSample }: ConvShape, size: readonly [height: number, width: number], side: TileSide): TileGrid {
  return { target, dtype, batch, perSample, side, rows: Math.ceil(size[0] / side), columns: Math.ceil(size[1] / side) }
}

/** Products that a tile takes. */
export function pointsOf(side: TileSide): number {
  return (side + 2) ** 2
}

/** Tiles in one array, and arrays. */
export function tileCounts({ batch, perSample, rows, columns }: TileGrid): { readonly tiles: number; readonly arrays: number } {
  return perSample ? { tiles: rows * columns, arrays: batch } : { tiles: rows * columns * batch, arrays: 1 }
}

// The most that one of the arrays may take: what every adapter can bind.
const maxArrayBytes = 128 * 2 ** 20

/** Whether a convolution and its gradients can be computed so. */
export function winogradTakes(shape: ConvShape): boolean {
  const { target, batch, kernelSize, attrs, dtype, inChannels, outChannels } = shape
  const { stride, dilation, groups } = attrs
  if (kernelSize.some((k) => k !== 3) || [...stride, ...dilation, groups].some((n) => n !== 1) || dtype !== 'float32') return false
  if (inChannels % 4 !== 0 || outChannels % 4 !== 0 || batch * 16 > target.maxGroups) return false
  return fits(shape, 2)
}

/** Whether the arrays of a convolution in tiles of this side can be bound. */
export function fits({ batch, inChannels, outChannels, inSize, outSize, perSample }: ConvShape, side: TileSide): boolean {
  const tiles = Math.ceil(Math.max(inSize[0], outSize[0]) / side) * Math.ceil(Math.max(inSize[1], outSize[1]) / side)
  const largest = Math.max(batch * tiles * Math.max(inChannels, outChannels), (perSample ? batch : 1) * inChannels * outChannels)
  return 4 * pointsOf(side) * largest <= maxArrayBytes
}

/** The channels summed over and those computed. */
export function winogradChannels({ inChannels, outChannels }: ConvShape, direction: Direction): readonly [summed: number, computed: number] {
  return direction === 'forward' ? [inChannels, outChannels] : [outChannels, inChannels]
}

/** Elements of a transformed kernel. */
export function transformedSize(shape: ConvShape, direction: Direction, side: TileSide): number {
  const [summed, computed] = winogradChannels(shape, direction)
  return pointsOf(side) * summed * computed
}

/** U of `count` kernels. Bindings: w (dense), u. */
export function transformKernelsKernel(shape: ConvShape, direction: Direction, count: number, side: TileSide): Kernel {
  const { target, dtype, inChannels } = shape
  const [summed, computed] = winogradChannels(shape, direction)
  const wide = computed / 4
  const element = (tap: number, j: number): string => loaded(`w[at${j} + ${direction === 'forward' ? tap : 8 - tap}u]`, dtype, target)
  const place = (j: number): string => (direction === 'forward' ? `((d + ${j}u) * ${inChannels}u + c) * 9u` : `(c * ${inChannels}u + d + ${j}u) * 9u`)
  const { code, elements } = both(kernelRows[side], 'w', 3)
  return itemKernel({
    label: 'winograd kernels',
    target,
    bindings: [
      { name: 'w', dtype },
      { name: 'u', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    count: count * summed * wide,
    body: `  let quad = item % ${wide}u;
  let c = (item / ${wide}u) % ${summed}u;
  let k = item / ${wide * summed}u;
  let d = quad * 4u;
  ${square.map((j) => `let at${j} = k * ${weightSize(shape)}u + ${place(j)};`).join('\n  ')}
  ${Array.from({ length: 9 }, (_, tap) => `let w${Math.floor(tap / 3)}_${tap % 3} = vec4<f32>(${square.map((j) => element(tap, j)).join(', ')});`).join('\n  ')}
  ${code}
  let to = k * ${pointsOf(side) * summed * wide}u + c * ${wide}u + quad;
  ${elements.flat().map((value, e) => `u[to + ${e * summed * wide}u] = ${value};`).join('\n  ')}`,
  })
}

/** Where an item's number comes from: tile and channel, whichever is fastest, and the array. */
function tileOf(grid: TileGrid, channels: number, fastest: 'tile' | 'channel'): string {
  const perImage = grid.rows * grid.columns
  const t = fastest === 'tile' ? `let t = item % ${perImage}u; let c = (item / ${perImage}u) % ${channels}u;` : `let c = item % ${channels}u; let t = (item / ${channels}u) % ${perImage}u;`
  return `${t}
  let n = item / ${channels * perImage}u;
  let tileAt = ${grid.perSample ? 't' : `n * ${perImage}u + t`};
  let z = ${grid.perSample ? 'n' : '0u'};
  let row = i32(t / ${grid.columns}u) * ${grid.side}; let column = i32(t % ${grid.columns}u) * ${grid.side};`
}

// Where element 0 of a tile goes in an array [z, 16, ..] (36 for 16 with tiles of 4 x 4), and how far apart they are.
function tilePlace(grid: TileGrid, channels: number, fastest: 'tile' | 'channel'): { readonly to: string; readonly apart: number } {
  const { tiles } = tileCounts(grid)
  const line = fastest === 'tile' ? 4 * Math.ceil(tiles / 4) : channels
  const apart = line * (fastest === 'tile' ? channels : tiles)
  return { to: `z * ${pointsOf(grid.side) * apart}u + ${fastest === 'tile' ? `c * ${line}u + tileAt` : `tileAt * ${line}u + c`}`, apart }
}

/** WGSL that declares where the rows and columns of a patch lie (row0 ..., times the width) and whether inside of the image (rowOk0 ...). */
export function patchPlaces(size: number, [top, left]: readonly [number, number], [height, width]: readonly [number, number]): string {
  const axis = (what: 'row' | 'column', before: number, extent: number): string[] =>
    Array.from({ length: size }, (_, i) => {
      const at = `${what} + ${i - before}`
      return `let ${what}Ok${i} = (${at} >= 0) & (${at} < ${extent}); let ${what}${i} = clamp(${at}, 0, ${extent - 1})${what === 'row' ? ` * ${width}` : ''};`
    })
  return [...axis('row', top, height), ...axis('column', left, width)].join('\n  ')
}

// WGSL that declares the elements name0_0 ... of a patch of `size` x `size` from row + r - top, 0 outside of the image.
function patch(array: string, name: string, size: number, padding: readonly [number, number], extent: readonly [number, number], load: (element: string) => string): string {
  const side = range(size)
  const elements = side.flatMap((r) => side.map((q) => `let ${name}${r}_${q} = select(0.0, ${load(`${array}[plane + row${r} + column${q}]`)}, rowOk${r} & columnOk${q});`))
  return [patchPlaces(size, padding, extent), ...elements].join('\n  ')
}

/** Images [N, C, H, W] that patches (from `padding` before each tile) or, for gradients, tiles of 2 x 2 are read from. */
export interface Images {
  readonly channels: number
  readonly size: readonly [height: number, width: number]
  /** The sample that sample 0 of the arrays is. */
  readonly first?: number
  /** Undefined: tiles. */
  readonly padding?: readonly [top: number, left: number]
}

/** V or X. Bindings: images, transformed. */
export function transformImagesKernel(grid: TileGrid, { channels, size, first = 0, padding }: Images, fastest: 'tile' | 'channel'): Kernel {
  const { target, dtype, batch, rows, columns } = grid
  const side = padding ? grid.side + 2 : grid.side
  const { code, elements } = both(padding ? inputRows[grid.side] : tileRows, 'd', side)
  const { to, apart } = tilePlace(grid, channels, fastest)
  return itemKernel({
    label: padding ? 'winograd patches' : 'winograd tiles',
    target,
    bindings: [...reads(dtype, 'x'), ...writes('float32', 'v')],
    count: batch * channels * rows * columns,
    body: `  ${tileOf(grid, channels, fastest)}
  let plane = i32(${first > 0 ? `(n + ${first}u)` : 'n'} * ${channels}u + c) * ${size[0] * size[1]};
  ${patch('x', 'd', side, padding ?? [0, 0], size, (element) => loaded(element, dtype, target))}
  ${code}
  let to = ${to};
  ${elements.flat().map((value, e) => `v[to + ${e * apart}u] = ${value};`).join('\n  ')}`,
  })
}

/** y from its products, of which there are `parts` to be added up. Bindings: p, bias where there is one, and y or what `finish` has. */
export function winogradOutputKernel(grid: TileGrid, channels: number, [height, width]: readonly [number, number], bias: Bias, parts: number = 1, finish: Finish = storing(grid.dtype, grid.target)): Kernel {
  const { target, dtype, batch, rows, columns } = grid
  const { side } = grid
  const patch = range(side + 2)
  const { code, elements } = both(outputRows[side], 'p', patch.length)
  const { to, apart } = tilePlace(grid, channels, 'tile')
  const added = bias === 'none' ? '' : ` + ${loaded(bias === 'channel' ? 'bias[c]' : `bias[n * ${channels}u + c]`, dtype, target)}`
  const stores = elements.flatMap((line, r) =>
    line.map((value, q) => {
      const guards = [...(r && height % side ? [`row + ${r} < ${height}`] : []), ...(q && width % side ? [`column + ${q} < ${width}`] : [])]
      const store = finish.store(`${value}${added}`, `at + ${r * width + q}u`)
      return guards.length ? `if (${guards.join(' && ')}) { ${store} }` : store
    }),
  )
  const size = tileCounts(grid).arrays * patch.length ** 2 * apart
  const product = (at: number): string => range(parts).map((part) => `p[origin + ${part * size + at}u]`).join(' + ')
  return itemKernel({
    label: `winograd output${finish.label}`,
    target,
    bindings: [...reads('float32', 'p'), ...biasBinding(bias, dtype), ...finish.bindings],
    declarations: finish.declarations,
    count: batch * channels * rows * columns,
    body: `  ${tileOf(grid, channels, 'tile')}
  let origin = ${to};
  ${patch.flatMap((r) => patch.map((q) => `let p${r}_${q} = ${product((r * patch.length + q) * apart)};`)).join('\n  ')}
  ${code}
  let at = (n * ${channels}u + c) * ${height * width}u + u32(row * ${width} + column);
  ${stores.join('\n  ')}`,
  })
}

/**
 * dw [count, O, I, 3, 3] from `parts` x `count` transformed gradients [.., 16, I, O] that are summed over the parts.
 * Bindings: u, dw.
 */
export function kernelGradientKernel(shape: ConvShape, count: number, parts: number): Kernel {
  const { target, dtype, inChannels, outChannels } = shape
  const wide = outChannels / 4
  const plane = inChannels * wide
  const element = (at: number): string => Array.from({ length: parts }, (_, p) => `u[origin + ${(p * count * 16 + at) * plane}u]`).join(' + ')
  const { code, elements } = both(gradientRows, 'u', 4)
  const store = (j: number): string => {
    const lines = elements.flatMap((row, r) => row.map((_, q) => `dw[to${j} + ${r * 3 + q}u] = ${stored(`g${r}_${q}.${'xyzw'[j]}`, dtype, target)};`))
    return lines.join(' ')
  }
  return itemKernel({
    label: 'winograd gradient',
    target,
    bindings: [
      { name: 'u', dtype: 'float32', width: 4 },
      { name: 'dw', dtype, access: 'read_write' },
    ],
    count: count * plane,
    body: `  let quad = item % ${wide}u;
  let c = (item / ${wide}u) % ${inChannels}u;
  let k = item / ${plane}u;
  let origin = k * ${16 * plane}u + c * ${wide}u + quad;
  ${square.flatMap((r) => square.map((q) => `let u${r}_${q} = ${element(r * 4 + q)};`)).join('\n  ')}
  ${code}
  ${elements.flatMap((row, r) => row.map((value, q) => `let g${r}_${q} = ${value};`)).join('\n  ')}
  ${square.map((j) => `let to${j} = k * ${weightSize(shape)}u + ((quad * 4u + ${j}u) * ${inChannels}u + c) * 9u;`).join('\n  ')}
  ${square.map(store).join('\n  ')}`,
  })
}
