// Elementwise ops as WGSL expressions, and a whole group of them as one kernel. An expression works on scalars and on vec4s
// alike; the group decides (plan/fuse.ts).

import { type DType, type OpAttrs, sizeOf } from '@dynconv/core'
import { type Binding, type Finish, itemKernel, type ItemText, type Kernel, literal, loaded, reads, rounded, rowKernel, stored, type Target, valueType } from '../wgsl/kernel.ts'
import { collapse, coordinates, indexOf, type Layout } from '../wgsl/views.ts'

/** Elements an invocation works on at once. */
export type Width = 1 | 4

/** What an expression is made of. */
export interface Operands {
  readonly args: readonly string[]
  /** The dtypes of the arguments. */
  readonly dtypes: readonly DType[]
  readonly width: Width
  /** Whether float16 is computed in float16 (see halfOps). */
  readonly half?: boolean
}

/** A WGSL expression. */
export type Expression = (operands: Operands) => string

const suffix = (width: Width): string => (width === 4 ? '4' : '')
const isInt = ({ dtypes }: Operands): boolean => dtypes[0] === 'int32'
const infix =
  (operator: string): Expression =>
  ({ args: [a, b] }) =>
    `${a} ${operator} ${b}`
const call =
  (name: string): Expression =>
  ({ args }) =>
    `${name}(${args.join(', ')})`
// Our own functions have a name for each width.
const sized =
  (name: string): Expression =>
  ({ args, width, half }) =>
    `${name}${half ? 'Half' : ''}${suffix(width)}(${args.join(', ')})`
const floatOrInt =
  (float: Expression, int: Expression): Expression =>
  (operands) =>
    isInt(operands) ? int(operands) : float(operands)
const splat = (value: number, dtype: DType, width: Width, half: boolean = false): string =>
  half ? `${width === 4 ? 'vec4<f16>' : ''}(f16(${literal(value, dtype)}))` : `${valueType(dtype, width)}(${literal(value, dtype)})`

/** max(x, bound) and min(x, bound) for a bound known now. */
const bounded =
  (name: 'smaller' | 'larger', bound: number): Expression =>
  (operands) => {
    const [dtype = 'float32'] = operands.dtypes
    const b = splat(bound, dtype, operands.width, operands.half)
    return isInt(operands) ? `${name === 'larger' ? 'max' : 'min'}(${operands.args[0]}, ${b})` : sized(name)({ ...operands, args: [operands.args[0] ?? '', b] })
  }

type Plain = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'select' | 'neg' | 'abs' | 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'tanh' | 'sigmoid' | 'relu'

/** Ops without attributes. */
export const expressions: { readonly [K in Plain]: Expression } = {
  add: infix('+'),
  sub: infix('-'),
  mul: infix('*'),
  div: floatOrInt(sized('quotient'), infix('/')),
  min: floatOrInt(sized('smaller'), call('min')),
  max: floatOrInt(sized('larger'), call('max')),
  pow: sized('power'),
  select: ({ args: [condition, a, b] }) => `select(${b}, ${a}, ${condition})`,
  neg: ({ args }) => `-${args[0]}`,
  abs: call('abs'),
  exp: sized('exponential'),
  log: sized('logarithm'),
  sqrt: call('sqrt'),
  rsqrt: call('inverseSqrt'),
  tanh: sized('hyperbolicTangent'),
  sigmoid: ({ args, width }) => `${splat(1, 'float32', width)} / (${splat(1, 'float32', width)} + exponential${suffix(width)}(-${args[0]}))`,
  relu: bounded('larger', 0),
}

const comparisons: { readonly [C in OpAttrs['compare']['kind']]: Expression } = {
  equal: infix('=='),
  // Two NaNs are not equal, whatever an engine's != says.
  notEqual: ({ args: [a, b] }) => `!(${a} == ${b})`,
  less: infix('<'),
  lessEqual: infix('<='),
  greater: infix('>'),
  greaterEqual: infix('>='),
}

/** a == b, a < b, ... */
export function comparison(kind: OpAttrs['compare']['kind']): Expression {
  return comparisons[kind]
}

/** x limited to [min, max]. */
export function clamped({ min, max }: OpAttrs['clamp']): Expression {
  return (operands) => bounded('smaller', max)({ ...operands, args: [bounded('larger', min)(operands)] })
}

/** x as another dtype. */
export function converted(to: DType): Expression {
  return ({ args: [x = ''], dtypes: [from = 'float32'], width }) => {
    const kind = (dtype: DType): 'float' | 'int32' | 'bool' => (dtype === 'int32' || dtype === 'bool' ? dtype : 'float')
    if (kind(from) === kind(to)) return x
    // NaN is true.
    if (to === 'bool') return `!(${x} == ${splat(0, from, width)})`
    if (from === 'bool') return `select(${splat(0, to, width)}, ${splat(1, to, width)}, ${x})`
    return to === 'int32' ? `truncated${suffix(width)}(${x})` : `${valueType(to, width)}(${x})`
  }
}

/** x itself. */
export const identity: Expression = ({ args }) => args[0] ?? ''

// Ops whose float16 result is the same whether computed in float16 or in float32 and rounded: there is one rounding or none.
// A group of such ops, of float16 alone, is computed in float16 where the adapter can, at twice the rate of many cards.
const halfOps: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'neg', 'abs', 'min', 'max', 'relu', 'copy'])
// From here on a constant is infinite in float16, which no literal can be.
const halfLimit = 65520

function computedInHalf({ target, dtypes, members }: Pick<ElementwiseGroup, 'target' | 'dtypes' | 'members'>): boolean {
  const fits = (argument: Argument): boolean => argument.kind !== 'scalar' || (argument.dtype === 'float16' && Math.abs(argument.value) < halfLimit)
  return target.f16 && dtypes.every((d) => d === 'float16') && members.every(({ name, dtype, args }) => dtype === 'float16' && halfOps.has(name) && args.every(fits))
}

/** What an op of a group reads. */
export type Argument =
  | { readonly kind: 'member'; readonly index: number }
  | { readonly kind: 'input'; readonly index: number }
  | { readonly kind: 'scalar'; readonly value: number; readonly dtype: DType }

/** An op of a group. */
export interface Member {
  readonly name: string
  readonly expression: Expression
  readonly args: readonly Argument[]
  readonly dtype: DType
}

/** A group: ops on elements of one shape, in order. */
export interface ElementwiseGroup {
  readonly target: Target
  readonly layouts: readonly Layout[]
  readonly dtypes: readonly DType[]
  readonly members: readonly Member[]
  /** Members whose results are stored, densely. */
  readonly outputs: readonly number[]
  readonly shape: readonly number[]
}

// The ops in order: from x0, x1, ... to v0, v1, ...
function memberLines({ target, members, dtypes }: ElementwiseGroup, width: Width, half: boolean): readonly string[] {
  const lines: string[] = []
  members.forEach((member, m) => {
    const operands: Operands = {
      width,
      half,
      dtypes: member.args.map((a) => (a.kind === 'member' ? (members[a.index]?.dtype ?? 'float32') : a.kind === 'input' ? (dtypes[a.index] ?? 'float32') : a.dtype)),
      args: member.args.map((a, j) => {
        if (a.kind !== 'scalar') return `${a.kind === 'member' ? 'v' : 'x'}${a.index}`
        // A variable: of constants alone the compiler would compute the result, and refuse infinities.
        lines.push(`var s${m}_${j} = ${splat(a.value, a.dtype, width, half)};`)
        return `s${m}_${j}`
      }),
    }
    const value = member.expression(operands)
    lines.push(`let v${m} = ${member.dtype === 'float16' && !half ? rounded(value, target, width) : value};`)
  })
  return lines
}

const indented = (lines: readonly string[]): string => lines.map((line) => `  ${line.replaceAll('\n', '\n  ')}`).join('\n')

// A group as WGSL for the `item` (u32) of `width` elements, and its bindings.
function groupText(group: ElementwiseGroup, width: Width, half: boolean): { readonly lines: readonly string[]; readonly bindings: readonly Binding[] } {
  const { target, members, outputs, dtypes, layouts } = group
  const typeOfLoaded = (dtype: DType, w: Width): string => (half ? (w === 4 ? 'vec4<f16>' : 'f16') : valueType(dtype, w))
  const merged = collapse(group.shape, layouts)
  const inner = merged.shape.length - 1
  const dense = (i: number): boolean => merged.shape.length <= 1 && (merged.strides[i]?.[0] ?? 1) === 1 && layouts[i]?.offset === 0
  const wide = (i: number): Width => (width === 4 && merged.strides[i]?.[inner] === 1 ? 4 : 1)
  const lines: string[] = []
  const needsCoordinates = layouts.some((_, i) => !dense(i) && (merged.strides[i] ?? []).some((s) => s !== 0))
  if (needsCoordinates) {
    // Coordinates of the first of the item's elements.
    if (width === 4) lines.push('let flat = item * 4u;')
    lines.push(coordinates(width === 4 ? 'flat' : 'item', merged.shape, 'c'))
  }
  layouts.forEach((layout, i) => {
    const [dtype = 'float32'] = [dtypes[i]]
    const w = wide(i)
    const index = dense(i) ? 'item' : indexOf(merged.strides[i] ?? [], layout.offset, 'c')
    const at = dense(i) || w === 1 ? index : `(${index}) / 4`
    const value = half ? `in${i}[${at}]` : loaded(`in${i}[${at}]`, dtype, target, w)
    lines.push(`let x${i} = ${w === width ? value : `${typeOfLoaded(dtype, width)}(${value})`};`)
  })
  lines.push(...memberLines(group, width, half))
  for (const [i, m] of outputs.entries()) lines.push(`out${i}[item] = ${half ? `v${m}` : stored(`v${m}`, members[m]?.dtype ?? 'float32', target, width)};`)
  return {
    lines,
    bindings: [
      ...layouts.map((_, i) => ({ name: `in${i}`, dtype: dtypes[i] ?? 'float32', width: wide(i) })),
      ...outputs.map((m, i) => ({ name: `out${i}`, dtype: members[m]?.dtype ?? 'float32', width, access: 'read_write' as const })),
    ],
  }
}

const labelOf = (members: readonly Member[]): string => members.map(({ name }) => name).join('+')

/** The kernel of a group. Bindings: its inputs, then its outputs. */
export function elementwiseKernel(group: ElementwiseGroup): Kernel {
  const { target, members, layouts, shape } = group
  const text = (width: Width): Pick<ItemText, 'bindings' | 'body' | 'count'> => {
    const { lines, bindings } = groupText(group, width, computedInHalf(group))
    return { bindings, body: indented(lines), count: sizeOf(shape) / width }
  }
  return itemKernel({ label: labelOf(members), target, ...text(widthOf(collapse(shape, layouts), layouts)), iterations: 1, oneByOne: () => text(1) })
}

/** What the member is that another kernel computes: `finishing` hands it over. */
export const root: Expression = () => 'root'

/**
 * A group one of whose members is `root`, as what the kernel does that computes that: each of its elements goes through all
 * members. Bindings: the group's inputs, then its outputs.
 */
export function finishing(group: ElementwiseGroup): Finish {
  const { lines, bindings } = groupText(group, 1, false)
  const { dtype = 'float32' } = group.members.find(({ expression }) => expression === root) ?? {}
  const others = group.members.filter(({ expression }) => expression !== root)
  return {
    label: `+${labelOf(others)}`,
    bindings,
    declarations: `fn finish(root: ${valueType(dtype)}, item: u32) {\n${indented(lines)}\n}`,
    store: (value, index) => `finish(${value}, ${index});`,
  }
}

/** Many groups that are alike but for their tensors. */
export interface ManyGroups {
  /** Any of them; inputs that are the same for all have strides of 0. All others are dense and in float32, as the outputs are. */
  readonly group: ElementwiseGroup
  /** For each input the number of the array that it is in; undefined for one that is the same for all. */
  readonly arrays: readonly (number | undefined)[]
  /** Workgroups. */
  readonly rows: number
}

/** How many vec4s a workgroup takes at most. */
export const vectorsOfRow = 64

/**
 * The kernel of many groups. Bindings: inputs that are the same for all, arrays, places, outputs. `places` has a row for each
 * workgroup: how many vec4s it takes, and where the first one of each other input and of each output is, in vec4s.
 */
export function elementwiseOnManyKernel({ group, arrays, rows }: ManyGroups): Kernel {
  const { target, members, outputs, dtypes, layouts } = group
  const own = arrays.flatMap((array, i) => (array === undefined ? [] : [i]))
  const length = 1 + own.length + outputs.length
  const place = (column: number): string => `u32(places[at + ${column}u]) + first`
  const loads = layouts.map(({ offset }, i) => {
    const dtype = dtypes[i] ?? 'float32'
    if (arrays[i] === undefined) return `let x${i} = ${valueType(dtype, 4)}(${loaded(`in${i}[${offset}]`, dtype, target)});`
    return `let x${i} = from${arrays[i]}[${place(1 + own.indexOf(i))}];`
  })
  const lines = [
    `let at = row * ${length}u;`,
    'if (first >= u32(places[at])) { return; }',
    ...loads,
    ...memberLines(group, 4, false),
    ...outputs.map((m, o) => `results[${place(1 + own.length + o)}] = v${m};`),
  ]
  return rowKernel({
    label: `${labelOf(members)} of many`,
    target,
    bindings: [
      ...arrays.flatMap((array, i) => (array === undefined ? [{ name: `in${i}`, dtype: dtypes[i] ?? 'float32' }] : [])),
      ...[...new Set(own.map((i) => arrays[i]))].map((array) => ({ name: `from${array}`, dtype: 'float32' as const, width: 4 as const })),
      ...reads('int32', 'places'),
      { name: 'results', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    rows,
    lanes: vectorsOfRow,
    body: indented(lines),
  })
}

// Four elements at a time where the innermost axis divides by 4 and every input walks it one by one, from a multiple of 4,
// or stands still.
function widthOf(merged: { readonly shape: readonly number[]; readonly strides: readonly (readonly number[])[] }, layouts: readonly Layout[]): Width {
  const inner = merged.shape.length - 1
  if (inner < 0 || (merged.shape[inner] ?? 0) % 4 !== 0) return 1
  const fits = merged.strides.every((strides, i) => {
    if (strides[inner] === 0) return true
    return strides[inner] === 1 && (layouts[i]?.offset ?? 0) % 4 === 0 && strides.every((s, axis) => axis === inner || s % 4 === 0)
  })
  return fits ? 4 : 1
}
