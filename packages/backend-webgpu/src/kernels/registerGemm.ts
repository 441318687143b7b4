// Products C[z] = A[z]^T B[z] of packed float32 matrices, without workgroup memory: A [k, m], B [k, n], C [m, n], rows of
// vec4s. An invocation keeps a tile of vec4 rows times vec4 columns in registers. For adapters that run on a processor; cards
// take tiledGemm.ts.

import { type Binding, itemKernel, type Kernel, range, type Target } from '../wgsl/kernel.ts'

/** The matrices of a product. */
export const packedBindings: readonly Binding[] = [
  { name: 'a', dtype: 'float32', width: 4 },
  { name: 'b', dtype: 'float32', width: 4 },
  { name: 'c', dtype: 'float32', width: 4, access: 'read_write' },
]

/** A product. m and n are padded to whole vec4s in memory. */
export interface PackedProduct {
  readonly target: Target
  readonly label: string
  /** How many products. */
  readonly batches: number
  readonly rows: number
  readonly columns: number
  readonly inner: number
  /** Into how many parts the sum is cut; C [part, z, m, n]. */
  readonly split: number
}

// vec4s of a tile, and products that follow each other without a loop: carrying a sum over an iteration is dear.
const tileSize = 4
const unroll = 2
const workgroup = 16

/** Into how many parts to cut the sum so that there are `enough` invocations; each part keeps at least 32 products. */
export function packedSplit(product: Pick<PackedProduct, 'rows' | 'columns' | 'inner' | 'batches'>, enough: number): number {
  const wanted = Math.ceil(enough / (packedInvocations(product) * product.batches))
  const perPart = Math.ceil(product.inner / Math.max(1, Math.min(wanted, Math.floor(product.inner / 32))))
  return Math.ceil(product.inner / perPart)
}

/** How many invocations one product has. */
export function packedInvocations({ rows, columns }: Pick<PackedProduct, 'rows' | 'columns'>): number {
  const blocks = (count: number): number => Math.ceil(Math.ceil(count / 4) / tileOf(count))
  return blocks(rows) * blocks(columns)
}

const tileOf = (count: number): number => Math.min(tileSize, Math.ceil(count / 4))

/** Bindings: a, b, c. */
export function packedProductKernel({ target, label, batches, rows, columns, inner, split }: PackedProduct): Kernel {
  const [m4, n4] = [Math.ceil(rows / 4), Math.ceil(columns / 4)]
  const [tm, tn] = [tileOf(rows), tileOf(columns)]
  const [blocksM, blocksN] = [Math.ceil(m4 / tm), Math.ceil(n4 / tn)]
  const perPart = Math.ceil(inner / split)
  const each = (f: (i: number, j: number) => string): string => range(tm * 4).flatMap((i) => range(tn).map((j) => f(i, j))).join(' ')
  const inside = (what: string, blocks: number, tile: number, count: number, i: number): string => (blocks * tile > count && i ? `min(${what} + ${i}u, ${count - 1}u)` : `(${what} + ${i}u)`)
  const step = (u: number): string => {
    const loads = [
      ...range(tm).map((i) => `let a${i} = a[pa + ${u * m4}u + ${inside('m0', blocksM, tm, m4, i)}];`),
      ...range(tn).map((j) => `let b${j} = b[pb + ${u * n4}u + ${inside('n0', blocksN, tn, n4, j)}];`),
    ]
    return `    { ${loads.join(' ')}\n      ${each((i, j) => `c${i}_${j} += a${i >> 2}.${'xyzw'[i & 3]} * b${j};`)} }`
  }
  const stores = each((i, j) => {
    const guards = [...(rows < blocksM * tm * 4 ? [`m0 * 4u + ${i}u < ${rows}u`] : []), ...(blocksN * tn > n4 && j ? [`n0 + ${j}u < ${n4}u`] : [])]
    const store = `c[to + ${i * n4 + j}u] = c${i}_${j};`
    return guards.length ? `if (${guards.join(' && ')}) { ${store} }` : store
  })
  const total = blocksM * blocksN
  const whole = split === 1 ? `${Math.floor(inner / unroll) * unroll}u` : `begin + ((last - begin) / ${unroll}u) * ${unroll}u`
  const rest = split === 1 && inner % unroll === 0 ? '' : `  for (; k < last; k++) {\n${step(0)}\n    pa += ${m4}u; pb += ${n4}u;\n  }`
  return itemKernel({
    label,
    target,
    bindings: packedBindings,
    workgroupSize: workgroup,
    count: total * batches * split,
    multiplyAdds: total * batches * inner * tm * tn * 16,
    // Small products share a group of lanes with others: idle lanes cost as much as busy ones.
    body: `  let n0 = (item % ${blocksN}u) * ${tn}u;
  let m0 = ((item / ${blocksN}u) % ${blocksM}u) * ${tm}u;
  let z = (item / ${total}u) % ${batches}u;
  let part = item / ${total * batches}u;
  let begin = part * ${perPart}u;
  let last = min(begin + ${perPart}u, ${inner}u);
  var pa = (z * ${inner}u + begin) * ${m4}u;
  var pb = (z * ${inner}u + begin) * ${n4}u;
  ${each((i, j) => `var c${i}_${j} = vec4<f32>(0.0);`)}
  var k = begin;
  let whole = ${whole};
  for (; k < whole; k += ${unroll}u) {
${range(unroll).map(step).join('\n')}
    pa += ${m4 * unroll}u; pb += ${n4 * unroll}u;
  }
${rest}
  let to = ((part * ${batches}u + z) * ${rows}u + m0 * 4u) * ${n4}u + n0;
  ${stores}`,
  })
}
