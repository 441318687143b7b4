// Reductions, argMax and softmaxes. A row is what becomes one number (or, for a softmax, what is normalised together).

import type { DType } from '@dynconv/core'
import { combineLanes, type Finish, itemKernel, type Kernel, lanesFor, loaded, reads, rowKernel, sharedLanes, stored, storing, type Target, valueType, writes } from '../wgsl/kernel.ts'
import { collapse, coordinates, indexOf, type Layout } from '../wgsl/views.ts'

/** A reduction of `layout` over `axes`. */
export interface Reduction {
  readonly target: Target
  readonly op: 'reduceSum' | 'reduceMax'
  readonly dtype: DType
  readonly layout: Layout
  readonly axes: readonly number[]
  /** The dtype of the result; x's unless given. */
  readonly result?: DType
}

/** Bindings: x, and y (dense, without the axes) or what `finish` has. */
export function reduceKernel({ target, op, dtype, layout, axes, result = dtype }: Reduction, finish: Finish = storing(result, target)): Kernel {
  const part = (reduced: boolean) => {
    const chosen = layout.shape.map((_, i) => i).filter((i) => axes.includes(i) === reduced)
    const { shape, strides } = collapse(
      chosen.map((i) => layout.shape[i] ?? 1),
      [{ strides: chosen.map((i) => layout.strides[i] ?? 0) }],
    )
    return { shape, strides: strides[0] ?? [], size: shape.reduce((a, b) => a * b, 1) }
  }
  const [kept, reduced] = [part(false), part(true)]
  const lanes = lanesFor(target, reduced.size)
  const type = valueType(dtype)
  const combine = (a: string, b: string): string => {
    if (op === 'reduceSum') return `${a} + ${b}`
    return dtype === 'int32' ? `max(${a}, ${b})` : `larger(${a}, ${b})`
  }
  const load = (index: string): string => loaded(`x[${index}]`, dtype, target)
  const start = op === 'reduceSum' ? `${type}(0)` : load('base')
  const body = `${indent(coordinates('row', kept.shape, 'k'))}
  let base = ${indexOf(kept.strides, layout.offset, 'k')};
  var sum = ${start};
${lanes === 1 ? serial(reduced, load, combine, start) : parallel(reduced, lanes, load, combine)}
${combineLanes(target, 'sum', 'lanes', lanes, combine)}
  ${lanes === 1 ? '' : 'if (lane == 0u) '}{ ${finish.store('sum', 'row')} }`
  return rowKernel({
    label: `${op}${finish.label}`,
    target,
    bindings: [...reads(dtype, 'x'), ...finish.bindings],
    declarations: [sharedLanes('lanes', type, lanes), finish.declarations].filter((text) => text).join('\n'),
    rows: kept.size,
    lanes,
    iterations: reduced.size,
    body,
  })
}

interface Part {
  readonly shape: readonly number[]
  readonly strides: readonly number[]
  readonly size: number
}

// Nested loops. Four partial results where the innermost axis is long: they do not wait for each other, and err less.
function serial({ shape, strides, size }: Part, load: (index: string) => string, combine: (a: string, b: string) => string, start: string): string {
  if (size === 0) return ''
  const inner = shape.length - 1
  const [length = 1, stride = 0] = [shape[inner], strides[inner]]
  const four = length >= 16 && length % 4 === 0
  const lines: string[] = four ? [1, 2, 3].map((i) => `  var sum${i} = ${start};`) : []
  let index = 'base'
  shape.forEach((d, axis) => {
    if (axis === inner) return
    lines.push(`  for (var r${axis} = 0; r${axis} < ${d}; r${axis}++) {`)
    index += ` + r${axis} * ${strides[axis]}`
  })
  if (four) {
    const steps = [0, 1, 2, 3].map((i) => {
      const sum = i === 0 ? 'sum' : `sum${i}`
      return `${sum} = ${combine(sum, load(`at + ${i * stride}`))};`
    })
    lines.push(`  for (var r${inner} = 0; r${inner} < ${length}; r${inner} += 4) { let at = ${index} + r${inner} * ${stride}; ${steps.join(' ')} }`)
  } else if (shape.length === 0) lines.push(`  sum = ${combine(`sum`, load(index))};`)
  else lines.push(`  for (var r${inner} = 0; r${inner} < ${length}; r${inner}++) { sum = ${combine('sum', load(`${index} + r${inner} * ${stride}`))}; }`)
  for (let axis = 0; axis < inner; axis++) lines.push('  }')
  if (four) lines.push(`  sum = ${combine(combine('sum', 'sum1').replace(/^(.*)$/, '($1)'), `(${combine('sum2', 'sum3')})`)};`)
  return lines.join('\n')
}

// Lane l takes elements l, l + lanes, ...
function parallel({ shape, strides, size }: Part, lanes: number, load: (index: string) => string, combine: (a: string, b: string) => string): string {
  return `  for (var r = first; r < ${size}u; r += ${lanes}u) {
${indent(coordinates('r', shape, 'r'), 4)}
    sum = ${combine('sum', load(`base + ${indexOf(strides, 0, 'r')}`))};
  }`
}

/** x as [outer, size, inner] around an axis, dense. */
export interface Lines {
  readonly target: Target
  readonly dtype: DType
  readonly outer: number
  readonly size: number
  readonly inner: number
}

const lineBase = ({ size, inner }: Lines): string => (inner === 1 ? `i32(row) * ${size}` : `i32(row / ${inner}u) * ${size * inner} + i32(row % ${inner}u)`)

/** The index of the first NaN, or else of the first largest element of each line. Bindings: x, y (int32). */
export function argMaxKernel(lines: Lines): Kernel {
  const { target, dtype, size, inner } = lines
  const load = (index: string): string => loaded(`x[${index}]`, dtype, target)
  const better = dtype === 'int32' ? 'v > largest' : '!isNan(largest) && (v > largest || isNan(v))'
  return itemKernel({
    label: 'argMax',
    target,
    bindings: [...reads(dtype, 'x'), ...writes('int32', 'y')],
    count: lines.outer * inner,
    body: `  let row = item;
  let base = ${lineBase(lines)};
  var best = 0;
  var largest = ${load('base')};
  for (var i = 1; i < ${size}; i++) {
    let v = ${load(`base + i * ${inner}`)};
    if (${better}) { best = i; largest = v; }
  }
  y[row] = best;`,
  })
}

/** softmax or logSoftmax of each line. Bindings: x, y. */
export function softmaxKernel(lines: Lines & { readonly log: boolean }): Kernel {
  const { target, dtype, size, inner, log } = lines
  const lanes = lanesFor(target, size)
  const load = loaded(`x[base + i32(i) * ${inner}]`, dtype, target)
  const loop = (statement: string): string => `  for (var i = first; i < ${size}u; i += ${lanes}u) { ${statement} }`
  const result = log ? `(${load} - largest) - shift` : `exponential(${load} - largest) / sum`
  return rowKernel({
    label: log ? 'logSoftmax' : 'softmax',
    target,
    bindings: [...reads(dtype, 'x'), ...writes(dtype, 'y')],
    declarations: sharedLanes('lanes', 'f32', lanes),
    rows: lines.outer * inner,
    lanes,
    iterations: 3 * size,
    body: `  let base = ${lineBase(lines)};
  var largest = ${loaded('x[base]', dtype, target)};
${loop(`largest = larger(largest, ${load});`)}
${combineLanes(target, 'largest', 'lanes', lanes, (a, b) => `larger(${a}, ${b})`)}
  var sum = 0.0;
${loop(`sum += exponential(${load} - largest);`)}
${combineLanes(target, 'sum', 'lanes', lanes, (a, b) => `${a} + ${b}`)}
${log ? '  let shift = logarithm(sum);\n' : ''}${loop(`y[base + i32(i) * ${inner}] = ${stored(result, dtype, target)};`)}`,
  })
}

function indent(text: string, by: number = 2): string {
  return text
    .split('\n')
    .map((line) => ' '.repeat(by) + line)
    .join('\n')
}
