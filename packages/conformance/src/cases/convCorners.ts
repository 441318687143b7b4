// The corners of what convolutions can be, for tests of a backend's own: static, dynamic, forward or backward.

import { type Conv2dAttrs, formatShape, type Padding2d, type Size2d } from '@dynconv/core'

/** A way to convolve. */
export interface ConvCorner {
  readonly name: string
  readonly kernelSize: Size2d
  readonly attrs: Conv2dAttrs
}

const strides: readonly Size2d[] = [[1, 1], [2, 2], [3, 1]]
const dilations: readonly Size2d[] = [[1, 1], [2, 1]]
const paddings: readonly Padding2d[] = [[0, 0, 0, 0], [1, 1, 1, 1], [0, 2, 1, 0]]
const kernelSizes: readonly Size2d[] = [[3, 3], [1, 1], [2, 3]]

/** Every combination of strides, dilations, paddings and kernels, in 1, 2 and 4 groups. */
export const convCorners: readonly ConvCorner[] = strides.flatMap((stride) =>
  dilations.flatMap((dilation) =>
    paddings.flatMap((padding) =>
      kernelSizes.flatMap((kernelSize) =>
        [1, 2, 4].map((groups) => ({
          name: `kernel ${formatShape(kernelSize)} stride ${formatShape(stride)} dilation ${formatShape(dilation)} padding ${formatShape(padding)} groups ${groups}`,
          kernelSize,
          attrs: { stride, padding, dilation, groups },
        })),
      ),
    ),
  ),
)
