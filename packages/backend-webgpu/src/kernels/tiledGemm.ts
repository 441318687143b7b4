// The product of two matrices that are never stored as such, in tiles through workgroup memory: C[m, n] = sum over k of
// A[m, k] B[k, n], for each z. A matrix product, a convolution and both of its gradients are such products; they differ in
// where an element of A or B comes from and where one of C goes, which the caller says as WGSL.
//
// A workgroup makes a tile of rows x columns, in slices of k. It loads a slice of A and of B as vec4s along m and n; each
// invocation loads the same m and n in every slice, so that whatever depends on them only is computed once (prepare), and
// whatever depends on the slice once a slice (atSlice). It loads the next slice before it multiplies this one, so that memory
// is waited for during the products. Invocation (i, j) of the grid multiplies vec4s i, i + grid, ... of A with vec4s j,
// j + grid, ... of B.
//
// Tiles of float16 stay float16, which halves the memory that is waited for; products and sums are float32 all the same.
//
// Loads are masked by `select`, not guarded by branches: chains of && make some compilers take minutes.

import type { DType } from '@dynconv/core'
import { packedBindings, type PackedProduct } from './registerGemm.ts'
import { type Binding, kernel, type Kernel, range, reads, type Target } from '../wgsl/kernel.ts'

/** Where the elements of one side come from, one at a time. */
export interface ElementSide {
  /**
   * WGSL that computes what depends on the row (or column) `index` (u32) and on z only; `j` tells the four of a vec4 apart, as a
   * suffix of names.
   */
  readonly prepare: (index: string, j: number) => string
  /** WGSL that computes what depends on the slice's first k, `k0` (u32), besides. */
  readonly atSlice?: string
  /** WGSL that computes what depends on `k` (u32) and `at`, its place in the slice, only. */
  readonly atK?: string
  /** The value, given all of these; `inside` (bool) says whether k is in range. */
  readonly load: (j: number) => string
}

/** Where the vec4s of one side come from: `quad` (u32) is four rows (or columns). */
export interface QuadSide {
  readonly prepareQuad: (quad: string) => string
  readonly atSlice?: string
  /** The vec4<f32>, given `k` and `inside`. */
  readonly loadQuad: string
}

/** One side of a product. */
export type Side = ElementSide | QuadSide

/** A product. */
export interface TiledGemm {
  readonly label: string
  readonly target: Target
  readonly bindings: readonly Binding[]
  /** What `store` calls. */
  readonly declarations?: string
  /** Of both sides' elements; float32 unless given. */
  readonly dtype?: DType
  readonly rows: number
  readonly columns: number
  readonly inner: number
  readonly batches: number
  /** Into how many parts k is cut, each with a result of its own (`part: u32`). */
  readonly split: number
  readonly a: Side
  readonly b: Side
  /** WGSL that stores the f32 `value` of row `m`, column `n` (both u32 and in range), or the vec4<f32> of the columns from `n` on. */
  readonly store: string
  /** Whether `store` takes vec4s: the columns that fill up the last one may be written. */
  readonly storesQuads?: boolean
  /** By the sizes unless given. */
  readonly cut?: Cut
}

/** How a product is cut among workgroups and invocations. */
export interface Cut {
  /** Invocations of a workgroup along m and n. */
  readonly grid: readonly [m: number, n: number]
  /** vec4s of each of them along m and n. */
  readonly quads: readonly [m: number, n: number]
  /** Products that a slice has. */
  readonly slice: number
}

/** Products in a slice unless the cut says otherwise. */
export const sliceOf = 16

// On a card of 132 multiprocessors (H100), of the cuts of 64 x 64 that of 128 invocations
// is the fastest or as fast as another for convolutions and for Winograd's products, and larger tiles leave it idle.
const cuts: readonly Cut[] = [
  { grid: [4, 8], quads: [1, 1], slice: sliceOf },
  { grid: [4, 16], quads: [1, 2], slice: sliceOf },
  { grid: [8, 4], quads: [1, 1], slice: sliceOf },
  { grid: [8, 8], quads: [1, 1], slice: sliceOf },
  { grid: [8, 8], quads: [1, 2], slice: sliceOf },
  { grid: [16, 4], quads: [1, 1], slice: sliceOf },
  { grid: [8, 8], quads: [2, 1], slice: sliceOf },
  { grid: [8, 16], quads: [2, 1], slice: sliceOf },
]

/** vec4s of a tile along m and n. */
export function tileOf({ grid, quads }: Cut): readonly [m: number, n: number] {
  return [grid[0] * quads[0], grid[1] * quads[1]]
}

/** The cut that leaves the least of its tiles empty; of those the one with the largest tiles. */
export function cutFor({ rows, columns }: Pick<TiledGemm, 'rows' | 'columns'>): Cut {
  const padded = (count: number, tile: number): number => Math.ceil(count / (4 * tile)) * tile
  const costs = cuts.map((cut) => {
    const [m, n] = tileOf(cut)
    return { cut, cost: padded(rows, m) * padded(columns, n) * (1 + 1 / m + 1 / n) }
  })
  return costs.reduce((best, each) => (each.cost <= best.cost ? each : best)).cut
}

/** The kernel. */
export function tiledGemmKernel(gemm: TiledGemm): Kernel {
  const { label, target, bindings, declarations = '', dtype = 'float32', rows, columns, inner, batches, split, a, b, store, storesQuads = false, cut = cutFor(gemm) } = gemm
  const { grid, quads, slice } = cut
  const invocations = grid[0] * grid[1]
  const [tileA, tileB] = tileOf(cut)
  const perPart = Math.ceil(Math.ceil(inner / slice) / split) * slice
  const groups = [Math.ceil(rows / (tileA * 4)), Math.ceil(columns / (tileB * 4)), batches * split] as const
  const half = dtype === 'float16' && target.f16
  const [tileType, ofTile] = half ? ['vec4<f16>', (element: string) => `vec4<f32>(${element})`] : ['vec4<f32>', (element: string) => element]
  const accumulators = (f: (i: number, j: number) => string): string[] => range(quads[0] * 4).flatMap((i) => range(quads[1]).map((j) => f(i, j)))
  const partial = perPart * split !== inner
  // What an invocation loads of a slice: a vec4 of the same m (or n) every `step` of k.
  const parts = (tile: number): number => {
    const each = (tile * slice) / invocations
    if (!Number.isInteger(each) || invocations % tile !== 0) throw new RangeError(`tiledGemm: a slice of ${tile} x ${slice} vec4s cannot be shared by ${invocations} invocations`)
    return each
  }
  const load = (side: Side, name: 'A' | 'B', tile: number): string => {
    const lines = range(parts(tile)).map((q) => {
      const value = 'loadQuad' in side ? side.loadQuad : `vec4<f32>(${range(4).map((j) => side.load(j)).join(', ')})`
      const atK = 'loadQuad' in side ? '' : (side.atK ?? '')
      return `    { let at = k${name} + ${q * (invocations / tile)}u; let k = k0 + at; ${partial ? 'let inside = k < last;' : 'const inside = true;'} ${atK}
      next${name}${q} = ${half ? `vec4<f16>(${value})` : value}; }`
    })
    return `    { ${side.atSlice ?? ''}\n${lines.join('\n')} }`
  }
  const keep = (name: 'A' | 'B', tile: number): string =>
    range(parts(tile)).map((q) => `tile${name}[(k${name} + ${q * (invocations / tile)}u) * ${tile}u + x${name}] = next${name}${q};`).join(' ')
  const products = range(slice).map((u) => {
    const reads = [
      ...range(quads[0]).map((i) => `let a${i} = ${ofTile(`tileA[${u * tileA + i * grid[0]}u + i]`)};`),
      ...range(quads[1]).map((j) => `let b${j} = ${ofTile(`tileB[${u * tileB + j * grid[1]}u + j]`)};`),
    ]
    return `    { ${[...reads, ...accumulators((i, j) => `c${i}_${j} += a${i >> 2}.${'xyzw'[i & 3]} * b${j};`)].join(' ')} }`
  })
  const stores = accumulators((i, j) => {
    const m = `(m0 + ${(i >> 2) * grid[0]}u + i) * 4u + ${i & 3}u`
    if (storesQuads) return `  { let m = ${m}; let n = (n0 + ${j * grid[1]}u + j) * 4u; if ((m < ${rows}u) & (n < ${columns}u)) { let value = c${i}_${j}; ${store} } }`
    const elements = range(4).map((c) => `if (n4 + ${c}u < ${columns}u) { let n = n4 + ${c}u; let value = c${i}_${j}.${'xyzw'[c]}; ${store} }`)
    return `  { let m = ${m}; let n4 = (n0 + ${j * grid[1]}u + j) * 4u; if (m < ${rows}u) { ${elements.join(' ')} } }`
  })
  const prepare = (side: Side, name: 'A' | 'B', origin: string): string =>
    'loadQuad' in side ? side.prepareQuad(`(${origin} + x${name})`) : range(4).map((q) => side.prepare(`((${origin} + x${name}) * 4u + ${q}u)`, q)).join('\n  ')
  return kernel({
    label,
    target,
    bindings,
    declarations: `var<workgroup> tileA: array<${tileType}, ${slice * tileA}>;
var<workgroup> tileB: array<${tileType}, ${slice * tileB}>;${declarations && `\n${declarations}`}`,
    workgroupSize: invocations,
    groups,
    multiplyAdds: groups[0] * groups[1] * batches * tileA * tileB * 16 * Math.ceil(inner / slice) * slice,
    body: `  let m0 = group.x * ${tileA}u;
  let n0 = group.y * ${tileB}u;
  let z = group.z${split > 1 ? ` / ${split}u` : ''};
  ${split > 1 ? `let part = group.z % ${split}u;` : 'const part = 0u;'}
  let begin = part * ${perPart}u;
  let last = min(begin + ${perPart}u, ${inner}u);
  let i = lane % ${grid[0]}u;
  let j = lane / ${grid[0]}u;
  let xA = lane % ${tileA}u;
  let kA = lane / ${tileA}u;
  let xB = lane % ${tileB}u;
  let kB = lane / ${tileB}u;
  ${prepare(a, 'A', 'm0')}
  ${prepare(b, 'B', 'n0')}
  ${accumulators((p, q) => `var c${p}_${q} = vec4<f32>(0.0);`).join(' ')}
  ${range(parts(tileA)).map((q) => `var nextA${q}: ${tileType};`).join(' ')} ${range(parts(tileB)).map((q) => `var nextB${q}: ${tileType};`).join(' ')}
  if (begin < last) { let k0 = begin;
${load(a, 'A', tileA)}
${load(b, 'B', tileB)}
  }
  for (var first = begin; first < last; first += ${slice}u) {
    ${keep('A', tileA)}
    ${keep('B', tileB)}
    workgroupBarrier();
    let k0 = first + ${slice}u;
    if (k0 < last) {
${load(a, 'A', tileA)}
${load(b, 'B', tileB)}
    }
${products.join('\n')}
    workgroupBarrier();
  }
${stores.join('\n')}`,
  })
}

/** A is a mixture of bases for each sample: a product's number is its sample times `points` plus its place in a basis. */
export interface MixedProduct {
  readonly numBases: number
  readonly points: number
  readonly samples: number
}

/**
 * Products of packed matrices (registerGemm.ts) in such tiles. Bindings: a, b, c; where A is mixed as it is loaded, a holds bases
 * [K, points, k, m] and pi [B, K] follows c.
 */
export function packedTiledKernel({ target, label, batches, rows, columns, inner, split }: PackedProduct, mixed?: MixedProduct): Kernel {
  const [quadsA, quadsB] = [Math.ceil(rows / 4), Math.ceil(columns / 4)]
  const whole = inner * quadsA
  const bases = range(mixed?.numBases ?? 1)
  // Samples follow each other, so that the bases that they share are near.
  const place = mixed ? `let sample = z % ${mixed.samples}u; let point = z / ${mixed.samples}u; let product = sample * ${mixed.points}u + point;` : 'let product = z;'
  const shares = mixed ? bases.map((k) => `let pi${k} = pi[sample * ${mixed.numBases}u + ${k}u];`).join(' ') : ''
  const quad = (k: number): string => `a[select(0u, at_a + k * ${quadsA}u${k > 0 ? ` + ${k * (mixed?.points ?? 0) * whole}u` : ''}, inside & ok_a)]`
  const a: QuadSide = {
    prepareQuad: (q) => `${place} ${shares} let ok_a = ${q} < ${quadsA}u; let at_a = ${mixed ? 'point' : 'z'} * ${whole}u + ${q};`,
    loadQuad: `select(vec4<f32>(0.0), ${mixed ? bases.map((k) => `pi${k} * ${quad(k)}`).join(' + ') : quad(0)}, inside & ok_a)`,
  }
  const b: QuadSide = {
    prepareQuad: (q) => `let ok_b = ${q} < ${quadsB}u; let at_b = product * ${inner * quadsB}u + ${q};`,
    loadQuad: `select(vec4<f32>(0.0), b[select(0u, at_b + k * ${quadsB}u, inside & ok_b)], inside & ok_b)`,
  }
  return tiledGemmKernel({
    label,
    target,
    bindings: [...packedBindings, ...(mixed ? reads('float32', 'pi') : [])],
    rows,
    columns,
    inner,
    batches,
    split,
    a,
    b,
    store: `c[((part * ${batches}u + product) * ${rows}u + m) * ${quadsB}u + n / 4u] = value;`,
    storesQuads: true,
  })
}

/** Vec4s of columns that each sample has at most where `mixedProductsKernel` takes all samples at once. */
export const maxSharedQuads = 4

// Its workgroups: rows of a tile in vec4s, and samples.
const mixedTile = 16
const mixedSamples = 8

/**
 * The same for few columns a sample (at most `maxSharedQuads` vec4s): a workgroup has all samples, so that it loads the bases
 * once and mixes them for each. Invocation (i, s) has vec4 i of the rows and all columns of sample s. Bindings: a, b, c, pi.
 */
export function mixedProductsKernel({ target, label, rows, columns, inner, split }: PackedProduct, { numBases, points, samples }: MixedProduct): Kernel {
  const [quadsA, quadsB] = [Math.ceil(rows / 4), Math.ceil(columns / 4)]
  const [tile, together, slice] = [mixedTile, Math.min(mixedSamples, samples), numBases <= 4 ? 8 : 4]
  const invocations = tile * together
  const perPart = Math.ceil(Math.ceil(inner / slice) / split) * slice
  const bases = range(numBases)
  const [loadsA, loadsB] = [numBases * slice * tile, slice * together * quadsB]
  // Vec4 q of what an invocation loads: the loop's text, guarded where the last round is not full.
  const rounds = (count: number, each: (at: string, q: number) => string): string =>
    range(Math.ceil(count / invocations))
      .map((q) => {
        const text = `let at = lane + ${q * invocations}u; ${each('at', q)}`
        return (q + 1) * invocations > count ? `if (lane + ${q * invocations}u < ${count}u) { ${text} }` : `{ ${text} }`
      })
      .join('\n    ')
  const load = `${rounds(loadsA, (at, q) => `let k = k0 + (${at} / ${tile}u) % ${slice}u; let quad = m0 + ${at} % ${tile}u; let ok = (k < last) & (quad < ${quadsA}u);
      nextA${q} = select(vec4<f32>(0.0), a[select(0u, ((${at} / ${tile * slice}u * ${points}u + point) * ${inner}u + k) * ${quadsA}u + quad, ok)], ok);`)}
    ${rounds(loadsB, (at, q) => `let k = k0 + (${at} / ${quadsB}u) % ${slice}u; let s = s0 + ${at} / ${quadsB * slice}u; let ok = (k < last) & (s < ${samples}u);
      nextB${q} = select(vec4<f32>(0.0), b[select(0u, ((s * ${points}u + point) * ${inner}u + k) * ${quadsB}u + ${at} % ${quadsB}u, ok)], ok);`)}`
  const keep = `${rounds(loadsA, (at, q) => `tileA[${at}] = nextA${q};`)}
    ${rounds(loadsB, (at, q) => `tileB[${at}] = nextB${q};`)}`
  const products = range(slice).map((u) => {
    const mix = bases.map((k) => `p${k} * tileA[${(k * slice + u) * tile}u + i]`).join(' + ')
    const columnsOf = range(quadsB).map((j) => `let b${j} = tileB[(s * ${slice}u + ${u}u) * ${quadsB}u + ${j}u];`).join(' ')
    return `    { let a = ${mix}; ${columnsOf} ${range(4).flatMap((r) => range(quadsB).map((j) => `c${r}_${j} += a.${'xyzw'[r]} * b${j};`)).join(' ')} }`
  })
  const registers = (name: string, count: number): string => range(Math.ceil(count / invocations)).map((q) => `var next${name}${q} = vec4<f32>(0.0);`).join(' ')
  const guard = (r: number): string => ((quadsA % tile !== 0 || rows % 4 !== 0) ? `if (row + ${r}u < ${rows}u) ` : '')
  const groups = [Math.ceil(quadsA / tile), Math.ceil(samples / together), points * split] as const
  return kernel({
    label,
    target,
    bindings: [...packedBindings, ...reads('float32', 'pi')],
    declarations: `var<workgroup> tileA: array<vec4<f32>, ${loadsA}>;
var<workgroup> tileB: array<vec4<f32>, ${loadsB}>;`,
    workgroupSize: invocations,
    groups,
    multiplyAdds: groups[0] * groups[1] * points * invocations * quadsB * 16 * Math.ceil(inner / slice) * slice,
    body: `  let m0 = group.x * ${tile}u;
  let s0 = group.y * ${together}u;
  let point = group.z / ${split}u;
  let part = group.z % ${split}u;
  let begin = part * ${perPart}u;
  let last = min(begin + ${perPart}u, ${inner}u);
  let i = lane % ${tile}u;
  let s = lane / ${tile}u;
  let sample = s0 + s;
  ${bases.map((k) => `let p${k} = pi[min(sample, ${samples - 1}u) * ${numBases}u + ${k}u];`).join(' ')}
  ${range(4).flatMap((r) => range(quadsB).map((j) => `var c${r}_${j} = vec4<f32>(0.0);`)).join(' ')}
  ${registers('A', loadsA)} ${registers('B', loadsB)}
  if (begin < last) { let k0 = begin;
    ${load}
  }
  for (var first = begin; first < last; first += ${slice}u) {
    ${keep}
    workgroupBarrier();
    let k0 = first + ${slice}u;
    if (k0 < last) {
    ${load}
    }
${products.join('\n')}
    workgroupBarrier();
  }
  if (sample < ${samples}u) {
    let row = (m0 + i) * 4u;
    let to = ((part * ${samples * points}u + sample * ${points}u + point) * ${rows}u + row) * ${quadsB}u;
    ${range(4).map((r) => `${guard(r)}{ ${range(quadsB).map((j) => `c[to + ${r * quadsB + j}u] = c${r}_${j};`).join(' ')} }`).join('\n    ')}
  }`,
  })
}

// Products that a part keeps at least where matrices are packed: to load them needs little before it.
const leastPacked = 128

/** Into how many parts `packedTiledKernel`'s sum is cut. */
export function packedTiledSplit({ rows, columns, inner, batches }: Pick<PackedProduct, 'rows' | 'columns' | 'inner' | 'batches'>): number {
  return splitFor(tilesOf(rows, columns, batches), inner, leastPacked)
}

/** Into how many parts `mixedProductsKernel`'s sum is cut: its workgroups have few invocations, so that there must be more of them. */
export function mixedSplit({ rows, inner }: Pick<PackedProduct, 'rows' | 'inner'>, { points, samples }: Pick<MixedProduct, 'points' | 'samples'>): number {
  const tiles = Math.ceil(rows / (4 * mixedTile)) * Math.ceil(samples / mixedSamples) * points
  return Math.max(1, Math.min(4, Math.floor(inner / leastPacked), Math.ceil(512 / tiles)))
}

/** Workgroups of a product that is not split. */
export function tilesOf(rows: number, columns: number, batches: number): number {
  const [m, n] = tileOf(cutFor({ rows, columns }))
  return Math.ceil(rows / (4 * m)) * Math.ceil(columns / (4 * n)) * batches
}

/** Into how many parts to cut k so that a card has enough to do: 1, or as many as still leave each `least` products. */
export function splitFor(tiles: number, inner: number, least: number = 256): number {
  return tiles >= 128 ? 1 : Math.max(1, Math.min(32, Math.floor(inner / least), Math.ceil(256 / tiles)))
}
