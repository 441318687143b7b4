// Matrix products: [.., M, K] x [.., K, N] -> [.., M, N], leading axes broadcast, either side optionally transposed.

import { ShapeError } from '../backend/errors.ts'
import { checkDType } from '../tensor/dtype.ts'
import { broadcastShapes, type Dim, formatShape, isStatic, type Shape, sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkFlag, dimAt, floats, sameDType, take } from './checks.ts'
import { defineOp, type OpTable } from './define.ts'
import { at, broadcastIndexer, refTensor } from './refs.ts'

// Rows and columns of a matrix as the product sees it.
function sides(shape: Shape, transposed: boolean): readonly [rows: Dim, columns: Dim] {
  const [second, last] = [dimAt(shape, shape.length - 2), dimAt(shape, shape.length - 1)]
  return transposed ? [last, second] : [second, last]
}

// [.., M, K] -> [R, K]
function foldRows(t: Tensor): Tensor {
  const columns = dimAt(t.shape, t.rank - 1)
  const rows = t.shape.slice(0, -1).reduce<number>((n, d) => (typeof d === 'number' ? n * d : n), 1)
  return t.reshape([rows, columns])
}

/** The definitions. */
export const matmulOps: Pick<OpTable, 'matmul'> = {
  /**
   * The product op(A) op(B), batched over broadcast leading axes; op transposes where told.
   *
   * Gradient. With A' = op(A) [M, K], B' = op(B) [K, N] and G = dY [M, N]: dA' = G B'^T and dB' = A'^T G.
   *   dA = G B'^T          B'^T = B^T, or B where B is taken transposed
   *   dA = (G B'^T)^T = B' G^T    where A is taken transposed
   * and likewise for B. A side that was broadcast is summed over the axes that stretched it.
   *
   * Where A [.., M, K] has leading axes and B [K, N] has none, all are folded into rows, A [R, K] and G [R, N]: then
   * dB = A^T G is one product that sums as it goes, and no [.., K, N] ever exists.
   */
  matmul: defineOp({
    name: 'matmul',
    infer: ({ transposeA, transposeB }, inputs) => {
      const [a, b] = take('matmul', inputs, 'a', 'b')
      checkDType('matmul', 'inputs', sameDType('matmul', ['a', 'b'], [a, b]), floats)
      checkFlag('matmul', 'transposeA', transposeA)
      checkFlag('matmul', 'transposeB', transposeB)
      const both = `a is ${formatShape(a.shape)}${transposeA ? ' transposed' : ''}, b is ${formatShape(b.shape)}${transposeB ? ' transposed' : ''}`
      if (a.shape.length < 2 || b.shape.length < 2) throw new ShapeError(`matmul: both sides need rank 2 or more: ${both}`)
      const [m, k] = sides(a.shape, transposeA)
      const [k2, n] = sides(b.shape, transposeB)
      if (k !== k2) throw new ShapeError(`matmul: inner sizes differ: ${both} (${k} against ${k2})`)
      return { dtype: a.dtype, shape: [...broadcastShapes('matmul: leading axes', a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n] }
    },
    gradient: ({ attrs: { transposeA, transposeB }, grad, inputs, needs }) => {
      const [a, b] = take('matmul', inputs, 'a', 'b')
      const fold = b.rank === 2 && a.rank > 2 && !transposeA && isStatic(a.shape)
      const [rows, g] = fold ? [foldRows(a), foldRows(grad)] : [a, grad]
      const dA = (): Tensor => (transposeA ? b.matmul(g, { transposeA: transposeB, transposeB: true }) : g.matmul(b, { transposeB: !transposeB }))
      const dB = (): Tensor => (transposeB ? g.matmul(rows, { transposeA: true, transposeB: transposeA }) : rows.matmul(g, { transposeA: !transposeA }))
      return [needs[0] ? (fold ? dA().reshape(a.shape) : dA().sumTo(a.shape)) : undefined, needs[1] ? dB().sumTo(b.shape) : undefined]
    },
    reference: ({ transposeA, transposeB }, inputs, outputs) => {
      const [a, b] = take('matmul', inputs, 'a', 'b')
      const y = refTensor(take('matmul', outputs, 'y')[0].shape)
      const lead = y.shape.slice(0, -2)
      const [m, n] = [at(y.shape, lead.length), at(y.shape, lead.length + 1)]
      const k = at(a.shape, a.shape.length - (transposeA ? 2 : 1))
      const matrixA = broadcastIndexer(a.shape.slice(0, -2), lead)
      const matrixB = broadcastIndexer(b.shape.slice(0, -2), lead)
      for (let batch = 0; batch < sizeOf(lead); batch++) {
        const [fromA, fromB, to] = [matrixA(batch) * m * k, matrixB(batch) * k * n, batch * m * n]
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            let sum = 0
            for (let l = 0; l < k; l++) {
              sum += at(a.data, fromA + (transposeA ? l * m + i : i * k + l)) * at(b.data, fromB + (transposeB ? j * k + l : l * n + j))
            }
            y.data[to + i * n + j] = sum
          }
        }
      }
      return y
    },
    macs: ({ transposeA }, inputs, outputs) => {
      const [a] = take('matmul', inputs, 'a', 'b')
      return sizeOf(take('matmul', outputs, 'y')[0]) * at(a, a.length - (transposeA ? 2 : 1))
    },
  }),
}
