// The product of two matrices that are never stored as such, in tiles through workgroup memory: C[m, n] = sum over k of
// A[m, k] B[k, n], for each z. A matrix product, a convolution and both of its gradients are such products; they differ in
// where an element of A or B comes from and where one of C goes, which the caller says as WGSL.
//
// A workgroup of 64 makes a tile of rows x columns, in slices of k. It loads a slice of A and of B as vec4s along m and n;
// each invocation loads the same m and n in every slice, so that whatever depends on them only is computed once (prepare).
// Then invocation (i, j) of an 8 x 8 grid multiplies vec4s i, i + 8, ... of A with vec4s j, j + 8, ... of B.
//
// Tiles of float16 stay float16, which halves the memory that is waited for; products and sums are float32 all the same.
//
// Loads are masked by `select`, not guarded by branches: chains of && make some compilers take minutes.

import type { DType } from '@dynconv/core'
import type { PackedProduct } from './registerGemm.ts'
import { type Binding, kernel, type Kernel, reads, type Target, writes } from '../wgsl/kernel.ts'

/** Where the elements of one side come from. `j` tells the four of a vec4 apart, as a suffix of names. */
export interface Side {
  /** WGSL that computes what depends on the row (or column) `index` (u32) and on z only. */
  readonly prepare: (index: string, j: number) => string
  /** WGSL that computes what depends on `k` (u32) only. */
  readonly atK?: string
  /** The value, given all of these; `inside` (bool) says whether k is in range. */
  readonly load: (j: number) => string
}

/** A product. */
export interface TiledGemm {
  readonly label: string
  readonly target: Target
  readonly bindings: readonly Binding[]
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
  /** WGSL that stores the f32 `value` of row `m`, column `n` (both u32 and in range). */
  readonly store: string
}

const grid = 8
const slice = 16

/** The kernel. */
export function tiledGemmKernel(gemm: TiledGemm): Kernel {
  const { label, target, bindings, dtype = 'float32', rows, columns, inner, batches, split, a, b, store } = gemm
  // vec4s of a tile along m and n: one or two for each of the 8 invocations.
  const tileA = rows > 32 ? 16 : 8
  const tileB = columns > 32 ? 16 : 8
  const perPart = Math.ceil(Math.ceil(inner / slice) / split) * slice
  const groups = [Math.ceil(rows / (tileA * 4)), Math.ceil(columns / (tileB * 4)), batches * split] as const
  const half = dtype === 'float16' && target.f16
  const [tileType, ofTile] = half ? ['vec4<f16>', (element: string) => `vec4<f32>(${element})`] : ['vec4<f32>', (element: string) => element]
  const accumulators = (f: (i: number, j: number) => string): string[] =>
    Array.from({ length: (tileA / grid) * 4 }, (_, i) => Array.from({ length: tileB / grid }, (_unused, j) => f(i, j))).flat()
  const load = (side: Side, name: 'A' | 'B', tile: number): string => {
    const step = (grid * grid) / tile
    const lines = Array.from({ length: slice / step }, (_, q) => {
      const at = `k${name} + ${q * step}u`
      return `    { let at = ${at}; let k = k0 + at; let inside = k < last; ${side.atK ?? ''}
      tile${name}[at * ${tile}u + x${name}] = ${tileType}(${[0, 1, 2, 3].map((j) => (half ? `f16(${side.load(j)})` : side.load(j))).join(', ')}); }`
    })
    return lines.join('\n')
  }
  const products = Array.from({ length: slice }, (_, u) => {
    const reads = [
      ...Array.from({ length: tileA / grid }, (_unused, i) => `let a${i} = ${ofTile(`tileA[${u * tileA + i * grid}u + i]`)};`),
      ...Array.from({ length: tileB / grid }, (_unused, j) => `let b${j} = ${ofTile(`tileB[${u * tileB + j * grid}u + j]`)};`),
    ]
    return `    { ${[...reads, ...accumulators((i, j) => `c${i}_${j} += a${i >> 2}.${'xyzw'[i & 3]} * b${j};`)].join(' ')} }`
  })
  const stores = accumulators((i, j) => {
    const m = `(m0 + ${(i >> 2) * grid}u + i) * 4u + ${i & 3}u`
    const parts = [0, 1, 2, 3].map((c) => `if (n4 + ${c}u < ${columns}u) { let n = n4 + ${c}u; let value = c${i}_${j}.${'xyzw'[c]}; ${store} }`)
    return `  { let m = ${m}; let n4 = (n0 + ${j * grid}u + j) * 4u; if (m < ${rows}u) { ${parts.join(' ')} } }`
  })
  return kernel({
    label,
    target,
    bindings,
    declarations: `var<workgroup> tileA: array<${tileType}, ${slice * tileA}>;
var<workgroup> tileB: array<${tileType}, ${slice * tileB}>;`,
    workgroupSize: grid * grid,
    groups,
    multiplyAdds: groups[0] * groups[1] * batches * tileA * tileB * 16 * Math.ceil(inner / slice) * slice,
    body: `  let m0 = group.x * ${tileA}u;
  let n0 = group.y * ${tileB}u;
  let z = group.z${split > 1 ? ` / ${split}u` : ''};
  ${split > 1 ? `let part = group.z % ${split}u;` : 'const part = 0u;'}
  let begin = part * ${perPart}u;
  let last = min(begin + ${perPart}u, ${inner}u);
  let i = lane % ${grid}u;
  let j = lane / ${grid}u;
  let xA = lane % ${tileA}u;
  let kA = lane / ${tileA}u;
  let xB = lane % ${tileB}u;
  let kB = lane / ${tileB}u;
  ${[0, 1, 2, 3].map((q) => a.prepare(`((m0 + xA) * 4u + ${q}u)`, q)).join('\n  ')}
  ${[0, 1, 2, 3].map((q) => b.prepare(`((n0 + xB) * 4u + ${q}u)`, q)).join('\n  ')}
  ${accumulators((p, q) => `var c${p}_${q} = vec4<f32>(0.0);`).join(' ')}
  for (var k0 = begin; k0 < last; k0 += ${slice}u) {
${load(a, 'A', tileA)}
${load(b, 'B', tileB)}
    workgroupBarrier();
${products.join('\n')}
    workgroupBarrier();
  }
${stores.join('\n')}`,
  })
}

/** Products of packed matrices (registerGemm.ts) in such tiles. Bindings: a, b, c. */
export function packedTiledKernel({ target, label, batches, rows, columns, inner, split }: PackedProduct): Kernel {
  const [lineA, lineB] = [Math.ceil(rows / 4) * 4, Math.ceil(columns / 4) * 4]
  const side = (array: 'a' | 'b', count: number, line: number): Side => ({
    prepare: (index, j) => `let ok_${array}${j} = ${index} < ${count}u; let at_${array}${j} = z * ${inner * line}u + ${index};`,
    load: (j) => `select(0.0, ${array}[select(0u, at_${array}${j} + k * ${line}u, inside & ok_${array}${j})], inside & ok_${array}${j})`,
  })
  return tiledGemmKernel({
    label,
    target,
    bindings: [...reads('float32', 'a', 'b'), ...writes('float32', 'c')],
    rows,
    columns,
    inner,
    batches,
    split,
    a: side('a', rows, lineA),
    b: side('b', columns, lineB),
    store: `c[((part * ${batches}u + z) * ${rows}u + m) * ${lineB}u + n] = value;`,
  })
}

/** Into how many parts to cut k so that the card has enough to do: 1, or as many as still leave each 256 products. */
export function splitFor(rows: number, columns: number, inner: number, batches: number): number {
  const tiles = Math.ceil(rows / 64) * Math.ceil(columns / 64) * batches
  if (tiles >= 128 || inner < 1024) return 1
  return Math.max(1, Math.min(32, Math.floor(inner / 256), Math.ceil(256 / tiles)))
}
