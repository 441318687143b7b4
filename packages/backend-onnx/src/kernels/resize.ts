// Resampling and its gradient (the formulas: core's ops/resize.ts). The engine's Resize computes coordinates in float32,
// which agrees with the definition where the ratio of the sizes is exact: whole numbers for 'nearest', powers of two for
// 'bilinear'. Elsewhere the op's own decomposition reads the two pixels at indices computed beforehand.

import { fromNumbers, type ResizeMode, sizeOf } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import { input, output, range, size } from './shared.ts'

export const resizeKernels: Pick<KernelTable, 'resize' | 'resizeGrad'> = {
  resize: (node, l) => {
    const x = input(node, 0)
    const { size: target, mode } = node.attrs
    const [batch = 0, channels = 0, ...from] = l.shape(x)
    if (!from.every((d, i) => isExact[mode](size(d), size(target[i])))) return l.decompose(node)
    const attrs =
      mode === 'nearest'
        ? { mode, coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }
        : { mode: 'linear', coordinate_transformation_mode: 'half_pixel' }
    return l.model.op('Resize', [l.get(x), '', '', l.shapeVector([batch, channels, ...target])], attrs)
  },

  // dX = A_H^T dY A_W, with A[j, i] the share of input pixel i in output pixel j. Enlarged by whole numbers with 'nearest',
  // each input pixel takes the sum over a window of its own.
  resizeGrad: (node, l) => {
    const dy = input(node, 0)
    const { inputSize, mode } = node.attrs
    const { shape } = l.type(dy)
    const [, , height = 0, width = 0] = shape
    if (l.isEmpty(dy)) return l.filled(output(node), 0)
    const { model } = l
    if (mode === 'nearest' && height % inputSize[0] === 0 && width % inputSize[1] === 0) {
      const window = [height / inputSize[0], width / inputSize[1]]
      const mean = model.op('AveragePool', [l.get(dy)], { kernel_shape: window, strides: window })
      return model.op('Mul', [mean, model.float(sizeOf(window))])
    }
    const columns = model.op('MatMul', [l.get(dy), weights(l, mode, inputSize[1], width, false)])
    return model.op('MatMul', [weights(l, mode, inputSize[0], height, true), columns])
  },
}

const isExact: { readonly [M in ResizeMode]: (from: number, to: number) => boolean } = {
  nearest: (from, to) => to % from === 0 || from % to === 0,
  bilinear: (from, to) => isPowerOfTwo(to / from),
}

function isPowerOfTwo(x: number): boolean {
  return Number.isInteger(Math.log2(x)) && 2 ** Math.log2(x) === x
}

/** A [to, from], or its transpose. */
function weights(l: Lowering, mode: ResizeMode, from: number, to: number, transposed: boolean): string {
  const matrix = new Float64Array(to * from)
  const add = (j: number, i: number, share: number): void => {
    const at = transposed ? i * to + j : j * from + i
    matrix[at] = (matrix[at] ?? 0) + share
  }
  for (const j of range(to)) {
    if (mode === 'nearest') add(j, Math.floor((j * from) / to), 1)
    else {
      const t = Math.max(((j + 0.5) * from) / to - 0.5, 0)
      const lo = Math.min(Math.floor(t), from - 1)
      add(j, lo, 1 - (t - lo))
      add(j, Math.min(lo + 1, from - 1), t - lo)
    }
  }
  return l.constant(fromNumbers('float32', transposed ? [from, to] : [to, from], matrix))
}
