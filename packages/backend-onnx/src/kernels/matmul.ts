// Matrix products.

import type { KernelTable, Lowering } from '../lowering.ts'
import { input, output, range } from './shared.ts'

export const matmulKernels: Pick<KernelTable, 'matmul'> = {
  matmul: (node, l) => {
    const [a, b] = [input(node, 0), input(node, 1)]
    if (l.isEmpty(a) || l.isEmpty(b)) return l.filled(output(node), 0)
    return product(l, { name: l.get(a), rank: l.shape(a).length }, { name: l.get(b), rank: l.shape(b).length }, node.attrs)
  },
}

/** One side of a product. */
export interface Side {
  readonly name: string
  readonly rank: number
}

/** The product of two sides, either of them transposed where told. */
export function product(l: Lowering, a: Side, b: Side, attrs: { readonly transposeA?: boolean; readonly transposeB?: boolean }): string {
  const { transposeA = false, transposeB = false } = attrs
  if (!transposeA && !transposeB) return l.model.op('MatMul', [a.name, b.name])
  if (a.rank === 2 && b.rank === 2) return l.model.op('Gemm', [a.name, b.name], { transA: transposeA ? 1 : 0, transB: transposeB ? 1 : 0 })
  // The engine's own product takes transposed sides of any rank; the standard has none.
  if (!l.standard) {
    return l.model.op('FusedMatMul', [a.name, b.name], { transA: transposeA ? 1 : 0, transB: transposeB ? 1 : 0 }, { domain: 'com.microsoft' })
  }
  return l.model.op('MatMul', [transposeA ? swapLast(l, a) : a.name, transposeB ? swapLast(l, b) : b.name])
}

function swapLast(l: Lowering, { name, rank }: Side): string {
  return l.model.transpose(name, [...range(rank - 2), rank - 1, rank - 2])
}
