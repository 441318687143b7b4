// Winograd's convolution (winograd.ts has the formulas) for adapters that run on a processor. There loads are dear, one float
// costs as much as a dozen multiply-adds, and what a compiler makes of matrix products is twice as fast as what it makes of
// their single multiply-adds. So the 16 products are written as products of 4 x 4 matrices, four lanes share the patches
// that they load, and arrays are laid out in the order in which invocations go through them:
//   U  [z, 16, C, D]               kernels, as everywhere; vec4s along D
//   V  [z, blocks, 16, C/4, R, 4]  patches: R tiles a block, four channels together
//                                  (of S samples where kernels are mixed on load: [ceil(z/S), blocks, 16, C/4, S, R, 4])
//   P  [z, T, 16, D]               products: all channels of a tile together
// (The 16 lie close to each other, for an invocation touches them one after the other: megabytes apart, as powers of two would
// be, they would all want the same few lines of the cache.)
// A block of patches times some vec4s of kernels is an invocation's work:
//   P[t, d] = sum_c V[t, c] U[c, d];  columns of 4 tiles x 4 channels of P = (4 d x 4 c of U) (4 c x 4 t of V), matrix by matrix.
//
// Lanes. The four lanes of a quad have the same tiles and different kernels. Lane q loads tile q of each four; a swap within the
// quad gives it tile q ^ 1, q ^ 2 and q ^ 3. That another order than 0, 1, 2, 3 comes out only means that column r of a sum
// belongs to tile q ^ r, which matters nowhere but where it is stored.
//
// Mixing. Kernels mixed for each sample are dear to store and to load again, where few tiles use them. An invocation may take
// several samples instead: for four channels it loads the bases of its kernels once, and mixes them in registers for each sample.

import { type Finish, fold, itemKernel, kernel, type Kernel, range, reads, storing, type Target } from '../wgsl/kernel.ts'
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
  winogradChannels,
} from './winograd.ts'

const four = range(4)

/** How the products are cut: an invocation's tiles (R = 4 times `fours`, of each of its samples) and vec4s of kernels. */
export interface Blocks {
  readonly fours: number
  readonly quads: number
  /** The samples whose kernels are mixed as the bases are loaded; undefined where kernels lie in memory. */
  readonly samples?: number
}

/** What there is to multiply. */
export interface Products {
  readonly target: Target
  /** Of each array. */
  readonly tiles: number
  readonly arrays: number
  readonly computed: number
  /** The bases of a dynamic convolution. */
  readonly numBases?: number | undefined
  /** The most multiply-adds of vec4s that a text may have. */
  readonly maxUnrolled: number
}

// Nanoseconds for four lanes on SwiftShader: a loaded float, one of bases (far apart, in no cache), a stored float, one that
// lanes swap, a multiply-add, a sum carried over an iteration. With them the cost of the layers of the README's table is within
// a third of what their kernels take by the device's clock.
const price = { load: 16, basis: 20, store: 26, swap: 1, multiplyAdd: 0.9, carry: 3 }
const maxQuads = 4
// Of accumulators, in matrices: more leave the nearest cache.
const maxMatrices = 32
// More bases than this, of four channels, leave it too.
const maxMixedBases = 8
// Bases of a dynamic convolution, where their number does not matter enough to be known.
const usualBases = 4

/** The products of a convolution, of `numBases` bases where it is dynamic. */
export function productsOf(shape: ConvShape, direction: Direction, side: TileSide, numBases: number = usualBases): Products {
  const counts = tileCounts(tileGrid(shape, direction === 'forward' ? shape.outSize : shape.inSize, side))
  const [, computed] = winogradChannels(shape, direction)
  return { target: shape.target, ...counts, computed, numBases: shape.perSample ? numBases : undefined, maxUnrolled: unrollLimit(shape) }
}

/** The cheapest cut. */
export function blocksFor(products: Products): Blocks {
  return cheapestBlocks(products).blocks
}

// The same, with nanoseconds of one core for four channels of the sum, of one of the points.
function cheapestBlocks(products: Products, mixesOnLoad: boolean = true): { readonly blocks: Blocks; readonly cost: number } {
  return possibleBlocks(products)
    .filter(({ samples }) => mixesOnLoad || samples === undefined)
    .map((blocks) => ({ blocks, cost: productsCost(products, blocks) }))
    .reduce((a, b) => (b.cost < a.cost ? b : a))
}

function possibleBlocks(products: Products): readonly Blocks[] {
  const { tiles, arrays, numBases, maxUnrolled } = products
  const upTo = (count: number): readonly number[] => range(count).map((i) => i + 1)
  const mixed = numBases !== undefined && numBases <= maxMixedBases ? upTo(Math.min(arrays, maxMatrices)) : []
  const all = [undefined, ...mixed].flatMap((samples) =>
    upTo(maxQuads).flatMap((quads) =>
      upTo(Math.min(Math.ceil(tiles / 4), Math.floor(maxMatrices / (quads * (samples ?? 1))))).map((fours) => (samples === undefined ? { fours, quads } : { fours, quads, samples })),
    ),
  )
  const short = all.filter((blocks) => unrolledLength(products, blocks) <= maxUnrolled)
  return short.length > 0 ? short : [{ fours: 1, quads: 1 }]
}

function unrolledLength({ numBases = 0 }: Products, { fours, quads, samples = 0 }: Blocks): number {
  return quads * (16 * fours * Math.max(1, samples) + 4 * numBases * samples)
}

function productsCost({ target, tiles, arrays, computed, numBases = 0 }: Products, { fours, quads, samples }: Blocks): number {
  const [lanes, share] = target.subgroups ? [4, 4] : [1, 1]
  const rows = fours * (samples ?? 1)
  const count = Math.ceil(tiles / (4 * fours)) * Math.ceil(computed / (4 * quads * lanes)) * lanes * Math.ceil(arrays / (samples ?? 1))
  const kernels = samples === undefined ? price.load : numBases * (price.basis + samples * price.multiplyAdd)
  const patches = (price.load + (share - 1) * price.swap) / share
  const each = 16 * (rows * patches + quads * kernels + rows * quads * (4 * price.multiplyAdd + price.carry))
  return (count / 4) * each + (samples === undefined && numBases > 0 ? mixing(arrays, numBases, 4 * computed) : 0)
}

// Of `size` elements, in memory.
function mixing(samples: number, numBases: number, size: number): number {
  return (size / 4) * (numBases * price.load + samples * (price.store + numBases * price.multiplyAdd))
}

/** Nanoseconds of one core for mixing kernels of `size` elements: each basis is loaded, and each sample's kernel stored. */
export function mixingCost({ batch, perSample }: ConvShape, size: number): number {
  return perSample ? mixing(batch, usualBases, size) : 0
}

/**
 * The tiles that a convolution takes, and nanoseconds of one core of SwiftShader's that it then takes. Bases that are not `fixed`
 * are transformed in every run: to 36 elements that costs what mixing them on load saves (a step of 256 channels of 14 x 14
 * pixels at batch 8 took 1.08 of its time), so that they take the tiles that are best with kernels in memory.
 */
export function cheapestTiles(shape: ConvShape, direction: Direction, fixed: boolean = true): { readonly side: TileSide; readonly cost: number } {
  // Bases have to fit as well.
  const all = { ...shape, batch: shape.perSample ? Math.max(shape.batch, usualBases) : shape.batch }
  const costs = ([2, 4] as const).filter((side) => side === 2 || fits(all, side)).map((side) => ({ side, cost: winogradCost(shape, direction, side, fixed) }))
  return costs.reduce((a, b) => (b.cost < a.cost ? b : a))
}

/** The tiles that a convolution takes. On cards the large ones, where there are enough of them for each kernel that is loaded. */
export function sideFor(shape: ConvShape, direction: Direction, fixed: boolean = true): TileSide {
  if (shape.target.kind === 'software') return cheapestTiles(shape, direction, fixed).side
  const { tiles, arrays } = tileCounts(tileGrid(shape, direction === 'forward' ? shape.outSize : shape.inSize, 4))
  return tiles >= 32 && fits(shape, 4) && arrays * pointsOf(4) <= shape.target.maxGroups ? 4 : 2
}

function winogradCost(shape: ConvShape, direction: Direction, side: TileSide, mixesOnLoad: boolean): number {
  const [summed, computed] = winogradChannels(shape, direction)
  const products = productsOf(shape, direction, side)
  const points = pointsOf(side)
  // Patches are loaded and stored, products loaded.
  const transforms = ((products.tiles * products.arrays * points) / 16) * (2 * summed + computed) * price.load
  return transforms + cheapestBlocks(products, mixesOnLoad).cost * (summed / 4) * points
}

/** vec4s of V. */
export function patchesSize(grid: TileGrid, channels: number, { fours, samples = 1 }: Blocks): number {
  const { tiles, arrays } = tileCounts(grid)
  return Math.ceil(arrays / samples) * samples * pointsOf(grid.side) * Math.ceil(tiles / (4 * fours)) * channels * fours
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
export function blockedPatchesKernel(grid: TileGrid, { channels, size, padding = [0, 0] }: Images, { fours, samples = 1 }: Blocks): Kernel {
  const { tiles } = tileCounts(grid)
  const quads = channels / 4
  const block = 4 * fours
  const apart = quads * block * samples
  const [group, sample] = samples > 1 ? [`z / ${samples}u`, ` + (z % ${samples}u) * ${block}u`] : ['z', '']
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
  let to = (${group} * ${Math.ceil(tiles / block)}u + tileAt / ${block}u) * ${points * apart}u + quad * ${block * samples}u${sample} + tileAt % ${block}u;
  ${elements.flat().map((value, e) => `v[to + ${e * apart}u] = ${value};`).join('\n  ')}`,
  })
}

const workgroup = 32

/** P. Bindings: u, v, p; where `numBases` bases are mixed on load u are these, and pi comes last. */
export function blockedProductsKernel(grid: TileGrid, summed: number, computed: number, { fours, quads, samples }: Blocks, numBases: number = 0): Kernel {
  const { target } = grid
  const { tiles, arrays } = tileCounts(grid)
  const shared = target.subgroups
  const points = pointsOf(grid.side)
  const wide = computed / 4
  const block = 4 * fours
  const ofInvocation = range(samples ?? 1)
  const rows = fours * ofInvocation.length
  const blocks = Math.ceil(tiles / block)
  const across = shared ? 4 * Math.ceil(wide / (4 * quads)) : Math.ceil(wide / quads)
  const total = across * blocks * points * Math.ceil(arrays / ofInvocation.length)
  const { width, groups } = fold(Math.ceil(total / workgroup), target)
  const each = (list: readonly number[], f: (i: number, j: number) => string): string => list.map((i) => range(quads).map((j) => f(i, j)).join(' ')).join('\n    ')
  const ofSample = (s: number): readonly number[] => range(fours).map((i) => s * fours + i)
  const patches = (i: number): string => {
    if (!shared) return `let v${i} = mat4x4<f32>(${four.map((r) => `v[pv + ${i * 4 + r}u]`).join(', ')});`
    return `let s${i} = v[pv + ${i * 4}u + q]; let v${i} = mat4x4<f32>(s${i}, quadSwapX(s${i}), quadSwapY(s${i}), quadSwapDiagonal(s${i}));`
  }
  const partial = across * quads > wide
  const bases = range(numBases)
  const kernels = range(quads).flatMap((j) => {
    const matrix = (k: number): string => `mat4x4<f32>(${four.map((c) => `u[k${j} + ${k * points * summed * wide + c * wide}u]`).join(', ')})`
    const loads = samples === undefined ? [`let u${j} = ${matrix(0)};`] : bases.map((k) => `let w${k}_${j} = ${matrix(k)};`)
    return [`let k${j} = pu + ${partial ? `min(first + ${j}u, ${wide - 1}u)` : `first + ${j}u`};`, ...loads]
  })
  const step =
    samples === undefined
      ? [...range(rows).map(patches), ...kernels, each(range(rows), (i, j) => `c${i}_${j} = c${i}_${j} + u${j} * v${i};`)]
      : [
          ...kernels,
          ...ofInvocation.flatMap((s) => [
            ...ofSample(s).map(patches),
            ...range(quads).map((j) => `let u${s}_${j} = ${bases.map((k) => `pi${s}_${k} * w${k}_${j}`).join(' + ')};`),
            each(ofSample(s), (i, j) => `c${i}_${j} = c${i}_${j} + u${s}_${j} * v${i};`),
          ]),
        ]
  const odd = arrays % ofInvocation.length > 0
  const stores = ofInvocation.map((s) => {
    const z = s ? `(z + ${s}u)` : 'z'
    const lines = range(fours).flatMap((f) =>
      four.map((r) => {
        const i = s * fours + f
        const [tile, to] = [`tile${i}_${r}`, `to${i}_${r}`]
        const elements = range(quads).map((j) => {
          const store = `p[${to} + ${j}u] = c${i}_${j}[${r}];`
          return partial ? `if (first + ${j}u < ${wide}u) { ${store} }` : store
        })
        const guard = tiles % block ? `if (${tile} < ${tiles}u) ` : ''
        return `let ${tile} = at * ${block}u + ${shared ? `(q ^ ${r}u) + ${f * 4}u` : `${f * 4 + r}u`}; let ${to} = ((${z} * ${tiles}u + ${tile}) * ${points}u + e) * ${wide}u + first; ${guard}{ ${elements.join(' ')} }`
      }),
    )
    return odd && s ? `if (${z} < ${arrays}u) {\n  ${lines.join('\n  ')}\n  }` : lines.join('\n  ')
  })
  // The samples of the invocation, and what their kernels are mixed with.
  const mixture = ofInvocation.map((s) => {
    const sample = odd && s ? `min(z + ${s}u, ${arrays - 1}u)` : `(z + ${s}u)`
    return bases.map((k) => `let pi${s}_${k} = pi[${sample} * ${numBases}u + ${k}u];`).join(' ')
  })
  const many = ofInvocation.length > 1
  const group = groups[1] === 1 ? 'group.x' : `(group.x + group.y * ${width}u)`
  const zGroup = `item / ${across * blocks * points}u`
  // Swaps want all lanes to be there: those without work repeat the last item's, and store nothing.
  const body = `  let place = ${group} * ${workgroup}u + ${shared ? 'subgroup * subgroupSize + subgroupLane' : 'lane'};
  ${shared ? `let item = min(place, ${total - 1}u);\n  let q = subgroupLane % 4u;` : `if (place >= ${total}u) { return; }\n  let item = place;`}
  let first = (item % ${across}u) * ${quads}u;
  let at = (item / ${across}u) % ${blocks}u;
  let e = (item / ${across * blocks}u) % ${points}u;
  let z = ${many ? `(${zGroup}) * ${ofInvocation.length}u` : zGroup};
  var pu = ${samples === undefined ? `(z * ${points}u + e)` : 'e'} * ${summed * wide}u;
  var pv = ((${many ? zGroup : 'z'} * ${blocks}u + at) * ${points}u + e) * ${(summed / 4) * rows * 4}u;
  ${samples === undefined ? '' : `${mixture.join('\n  ')}\n  `}${each(range(rows), (i, j) => `var c${i}_${j} = mat4x4<f32>();`)}
  for (var c = 0u; c < ${summed / 4}u; c++) {
    ${step.join('\n    ')}
    pu += ${4 * wide}u;
    pv += ${rows * 4}u;
  }
  ${shared ? `if (place >= ${total}u) { return; }\n  ` : ''}${stores.join('\n  ')}`
  return kernel({
    label: 'winograd products',
    target,
    bindings: [
      { name: 'u', dtype: 'float32', width: 4 },
      { name: 'v', dtype: 'float32', width: 4 },
      { name: 'p', dtype: 'float32', width: 4, access: 'read_write' },
      ...(samples === undefined ? [] : reads('float32', 'pi')),
    ],
    workgroupSize: workgroup,
    groups,
    multiplyAdds: total * rows * quads * 16 * summed,
    body,
  })
}

/** y in float32 from its products. Bindings: p, bias where there is one, and y or what `finish` has. */
export function blockedOutputKernel(grid: TileGrid, channels: number, [height, width]: readonly [number, number], bias: Bias, finish: Finish = storing('float32', grid.target)): Kernel {
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
      const lines = four.map((c) => finish.store(`y${r}_${q}.${'xyzw'[c]}`, `at + ${c * plane + r * width + q}u`)).join(' ')
      return `let y${r}_${q} = ${value}${added}; ${guards.length ? `if (${guards.join(' & ')}) { ${lines} }` : lines}`
    }),
  )
  const biasAt = bias === 'channel' ? 'quad * 4u' : `n * ${channels}u + quad * 4u`
  return itemKernel({
    label: `winograd output${finish.label}`,
    target: grid.target,
    bindings: [
      { name: 'p', dtype: 'float32', width: 4 },
      ...biasBinding(bias, 'float32'),
      ...finish.bindings,
    ],
    declarations: finish.declarations,
    count,
    body: `  ${place}
  ${bias === 'none' ? '' : `let biasAt = ${biasAt}; let added = vec4<f32>(${four.map((c) => `bias[biasAt + ${c}u]`).join(', ')});`}
  let origin = (z * ${tiles}u + tileAt) * ${patch.length ** 2 * wide}u + quad;
  ${patch.flatMap((r) => patch.map((q) => `let p${r}_${q} = p[origin + ${(r * patch.length + q) * wide}u];`)).join('\n  ')}
  ${code}
  let at = (n * ${channels}u + quad * 4u) * ${plane}u + u32(row * ${width} + column);
  ${stores.join('\n  ')}`,
  })
}
