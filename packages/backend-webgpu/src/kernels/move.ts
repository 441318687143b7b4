// Ops that move elements where no view can: padding, concatenation, and reading or adding at indices.

import type { DType, StaticShape } from '@dynconv/core'
import { stridesOf } from '@dynconv/core'
import { itemKernel, type Kernel, literal, loaded, reads, stored, type Target, valueType, writes } from '../wgsl/kernel.ts'
import { collapse, coordinates, indexOf, type Layout, place } from '../wgsl/views.ts'

/** x inside a border. Bindings: x (any layout), y (dense). */
export function padKernel(options: {
  readonly target: Target
  readonly dtype: DType
  readonly layout: Layout
  readonly before: readonly number[]
  readonly shape: StaticShape
  readonly value: number
}): Kernel {
  const { target, dtype, layout, before, shape, value } = options
  const inside = shape.map((_, i) => {
    const [start = 0, size = 0] = [before[i], layout.shape[i]]
    return `(c${i} >= ${start}) & (c${i} < ${start + size})`
  })
  const offset = layout.strides.reduce((sum, stride, i) => sum - stride * (before[i] ?? 0), layout.offset)
  // The index is of no account outside, where select makes it 0: reading there would be wrong or slow.
  return itemKernel({
    label: 'pad',
    target,
    bindings: [...reads(dtype, 'x'), ...writes(dtype, 'y')],
    count: shape.reduce((a, b) => a * b, 1),
    body: `  ${coordinates('item', shape, 'c').replaceAll('\n', '\n  ')}
  let inside = ${inside.join(' & ') || 'true'};
  let at = select(0, ${indexOf(layout.strides, offset, 'c')}, inside);
  var border = ${valueType(dtype)}(${literal(value, dtype)});
  let v = select(border, ${loaded('x[at]', dtype, target)}, inside);
  y[item] = ${stored('v', dtype, target)};`,
  })
}

/** Writes x (any layout) into a dense y at `start` along `axis`. Bindings: x, y. */
export function placeKernel(options: {
  readonly target: Target
  readonly dtype: DType
  readonly layout: Layout
  readonly shape: StaticShape
  readonly axis: number
  readonly start: number
}): Kernel {
  const { target, dtype, layout, shape, axis, start } = options
  const strides = stridesOf(shape)
  const { shape: merged, strides: all } = collapse(layout.shape, [layout, { strides }])
  return itemKernel({
    label: 'concat',
    target,
    bindings: [...reads(dtype, 'x'), ...writes(dtype, 'y')],
    count: layout.shape.reduce((a, b) => a * b, 1),
    body: `  ${coordinates('item', merged, 'c').replaceAll('\n', '\n  ')}
  y[${indexOf(all[1] ?? [], start * (strides[axis] ?? 1), 'c')}] = x[${indexOf(all[0] ?? [], layout.offset, 'c')}];`,
  })
}

/** x seen as [outer, size, inner] around an axis, and `count` indices. */
export interface Indexing {
  readonly target: Target
  readonly dtype: DType
  readonly outer: number
  readonly size: number
  readonly inner: number
  readonly count: number
  /** Where a bad index is noted, in the faults buffer. */
  readonly fault: number
}

const noteFault = (fault: number, size: number): string =>
  `if (index < 0 || index >= ${size}) { faults[${fault * 2 + 1}] = index; faults[${fault * 2}] = 1; `

/** y[o, m, j] = x[o, index[m], j]. Bindings: x, indices, y, faults. All dense. */
export function gatherKernel({ target, dtype, outer, size, inner, count, fault }: Indexing): Kernel {
  return itemKernel({
    label: 'gather',
    target,
    bindings: [...reads(dtype, 'x'), ...reads('int32', 'indices'), ...writes(dtype, 'y'), ...writes('int32', 'faults')],
    count: outer * count * inner,
    body: `  ${place('item', [['o', outer], ['m', count], ['j', inner]])}
  let index = indices[m];
  ${noteFault(fault, size)}return; }
  y[item] = x[(o * ${size} + index) * ${inner} + j];`,
  })
}

/**
 * y[o, i, j] = sum over m with index[m] = i of u[o, m, j], by looking through all indices: floats have no atomic addition,
 * and the order of the sum stays the same. Bindings: u, indices, y, faults. All dense.
 */
export function scatterAddKernel({ target, dtype, outer, size, inner, count, fault }: Indexing): Kernel {
  return itemKernel({
    label: 'scatterAdd',
    target,
    bindings: [...reads(dtype, 'u'), ...reads('int32', 'indices'), ...writes(dtype, 'y'), ...writes('int32', 'faults')],
    count: outer * size * inner,
    body: `  ${place('item', [['o', outer], ['i', size], ['j', inner]])}
  var sum = ${valueType(dtype)}(0);
  for (var m = 0; m < ${count}; m++) {
    let index = indices[m];
    ${noteFault(fault, size)}}
    if (index == i) { sum += ${loaded(`u[(o * ${count} + m) * ${inner} + j]`, dtype, target)}; }
  }
  y[item] = ${stored('sum', dtype, target)};`,
  })
}
