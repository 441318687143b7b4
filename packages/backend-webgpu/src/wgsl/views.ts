// Views: how a kernel reads a tensor of some shape from a buffer. Element (c_0, c_1, ...) stands at offset + sum c_d
// strides[d]. Transposes, slices, broadcasts and most reshapes are other views of the same buffer and cost nothing.

import { sizeOf, type StaticShape, stridesOf } from '@dynconv/core'

/** Where the elements of a shape stand. */
export interface Layout {
  readonly shape: StaticShape
  readonly strides: readonly number[]
  readonly offset: number
}

/** Row-major from the first element on. */
export function denseLayout(shape: StaticShape): Layout {
  return { shape, strides: stridesOf(shape), offset: 0 }
}

/** Whether the elements stand row-major, without gaps, from the first on. */
export function isDense({ shape, strides, offset }: Layout): boolean {
  if (offset !== 0) return false
  const dense = stridesOf(shape)
  return sizeOf(shape) === 0 || shape.every((d, i) => d === 1 || strides[i] === dense[i])
}

/** The layout stretched to `shape`: a missing or single axis repeats. */
export function broadcastLayout(layout: Layout, shape: StaticShape): Layout {
  const lead = shape.length - layout.shape.length
  const strides = shape.map((_, i) => (i < lead || layout.shape[i - lead] === 1 ? 0 : (layout.strides[i - lead] ?? 0)))
  return { shape, strides, offset: layout.offset }
}

/** The layout with its axes permuted. */
export function permuteLayout(layout: Layout, permutation: readonly number[]): Layout {
  const pick = (list: readonly number[]): readonly number[] => permutation.map((p) => list[p] ?? 0)
  return { shape: pick(layout.shape), strides: pick(layout.strides), offset: layout.offset }
}

/** A block of the layout: element j of axis d is element starts[d] + j * steps[d]. */
export function sliceLayout(layout: Layout, starts: readonly number[], sizes: readonly number[], steps: readonly number[]): Layout {
  if (sizes.includes(0)) return denseLayout(sizes)
  const offset = layout.strides.reduce((sum, stride, i) => sum + stride * (starts[i] ?? 0), layout.offset)
  return { shape: sizes, strides: layout.strides.map((stride, i) => stride * (steps[i] ?? 1)), offset }
}

/** Several layouts of one shape over as few axes as possible, outermost first. */
export interface Collapsed {
  readonly shape: StaticShape
  /** For each layout its strides. */
  readonly strides: readonly (readonly number[])[]
}

/**
 * Merges neighbouring axes where every layout walks through both as through one: where stride[d] = stride[d + 1] *
 * shape[d + 1] for all of them. Axes of size 1 go.
 */
export function collapse(shape: StaticShape, layouts: readonly Pick<Layout, 'strides'>[]): Collapsed {
  const sizes: number[] = []
  const strides: number[][] = layouts.map(() => [])
  shape.forEach((size, axis) => {
    if (size === 1) return
    const last = sizes.length - 1
    const merges = last >= 0 && layouts.every((layout, l) => strides[l]?.[last] === (layout.strides[axis] ?? 0) * size)
    if (merges) sizes[last] = (sizes[last] ?? 1) * size
    else sizes.push(size)
    layouts.forEach((layout, l) => {
      const list = strides[l]
      if (list) list[merges ? last : list.length] = layout.strides[axis] ?? 0
    })
  })
  return { shape: sizes, strides }
}

/** WGSL that splits the u32 `flat` into coordinates `prefix0`, `prefix1`, ... (i32) of `shape`. */
export function coordinates(flat: string, shape: StaticShape, prefix: string): string {
  const lines: string[] = []
  let rest = flat
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (axis === 0) lines.push(`let ${prefix}0 = i32(${rest});`)
    else {
      lines.push(`let ${prefix}${axis} = i32(${rest} % ${shape[axis]}u); let ${prefix}q${axis} = ${rest} / ${shape[axis]}u;`)
      rest = `${prefix}q${axis}`
    }
  }
  return lines.join('\n')
}

/** WGSL that splits the u32 `flat` into coordinates (i32) with the names given, outermost first. */
export function place(flat: string, axes: readonly (readonly [name: string, size: number])[]): string {
  let inner = 1
  const lines = axes.toReversed().map(([name, size], i) => {
    const rest = inner === 1 ? flat : `(${flat} / ${inner}u)`
    inner *= size
    return `let ${name} = i32(${i === axes.length - 1 ? rest.replace(/^\((.*)\)$/, '$1') : `${rest} % ${size}u`});`
  })
  return lines.join('\n  ')
}

/** The WGSL index (i32) of the element at coordinates `prefix0`, ...: offset + sum of coordinate times stride. */
export function indexOf(strides: readonly number[], offset: number, prefix: string): string {
  const terms = strides.flatMap((stride, axis) => (stride === 0 ? [] : [stride === 1 ? `${prefix}${axis}` : `${prefix}${axis} * ${stride}`]))
  if (offset !== 0 || terms.length === 0) terms.push(String(offset))
  return terms.join(' + ')
}
