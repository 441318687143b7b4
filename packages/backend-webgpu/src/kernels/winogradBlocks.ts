// Winograd's convolution (winograd.ts has the formulas) for adapters that run on a processor. There loads are dear, one float
// costs as much as a dozen multiply-adds, and what a compiler makes of matrix products is twice as fast as what it makes of
// their single multiply-adds. So the 16 products are written as products of 4 x 4 matrices, four lanes share the patches
// that they load, and arrays are laid out in the order in which invocations go through them:
//   U  [z, 16, C, D]               kernels, as everywhere; vec4s along D
//   V  [z, blocks, 16, C/4, R, 4]  patches: R tiles a block, four channels together
//   P  [z, T, 16, D]               products: all channels of a tile together
// (The 16 lie close to each other, for an invocation touches them one after the other: megabytes apart, as powers of two would
// be, they would all want the same few lines of the cache.)
// A block of patches times some vec4s of kernels is an invocation's work:
//   P[t, d] = sum_c V[t, c] U[c, d];  columns of 4 tiles x 4 channels of P = (4 d x 4 c of U) (4 c x 4 t of V), matrix by matrix.
//
// Lanes. The four lanes of a quad have the same tiles and different kernels. Lane q loads tile q of each four; a swap within the
// quad gives it tile q ^ 1, q ^ 2 and q ^ 3. That another order than 0, 1, 2, 3 comes out only means that column r of a sum
// belongs to tile q ^ r, which matters nowhere but where it is stored.

import { fold, itemKernel, kernel, type Kernel, range, type Target } from '../wgsl/kernel.ts'
import { type Direction, unrollLimit } from './convDirect.ts'
import { type Bias, biasBinding, type ConvShape } from './convShape.ts'
import {
  both,
  fits,
  type Images,
  inputRows,
  outputRows,
  patchPlaces,
  pointsOf,
  tileCounts,
  type TileGrid,
  tileGrid,
  type TileSide,
  transformedSize,
  winogradChannels,
} from './winograd.ts'

const four = range(4)

/** How the products are cut: an invocation's tiles (R = 4 times `fours`) and vec4s of kernels. */
export interface Blocks {
  readonly fours: number
  readonly quads: number
}

// Nanoseconds for four lanes on SwiftShader: a loaded float, one that lanes swap, a multiply-add, a sum carried over an iteration.
// With them the cost of the layers of the README's table is within a third of what their kernels take by the device's clock.
const price = { load: 16, swap: 1, multiplyAdd: 0.9, carry: 3 }
const maxQuads = 4
// Of accumulators, in matrices: more leave the nearest cache.
const maxMatrices = 28

/** The cheapest cut whose text has at most `maxUnrolled` multiply-adds of vec4s. */
export function blocksFor(target: Target, tiles: number, computed: number, maxUnrolled: number): Blocks {
  return cheapestBlocks(target, tiles, computed, maxUnrolled).blocks
}

// The same, with nanoseconds of one core for four channels of the sum, of one of the products.
function cheapestBlocks({ subgroups }: Target, tiles: number, computed: number, maxUnrolled: number): { readonly blocks: Blocks; readonly cost: number } {
  const [lanes, share] = subgroups ? [4, 4] : [1, 1]
  let best: { readonly blocks: Blocks; readonly cost: number } | undefined
  for (const quads of range(maxQuads).map((i) => i + 1)) {
    for (const fours of range(Math.min(Math.ceil(tiles / 4), Math.floor(maxMatrices / quads))).map((i) => i + 1)) {
      if (fours * quads * 16 > maxUnrolled && fours * quads > 1) continue
      const count = Math.ceil(tiles / (4 * fours)) * Math.ceil(computed / (4 * quads * lanes)) * lanes
      const swaps = ((share - 1) * 16 * fours) / share
      const cost = (count / 4) * (((16 * fours) / share + 16 * quads) * price.load + swaps * price.swap + 16 * fours * quads * (4 * price.multiplyAdd + price.carry))
      if (!best || cost < best.cost) best = { blocks: { fours, quads }, cost }
    }
  }
  return best ?? { blocks: { fours: 1, quads: 1 }, cost: Number.POSITIVE_INFINITY }
}

/** Nanoseconds of one core for mixing kernels of `size` elements: each basis is loaded, and each sample's kernel stored. */
export function mixingCost({ batch, perSample }: ConvShape, size: number): number {
  return perSample ? (size / 16) * (batch + usualBases) * 4 * price.load : 0
}

// Bases of a dynamic convolution, where their number does not matter enough to be known.
const usualBases = 4

/** The tiles that a convolution takes, and nanoseconds of one core of SwiftShader's that it then takes. */
export function cheapestTiles(shape: ConvShape, direction: Direction): { readonly side: TileSide; readonly cost: number } {
  const costs = ([2, 4] as const).filter((side) => side === 2 || fits(shape, side)).map((side) => ({ side, cost: winogradCost(shape, direction, side) }))
  return costs.reduce((a, b) => (b.cost < a.cost ? b : a))
}

/** The tiles that a convolution takes. On cards the large ones, where there are enough of them for each kernel that is loaded. */
export function sideFor(shape: ConvShape, direction: Direction): TileSide {
  if (shape.target.kind === 'software') return cheapestTiles(shape, direction).side
  const { tiles, arrays } = tileCounts(tileGrid(shape, direction === 'forward' ? shape.outSize : shape.inSize, 4))
  return tiles >= 32 && fits(shape, 4) && arrays * pointsOf(4) <= shape.target.maxGroups ? 4 : 2
}

function winogradCost(shape: ConvShape, direction: Direction, side: TileSide): number {
  const [summed, computed] = winogradChannels(shape, direction)
  const grid = tileGrid(shape, direction === 'forward' ? shape.outSize : shape.inSize, side)
  const { tiles, arrays } = tileCounts(grid)
  const points = pointsOf(side)
  // Patches are loaded and stored, products loaded.
  const transforms = ((tiles * arrays * points) / 16) * (2 * summed + computed) * price.load
  const products = cheapestBlocks(shape.target, tiles, computed, unrollLimit(shape)).cost * (summed / 4) * points * arrays
  return transforms + products + mixingCost(shape, transformedSize(shape, direction, side))
}

/** vec4s of V. */
export function patchesSize(grid: TileGrid, channels: number, { fours }: Blocks): number {
  const { tiles, arrays } = tileCounts(grid)
  return arrays * pointsOf(grid.side) * Math.ceil(tiles / (4 * fours)) * channels * fours
}

// Neighbouring tiles that are taken together, channels after channels: their pixels share cache lines.
const together = 8

// An item for each tile and quad of channels, and WGSL of which they are: t of its image n, tileAt of its array z.
function tileItems({ rows, columns, batch, perSample, side }: TileGrid, quads: number): { readonly count: number; readonly code: string } {
  const perImage = rows * columns
  const tiles = batch * perImage
  return {
    count: Math.ceil(tiles / together) * together * quads,
    code: `let quad = (item / ${together}u) % ${quads}u;
  let tile = (item / ${together * quads}u) * ${together}u + item % ${together}u;
  ${tiles % together ? `if (tile >= ${tiles}u) { return; }` : ''}
  let n = tile / ${perImage}u;
  let t = tile % ${perImage}u;
  let tileAt = ${perSample ? 't' : 'tile'};
  let z = ${perSample ? 'n' : '0u'};
  let row = i32(t / ${columns}u) * ${side}; let column = i32(t % ${columns}u) * ${side};`,
  }
}

/** V of images in float32. Bindings: images, v. */
export function blockedPatchesKernel(grid: TileGrid, { channels, size, padding = [0, 0] }: Images, { fours }: Blocks): Kernel {
  const { tiles } = tileCounts(grid)
  const quads = channels / 4
  const block = 4 * fours
  const apart = quads * block
  const { count, code: place } = tileItems(grid, quads)
  const plane = size[0] * size[1]
  const patch = range(grid.side + 2)
  const points = pointsOf(grid.side)
  const { code, elements } = both(inputRows[grid.side], 'd', patch.length)
  const loads = patch.flatMap((r) =>
    patch.map((q) => `let at${r}_${q} = plane + row${r} + column${q}; let d${r}_${q} = select(vec4<f32>(0.0), vec4<f32>(${four.map((c) => `x[at${r}_${q} + ${c * plane}]`).join(', ')}), rowOk${r} & columnOk${q});`),
  )
  return itemKernel({
    label: 'winograd patches',
    target: grid.target,
    bindings: [
      { name: 'x', dtype: 'float32' },
      { name: 'v', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    count,
    body: `  ${place}
  let plane = i32(n * ${channels}u + quad * 4u) * ${plane};
  ${patchPlaces(patch.length, padding, size)}
  ${loads.join('\n  ')}
  ${code}
  let to = (z * ${Math.ceil(tiles / block)}u + tileAt / ${block}u) * ${points * apart}u + quad * ${block}u + tileAt % ${block}u;
  ${elements.flat().map((value, e) => `v[to + ${e * apart}u] = ${value};`).join('\n  ')}`,
  })
}

const workgroup = 32

/** P. Bindings: u, v, p. */
export function blockedProductsKernel(grid: TileGrid, summed: number, computed: number, { fours, quads }: Blocks): Kernel {
  const { target } = grid
  const { tiles, arrays } = tileCounts(grid)
  const shared = target.subgroups
  const points = pointsOf(grid.side)
  const wide = computed / 4
  const block = 4 * fours
  const blocks = Math.ceil(tiles / block)
  const across = shared ? 4 * Math.ceil(wide / (4 * quads)) : Math.ceil(wide / quads)
  const total = across * blocks * points * arrays
  const { width, groups } = fold(Math.ceil(total / workgroup), target)
  const each = (f: (i: number, j: number) => string): string => range(fours).map((i) => range(quads).map((j) => f(i, j)).join(' ')).join('\n    ')
  const patches = range(fours).map((i) => {
    if (!shared) return `let v${i} = mat4x4<f32>(${four.map((r) => `v[pv + ${i * 4 + r}u]`).join(', ')});`
    return `let s${i} = v[pv + ${i * 4}u + q]; let v${i} = mat4x4<f32>(s${i}, quadSwapX(s${i}), quadSwapY(s${i}), quadSwapDiagonal(s${i}));`
  })
  const partial = across * quads > wide
  const kernels = range(quads).flatMap((j) => [
    `let k${j} = pu + ${partial ? `min(first + ${j}u, ${wide - 1}u)` : `first + ${j}u`};`,
    `let u${j} = mat4x4<f32>(${four.map((c) => `u[k${j} + ${c * wide}u]`).join(', ')});`,
  ])
  const stores = range(fours).flatMap((i) =>
    four.map((r) => {
      const [tile, to] = [`tile${i}_${r}`, `to${i}_${r}`]
      const lines = range(quads).map((j) => {
        const store = `p[${to} + ${j}u] = c${i}_${j}[${r}];`
        return partial ? `if (first + ${j}u < ${wide}u) { ${store} }` : store
      })
      const guard = tiles % block ? `if (${tile} < ${tiles}u) ` : ''
      return `let ${tile} = at * ${block}u + ${shared ? `(q ^ ${r}u) + ${i * 4}u` : `${i * 4 + r}u`}; let ${to} = ((z * ${tiles}u + ${tile}) * ${points}u + e) * ${wide}u + first; ${guard}{ ${lines.join(' ')} }`
    }),
  )
  const group = groups[1] === 1 ? 'group.x' : `(group.x + group.y * ${width}u)`
  // Swaps want all lanes to be there: those without work repeat the last item's, and store nothing.
  const body = `  let place = ${group} * ${workgroup}u + ${shared ? 'subgroup * subgroupSize + subgroupLane' : 'lane'};
  ${shared ? `let item = min(place, ${total - 1}u);\n  let q = subgroupLane % 4u;` : `if (place >= ${total}u) { return; }\n  let item = place;`}
  let first = (item % ${across}u) * ${quads}u;
  let at = (item / ${across}u) % ${blocks}u;
  let e = (item / ${across * blocks}u) % ${points}u;
  let z = item / ${across * blocks * points}u;
  var pu = (z * ${points}u + e) * ${summed * wide}u;
  var pv = ((z * ${blocks}u + at) * ${points}u + e) * ${(summed / 4) * block}u;
  ${each((i, j) => `var c${i}_${j} = mat4x4<f32>();`)}
  for (var c = 0u; c < ${summed / 4}u; c++) {
    ${patches.join('\n    ')}
    ${kernels.join('\n    ')}
    ${each((i, j) => `c${i}_${j} = c${i}_${j} + u${j} * v${i};`)}
    pu += ${4 * wide}u;
    pv += ${block}u;
  }
  ${shared ? `if (place >= ${total}u) { return; }\n  ` : ''}${stores.join('\n  ')}`
  return kernel({
    label: 'winograd products',
    target,
    bindings: [
      { name: 'u', dtype: 'float32', width: 4 },
      { name: 'v', dtype: 'float32', width: 4 },
      { name: 'p', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    workgroupSize: workgroup,
    groups,
    multiplyAdds: total * fours * quads * 16 * summed,
    body,
  })
}

/** y in float32 from its products. Bindings: p, y, bias where there is one. */
export function blockedOutputKernel(grid: TileGrid, channels: number, [height, width]: readonly [number, number], bias: Bias): Kernel {
  const { tiles } = tileCounts(grid)
  const wide = channels / 4
  const plane = height * width
  const { count, code: place } = tileItems(grid, wide)
  const patch = range(grid.side + 2)
  const { code, elements } = both(outputRows[grid.side], 'p', patch.length)
  const added = bias === 'none' ? '' : ' + added'
  const stores = elements.flatMap((line, r) =>
    line.map((value, q) => {
      const guards = [...(r && height % grid.side ? [`(row + ${r} < ${height})`] : []), ...(q && width % grid.side ? [`(column + ${q} < ${width})`] : [])]
      const lines = four.map((c) => `y[at + ${c * plane + r * width + q}] = y${r}_${q}.${'xyzw'[c]};`).join(' ')
      return `let y${r}_${q} = ${value}${added}; ${guards.length ? `if (${guards.join(' & ')}) { ${lines} }` : lines}`
    }),
  )
  const biasAt = bias === 'channel' ? 'quad * 4u' : `n * ${channels}u + quad * 4u`
  return itemKernel({
    label: 'winograd output',
    target: grid.target,
    bindings: [
      { name: 'p', dtype: 'float32', width: 4 },
      { name: 'y', dtype: 'float32', access: 'read_write' },
      ...biasBinding(bias, 'float32'),
    ],
    count,
    body: `  ${place}
  ${bias === 'none' ? '' : `let biasAt = ${biasAt}; let added = vec4<f32>(${four.map((c) => `bias[biasAt + ${c}u]`).join(', ')});`}
  let origin = (z * ${tiles}u + tileAt) * ${patch.length ** 2 * wide}u + quad;
  ${patch.flatMap((r) => patch.map((q) => `let p${r}_${q} = p[origin + ${(r * patch.length + q) * wide}u];`)).join('\n  ')}
  ${code}
  let at = i32(n * ${channels}u + quad * 4u) * ${plane} + row * ${width} + column;
  ${stores.join('\n  ')}`,
  })
}
