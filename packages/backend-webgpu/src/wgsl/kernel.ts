// What a kernel is: WGSL text in which all sizes are constants, and how many workgroups run it. This file knows how
// element types are stored and makes the frame of a kernel; what is computed is the business of kernels/.
//
// Storage. int32 is i32, bool a u32 (0 or 1). float16 is f16 where the adapter has `shader-f16`; elsewhere it is an f32 that
// every result is rounded for, so that the numbers are the same. Arithmetic on floats is f32, except where f16 gives the same
// numbers (kernels/elementwise.ts).
//
// WGSL may assume that there are no NaNs and infinities, and refuses constants that are. Tests for NaN therefore look at
// bits, and both come from bits in private variables, which no compiler folds.

import type { DType } from '@dynconv/core'

/** 0 to count - 1: texts repeat themselves. */
export function range(count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => i)
}

/** What generators must know of an adapter. */
export interface Target {
  /** Whether the adapter stores float16 itself. */
  readonly f16: boolean
  /**
   * `software` runs on a processor, where workgroup memory costs more than storage: each invocation works alone, on many
   * registers. `gpu` shares tiles through workgroup memory.
   */
  readonly kind: 'software' | 'gpu'
  /** Whether shaders may talk within a subgroup and know its number (features `subgroups` and `subgroup_id`). */
  readonly subgroups: boolean
  /** From how many multiply-adds on a product gets a tiled kernel, whose text takes much longer to compile. */
  readonly tiledMacs: number
  readonly maxGroups: number
  readonly maxBindings: number
}

/** One dispatch: buffers are bound in order, from binding 0. */
export interface Kernel {
  readonly label: string
  readonly code: string
  readonly groups: readonly [number, number, number]
  /** How each buffer is bound. */
  readonly access: readonly Access[]
  /** Multiply-adds that it does, those on the rims of tiles included; of products only. */
  readonly multiplyAdds?: number
  /** Of kernels that may be a step of another one (kernels/steps.ts). */
  readonly items?: () => Items
}

/** Work on items, each alone, on arrays of single elements. */
export interface Items {
  readonly count: number
  /** Of the loop over what becomes an item. */
  readonly iterations: number
  readonly bindings: readonly Binding[]
  readonly declarations: string
  /** As of `itemKernel`. */
  readonly body: string
}

/** What a kernel does with a buffer. */
export type Access = 'read' | 'read_write'

/** A buffer as a kernel sees it. */
export interface Binding {
  readonly name: string
  readonly dtype: DType
  /** Elements of an array element. */
  readonly width?: 1 | 4
  /** `read` unless given. */
  readonly access?: Access
}

/** Buffers of one dtype that are read. */
export function reads(dtype: DType, ...names: readonly string[]): readonly Binding[] {
  return names.map((name) => ({ name, dtype }))
}

/** Buffers of one dtype that are written. */
export function writes(dtype: DType, ...names: readonly string[]): readonly Binding[] {
  return names.map((name) => ({ name, dtype, access: 'read_write' }))
}

/** The text of a kernel's parts. */
export interface KernelText {
  readonly label: string
  readonly target: Target
  readonly bindings: readonly Binding[]
  /** Declarations at module scope besides the bindings. */
  readonly declarations?: string
  readonly workgroupSize: number
  /** What follows in `fn main`; `group: vec3u`, `lane: u32` are there. */
  readonly body: string
  readonly groups: readonly [number, number, number]
  readonly multiplyAdds?: number
}

const storageTypes: { readonly [D in DType]: (target: Target) => string } = {
  float32: () => 'f32',
  float16: ({ f16 }) => (f16 ? 'f16' : 'f32'),
  int32: () => 'i32',
  bool: () => 'u32',
}

/** Bytes of an element on the device. */
export function storedBytes(dtype: DType, target: Pick<Target, 'f16'>): number {
  return dtype === 'float16' && target.f16 ? 2 : 4
}

/** Values in registers: `f32`, `i32` or `bool`, or a vec4 of them. */
export function valueType(dtype: DType, width: 1 | 4 = 1): string {
  const scalar = dtype === 'int32' ? 'i32' : dtype === 'bool' ? 'bool' : 'f32'
  return width === 1 ? scalar : `vec4<${scalar}>`
}

function storageType(dtype: DType, target: Target, width: 1 | 4): string {
  const scalar = storageTypes[dtype](target)
  return width === 1 ? scalar : `vec4<${scalar}>`
}

/** The value of a stored element. */
export function loaded(element: string, dtype: DType, target: Target, width: 1 | 4 = 1): string {
  if (dtype === 'bool') return `(${element} != ${width === 1 ? '0u' : 'vec4<u32>(0u)'})`
  return dtype === 'float16' && target.f16 ? `${valueType(dtype, width)}(${element})` : element
}

/** The stored form of a value. */
export function stored(value: string, dtype: DType, target: Target, width: 1 | 4 = 1): string {
  if (dtype === 'bool') return width === 1 ? `select(0u, 1u, ${value})` : `select(vec4<u32>(0u), vec4<u32>(1u), ${value})`
  if (dtype !== 'float16') return value
  return target.f16 ? `${storageType(dtype, target, width)}(${value})` : rounded(value, target, width)
}

/** A value rounded to float16, still in an f32. */
export function rounded(value: string, target: Target, width: 1 | 4 = 1): string {
  if (target.f16) return `${valueType('float16', width)}(${storageType('float16', target, width)}(${value}))`
  return width === 1 ? `half(${value})` : `half4(${value})`
}

// Functions that kernels may call; those that a text calls are declared in it.
//
// half: the nearest float16, ties to even, as an f32. From 2^-14 up, 13 of 23 fraction bits go: adding half of the last
// kept bit (less one where the kept bits are even) rounds, and a carry runs into the exponent as it should; from 65520 on
// the result is infinite. Below 2^-14 the spacing is 2^-24: adding and taking away 0.5, whose own spacing is 2^-24, rounds.
const library: Readonly<Record<string, string>> = {
  isNan: 'fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }',
  isNan4: 'fn isNan4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }',
  half: `fn half(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let magnitude = bits & 0x7fffffffu;
  let sign = bits & 0x80000000u;
  if (magnitude >= 0x7f800000u) { return x; }
  if (magnitude >= 0x477ff000u) { return bitcast<f32>(sign | (infinityBits & 0x7f800000u)); }
  if (magnitude >= 0x38800000u) { return bitcast<f32>(sign | ((magnitude + 0x0fffu + ((magnitude >> 13u) & 1u)) & 0xffffe000u)); }
  let small = (bitcast<f32>(magnitude) + roundingOffset) - roundingOffset;
  return bitcast<f32>(sign | bitcast<u32>(small));
}`,
  half4: 'fn half4(x: vec4<f32>) -> vec4<f32> { return vec4<f32>(half(x.x), half(x.y), half(x.z), half(x.w)); }',
  // A comparison and a choice alone become one instruction on some cards, which leaves NaN out.
  smaller: 'fn smaller(a: f32, b: f32) -> f32 { return select(select(select(a, b, b < a), b, isNan(b)), a, isNan(a)); }',
  larger: 'fn larger(a: f32, b: f32) -> f32 { return select(select(select(a, b, b > a), b, isNan(b)), a, isNan(a)); }',
  smaller4: 'fn smaller4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return select(select(select(a, b, b < a), b, isNan4(b)), a, isNan4(a)); }',
  larger4: 'fn larger4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return select(select(select(a, b, b > a), b, isNan4(b)), a, isNan4(a)); }',
  smallerHalf: 'fn smallerHalf(a: f16, b: f16) -> f16 { return select(select(select(a, b, b < a), b, isNan(f32(b))), a, isNan(f32(a))); }',
  largerHalf: 'fn largerHalf(a: f16, b: f16) -> f16 { return select(select(select(a, b, b > a), b, isNan(f32(b))), a, isNan(f32(a))); }',
  smallerHalf4: 'fn smallerHalf4(a: vec4<f16>, b: vec4<f16>) -> vec4<f16> { return select(select(select(a, b, b < a), b, isNan4(vec4<f32>(b))), a, isNan4(vec4<f32>(a))); }',
  largerHalf4: 'fn largerHalf4(a: vec4<f16>, b: vec4<f16>) -> vec4<f16> { return select(select(select(a, b, b > a), b, isNan4(vec4<f32>(b))), a, isNan4(vec4<f32>(a))); }',
  // By denominators from 2^126 on engines may divide as they like (WGSL 15.7.4), and cards give 0: a quarter of both is as good.
  quotient: `fn quotient(a: f32, b: f32) -> f32 {
  let scale = select(1.0, 0.25, (bitcast<u32>(b) & 0x7fffffffu) >= 0x7e800000u);
  return (a * scale) / (b * scale);
}`,
  quotient4: `fn quotient4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
  let scale = select(vec4<f32>(1.0), vec4<f32>(0.25), (bitcast<vec4<u32>>(b) & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x7e800000u));
  return (a * scale) / (b * scale);
}`,
  // Engines need not know of NaN and infinity here, and some do not.
  exponential: 'fn exponential(x: f32) -> f32 { return select(exp(x), x, isNan(x)); }',
  exponential4: 'fn exponential4(x: vec4<f32>) -> vec4<f32> { return select(exp(x), x, isNan4(x)); }',
  logarithm: `fn logarithm(x: f32) -> f32 {
  if (x > 0.0 && bitcast<u32>(x) < 0x7f800000u) { return log(x); }
  if (x == 0.0) { return -bitcast<f32>(infinityBits); }
  return select(x, bitcast<f32>(nanBits), x < 0.0);
}`,
  logarithm4: 'fn logarithm4(x: vec4<f32>) -> vec4<f32> { return vec4<f32>(logarithm(x.x), logarithm(x.y), logarithm(x.z), logarithm(x.w)); }',
  // As C's pow: |a|^b by the engine, then the sign of odd powers, NaN for roots of negative numbers, and the exact cases.
  power: `fn power(a: f32, b: f32) -> f32 {
  let infinite = (bitcast<u32>(b) & 0x7fffffffu) == 0x7f800000u;
  if (b == 0.0 || a == 1.0 || (a == -1.0 && infinite)) { return 1.0; }
  if (isNan(a) || isNan(b)) { return bitcast<f32>(nanBits); }
  let large = abs(b) >= 16777216.0;
  let integral = large || floor(b) == b;
  let odd = !large && integral && floor(b * 0.5) * 2.0 != b;
  let m = abs(a);
  var y = exp2(b * log2(m));
  if (m == 0.0) { y = select(0.0, bitcast<f32>(infinityBits), b < 0.0); }
  if (m == 1.0) { y = 1.0; }
  if (bitcast<u32>(a) < 0x80000000u) { return y; }
  if (odd) { return -y; }
  return select(bitcast<f32>(nanBits), y, integral || m == 0.0 || (bitcast<u32>(m) == 0x7f800000u));
}`,
  power4: 'fn power4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return vec4<f32>(power(a.x, b.x), power(a.y, b.y), power(a.z, b.z), power(a.w, b.w)); }',
  // (1 - e^-2|x|) / (1 + e^-2|x|): no overflow on either side.
  hyperbolicTangent: `fn hyperbolicTangent(x: f32) -> f32 {
  let e = exp(-2.0 * abs(x));
  let y = (1.0 - e) / (1.0 + e);
  return select(y, -y, x < 0.0);
}`,
  hyperbolicTangent4: `fn hyperbolicTangent4(x: vec4<f32>) -> vec4<f32> {
  let e = exp(-2.0 * abs(x));
  let y = (1.0 - e) / (1.0 + e);
  return select(y, -y, x < vec4<f32>(0.0));
}`,
  // To int32 by truncation; NaN is 0, and what lies outside is the nearest.
  truncated: `fn truncated(x: f32) -> i32 {
  if (isNan(x)) { return 0; }
  if (x >= 2147483648.0) { return 2147483647; }
  if (x < -2147483648.0) { return -2147483648; }
  return i32(x);
}`,
  truncated4: 'fn truncated4(x: vec4<f32>) -> vec4<i32> { return vec4<i32>(truncated(x.x), truncated(x.y), truncated(x.z), truncated(x.w)); }',
  infinityBits: 'var<private> infinityBits: u32 = 0x7f800000u;',
  nanBits: 'var<private> nanBits: u32 = 0x7fc00000u;',
  roundingOffset: 'var<private> roundingOffset: f32 = 0.5;',
}

// The declarations of the library that `text` needs, each before those that use it.
function neededBy(text: string): string {
  const needed = new Set<string>()
  const look = (source: string): void => {
    for (const [name, declaration] of Object.entries(library)) {
      if (!needed.has(name) && new RegExp(`\\b${name}\\b`).test(source)) {
        needed.add(name)
        look(declaration)
      }
    }
  }
  look(text)
  return Object.entries(library)
    .filter(([name]) => needed.has(name))
    .map(([, declaration]) => `${declaration}\n`)
    .join('')
}

const subgroupBuiltins = ', @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32, @builtin(subgroup_size) subgroupSize: u32, @builtin(subgroup_invocation_id) subgroupLane: u32'

/** A kernel from its parts. */
export function kernel(text: KernelText): Kernel {
  const { label, target, bindings, workgroupSize, body, groups } = text
  const buffers = bindings.map(({ name, dtype, width = 1, access = 'read' }, i) => {
    return `@group(0) @binding(${i}) var<storage, ${access}> ${name}: array<${storageType(dtype, target, width)}>;\n`
  })
  const talks = /\b(subgroupShuffleXor|quadSwap)/.test(body)
  const main = `@compute @workgroup_size(${workgroupSize})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32${talks ? subgroupBuiltins : ''}) {
${body}
}
`
  const declarations = text.declarations ? `${text.declarations}\n` : ''
  const enable = `${bindings.some(({ dtype }) => dtype === 'float16') && target.f16 ? 'enable f16;\n' : ''}${talks ? 'enable subgroups;\nrequires subgroup_id;\n' : ''}`
  const needed = neededBy(declarations + buffers.join('') + main)
  const code = `${enable}${buffers.join('')}${needed}${declarations}${main}`
  const { multiplyAdds } = text
  return { label, code, groups, access: bindings.map(({ access = 'read' }) => access), ...(multiplyAdds === undefined ? {} : { multiplyAdds }) }
}

/** What a kernel does with the elements of its result. */
export interface Finish {
  /** What follows in the kernel's label. */
  readonly label: string
  /** Besides those of what is read. */
  readonly bindings: readonly Binding[]
  /** At module scope. */
  readonly declarations: string
  /** WGSL for the element of this index (u32), whose value is a register's. */
  readonly store: (value: string, index: string) => string
}

/** Stores them in `y`. */
export function storing(dtype: DType, target: Target): Finish {
  return { label: '', bindings: writes(dtype, 'y'), declarations: '', store: (value, index) => `y[${index}] = ${stored(value, dtype, target)};` }
}

/** A grid that covers `count` workgroups though a dimension takes only `maxGroups`: `(x, y)`, with `x + y * width` its index. */
export function fold(count: number, { maxGroups }: Pick<Target, 'maxGroups'>): { readonly width: number; readonly groups: readonly [number, number, number] } {
  if (count <= maxGroups) return { width: count, groups: [count, 1, 1] }
  const rows = Math.ceil(count / maxGroups)
  const width = Math.ceil(count / rows)
  return { width, groups: [width, rows, 1] }
}

/** The text of a kernel that works on items. */
export interface ItemText extends Omit<KernelText, 'groups' | 'workgroupSize'> {
  readonly count: number
  readonly workgroupSize?: number
  /** Of the loop over what becomes an item; given where the kernel may be a step of another one. */
  readonly iterations?: number
  /** The same work on arrays of single elements, where this is on vec4s. */
  readonly oneByOne?: () => Pick<ItemText, 'bindings' | 'body' | 'count'>
}

/** A kernel with one invocation for each of `count` items; the body finds its item in `item: u32`. */
export function itemKernel(text: ItemText): Kernel {
  const { iterations, declarations = '' } = text
  const size = text.workgroupSize ?? 64
  const { width, groups } = fold(Math.ceil(text.count / size), text.target)
  const index = groups[1] === 1 ? 'group.x' : `(group.x + group.y * ${width}u)`
  const body = `  let item = ${index} * ${size}u + lane;
  if (item >= ${text.count}u) { return; }
${text.body}`
  const whole = kernel({ ...text, workgroupSize: size, body, groups })
  if (iterations === undefined) return whole
  return { ...whole, items: () => ({ ...(text.oneByOne?.() ?? { bindings: text.bindings, body: text.body, count: text.count }), iterations, declarations }) }
}

/** A number as a WGSL literal of its dtype. Infinities and NaN are no literals: see the head. */
export function literal(value: number, dtype: DType): string {
  if (dtype === 'int32') return value === -(2 ** 31) ? 'i32(-2147483647 - 1)' : `${Math.trunc(value)}i`
  if (dtype === 'bool') return value ? 'true' : 'false'
  if (Number.isNaN(value)) return 'bitcast<f32>(nanBits)'
  const single = Math.fround(value)
  if (single === Number.POSITIVE_INFINITY) return 'bitcast<f32>(infinityBits)'
  if (single === Number.NEGATIVE_INFINITY) return '(-bitcast<f32>(infinityBits))'
  if (single !== 0 && Math.abs(single) < 2 ** -126) return `${single < 0 ? '-' : ''}0f`
  const text = String(Math.abs(single))
  return `${single < 0 || Object.is(single, -0) ? '(-' : ''}${text}f${single < 0 || Object.is(single, -0) ? ')' : ''}`
}

/** A kernel with one row of work for each of `rows`: for one invocation alone, or for `lanes` that share it (a power of 2). */
export interface RowText extends Omit<ItemText, 'count' | 'workgroupSize' | 'oneByOne'> {
  readonly rows: number
  readonly lanes: number
}

/**
 * The body finds its row in `row: u32`, and takes the elements `first`, `first + lanes`, ... of it; `combineLanes` puts
 * together what the lanes found.
 */
export function rowKernel(text: RowText): Kernel {
  const { rows, lanes, target, body } = text
  if (lanes === 1) return itemKernel({ ...text, count: rows, body: `  let row = item;\n  let first = 0u;\n${body}` })
  const { width, groups } = fold(rows, target)
  const index = groups[1] === 1 ? 'group.x' : `group.x + group.y * ${width}u`
  const frame = `  let row = ${index};\n  let first = lane;\n  if (row >= ${rows}u) { return; }\n${body}`
  return kernel({ ...text, workgroupSize: lanes, body: frame, groups })
}

/** How many lanes share a row of `size` elements. */
export function lanesFor(target: Target, size: number): number {
  return target.kind === 'gpu' && size >= 128 ? 64 : 1
}

/**
 * WGSL that makes the variable `name` of each lane the combination of all lanes'; `shared` is a workgroup array of the lanes.
 * Where subgroups can, lanes exchange values without memory first, and only one value of each subgroup goes through it.
 */
export function combineLanes({ subgroups }: Target, name: string, shared: string, lanes: number, combine: (a: string, b: string) => string): string {
  if (lanes === 1) return ''
  if (subgroups) {
    return `  for (var h = subgroupSize / 2u; h > 0u; h = h / 2u) { let other = subgroupShuffleXor(${name}, h); ${name} = ${combine(name, 'other')}; }
  if (subgroupLane == 0u) { ${shared}[subgroup] = ${name}; }
  workgroupBarrier();
  ${name} = ${shared}[0];
  for (var s = 1u; s < subgroups; s++) { ${name} = ${combine(name, `${shared}[s]`)}; }
  workgroupBarrier();`
  }
  return `  ${shared}[lane] = ${name};
  workgroupBarrier();
  for (var h = ${lanes / 2}u; h > 0u; h = h / 2u) {
    if (lane < h) { ${shared}[lane] = ${combine(`${shared}[lane]`, `${shared}[lane + h]`)}; }
    workgroupBarrier();
  }
  ${name} = ${shared}[0];
  workgroupBarrier();`
}

/** The declaration of such an array. */
export function sharedLanes(shared: string, type: string, lanes: number): string {
  return lanes === 1 ? '' : `var<workgroup> ${shared}: array<${type}, ${lanes}>;`
}
