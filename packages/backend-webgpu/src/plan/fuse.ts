// Fuses elementwise ops. Their results are lazy: an op joins the group of the ops that make its inputs, as long as all have
// one shape, and the group becomes one kernel when something else reads one of its results. Only results that are read
// outside are stored. A convolution, product or sum may be the root of a group: its kernel then does the ops on each element of
// its result instead of storing it.
//
// Why this is in order: a group is closed as soon as anything outside reads from it. So whatever an open group reads was
// made before, nothing that was made depends on an open group, and two open groups never depend on each other: they may
// be merged, and each may be emitted at any time.

import { type DType, GraphError, sameShape, sizeOf, type StaticShape } from '@dynconv/core'
import { type Argument, elementwiseKernel, type Expression, finishing, type Member, root } from '../kernels/elementwise.ts'
import type { Finish, Kernel } from '../wgsl/kernel.ts'
import { broadcastLayout, denseLayout, isDense } from '../wgsl/views.ts'
import type { ProgramBuilder, Value } from './program.ts'

/** A number known when the program is made. */
export interface Scalar {
  readonly scalar: number
  readonly dtype: DType
  readonly shape: StaticShape
}

/** What an op reads. */
export type Operand = Value | Lazy | Scalar

/** The result of an elementwise op that may not be computed yet. */
export interface Lazy {
  readonly dtype: DType
  readonly shape: StaticShape
  /** How many reads of it are still to come; 0: it need not be stored. */
  uses: number
  /** Whether one of these stands for a rule that is still at work on it: the first op of its group that reads it ends that. */
  held: boolean
  group: Group | undefined
  index: number
  /** Where it is, once it is computed; when the program is made up, where it goes. */
  value: Value | undefined
}

/** Ops on elements of one shape that become one kernel. */
export interface Group {
  readonly shape: StaticShape
  readonly members: Member[]
  readonly results: Lazy[]
  readonly inputs: Value[]
  /** The kernel that computes one of the members. */
  root: Root | undefined
  /** The last node that added a member. */
  extended: number
}

/** A kernel whose results others go on from. */
export interface Root {
  /** What it binds before what `finish` binds. */
  readonly inputs: readonly Value[]
  readonly kernel: (finish?: Finish) => Kernel
  /**
   * Whether the others may only read what lies as the result does (and single numbers): finding out the coordinates of each
   * element costs a convolution more than another pass.
   */
  readonly alike: boolean
}

/** Whether an operand is lazy. */
export function isLazy(operand: Operand): operand is Lazy {
  return 'uses' in operand
}

/** Whether an operand is a number. */
export function isScalar(operand: Operand): operand is Scalar {
  return 'scalar' in operand
}

/** No rule is at work on it any more. */
export function release(lazy: Lazy): void {
  if (!lazy.held) return
  lazy.held = false
  lazy.uses -= 1
}

// Long texts take long to compile, and hold many registers.
const maxMembers = 48
// For how many nodes a product or sum waits for what is done to its elements. Those of layers follow at once; what comes later,
// such as the update by a gradient, would keep what is multiplied in memory until then.
const patience = 8

/** Collects elementwise ops. */
export class Fusion {
  readonly #builder: ProgramBuilder
  readonly #open: Set<Group> = new Set()
  #node: number = 0

  constructor(builder: ProgramBuilder) {
    this.#builder = builder
  }

  /** The result of an op on elements. */
  add(name: string, expression: Expression, operands: readonly Operand[], dtype: DType, shape: StaticShape, held: boolean): Lazy {
    const result: Lazy = { dtype, shape, uses: held ? 1 : 0, held, group: undefined, index: -1, value: undefined }
    const group = this.#groupFor(operands, shape)
    if (!takesAll(group, operands)) {
      this.#keepAndClose(group, operands)
      return this.add(name, expression, operands, dtype, shape, held)
    }
    const inputsBefore = group.inputs.length
    const args = operands.map((operand): Argument => {
      if (isScalar(operand)) return { kind: 'scalar', value: operand.scalar, dtype: operand.dtype }
      if (isLazy(operand) && operand.group === group) return { kind: 'member', index: operand.index }
      return { kind: 'input', index: inputOf(group, this.read(operand), shape) }
    })
    group.extended = this.#node
    result.group = group
    result.index = group.members.length
    group.members.push({ name, expression, args, dtype })
    group.results.push(result)
    if (this.#bindings(group) > this.#builder.target.maxBindings) {
      // One too many: take it back, close what is there, and begin anew.
      group.members.pop()
      group.results.pop()
      group.inputs.length = inputsBefore
      this.#keepAndClose(group, operands)
      return this.add(name, expression, operands, dtype, shape, held)
    }
    for (const operand of operands) if (!isScalar(operand) && isLazy(operand) && operand.group === group) release(operand)
    return result
  }

  /** The result of a kernel that need not run before something reads it: what is done to its elements then becomes a part of it. */
  addRoot(name: string, kernel: Root, dtype: DType, shape: StaticShape): Lazy {
    const group: Group = { shape, members: [{ name, expression: root, args: [], dtype }], results: [], inputs: [], root: kernel, extended: this.#node }
    const result: Lazy = { dtype, shape, uses: 1, held: true, group, index: 0, value: undefined }
    group.results.push(result)
    this.#open.add(group)
    return result
  }

  /** Says that another node is lowered: products and sums do not wait for ever. */
  nextNode(): void {
    this.#node += 1
    for (const group of this.#open) if (group.root && this.#node - group.extended > patience) this.#close(group)
  }

  /** An operand's elements in memory. */
  read(operand: Value | Lazy): Value {
    if (!isLazy(operand)) return operand
    if (!operand.value && operand.group) {
      operand.uses += 1
      this.#close(operand.group)
      operand.uses -= 1
    }
    if (!operand.value) throw new GraphError('webgpu: a fused value is read that was not stored')
    return operand.value
  }

  /** Makes everything that is still open, first what `together` makes: it gives the groups that need no dispatch any more. */
  flush(together: (open: Iterable<Group>) => Iterable<Group>): void {
    for (const group of together(this.#open)) {
      this.#open.delete(group)
      for (const result of group.results) result.group = undefined
    }
    for (const group of this.#open) this.#close(group)
  }

  // The open group that makes the operands, merged where there are several; a new one where there is none.
  #groupFor(operands: readonly Operand[], shape: StaticShape): Group {
    const makers = new Set<Group>()
    for (const operand of operands) {
      if (isScalar(operand) || !isLazy(operand) || !operand.group) continue
      if (sameShape(operand.group.shape, shape)) makers.add(operand.group)
    }
    const [first, ...others] = makers
    const fresh = (): Group => {
      const group: Group = { shape, members: [], results: [], inputs: [], root: undefined, extended: this.#node }
      this.#open.add(group)
      return group
    }
    if (!first) return fresh()
    for (const other of others) {
      const count = first.members.length + other.members.length
      const apart = (first.root && other.root) || !takesAll(first, other.inputs) || !takesAll(other, first.inputs)
      if (apart || count >= maxMembers || this.#bindings(first) + this.#bindings(other) >= this.#builder.target.maxBindings) this.#keepAndClose(other, operands)
      else this.#merge(first, other)
    }
    if (first.members.length < maxMembers) return first
    this.#keepAndClose(first, operands)
    return fresh()
  }

  // Closes a group that the op at hand reads from: what it reads must be stored.
  #keepAndClose(group: Group, operands: readonly Operand[]): void {
    const read = operands.flatMap((operand) => (!isScalar(operand) && isLazy(operand) && operand.group === group ? [operand] : []))
    for (const lazy of read) lazy.uses += 1
    this.#close(group)
    for (const lazy of read) lazy.uses -= 1
  }

  #merge(into: Group, from: Group): void {
    const shift = into.members.length
    for (const [i, member] of from.members.entries()) {
      const args = member.args.map((a): Argument => {
        if (a.kind === 'member') return { kind: 'member', index: a.index + shift }
        const input = a.kind === 'input' ? from.inputs[a.index] : undefined
        return input ? { kind: 'input', index: inputOf(into, input, into.shape) } : a
      })
      into.members.push({ ...member, args })
      const result = from.results[i]
      if (!result) continue
      result.group = into
      result.index = shift + i
      into.results.push(result)
    }
    into.root ??= from.root
    this.#open.delete(from)
  }

  #bindings(group: Group): number {
    return (group.root?.inputs.length ?? 0) + group.inputs.length + group.results.filter((r) => r.uses > 0).length
  }

  #close(group: Group): void {
    if (!this.#open.delete(group)) return
    const { members, inputs, shape, root: kernelOfRoot } = group
    const outputs = group.results.flatMap((r, i) => (r.uses > 0 ? [i] : []))
    const values = outputs.map((i) => group.results[i]?.value ?? this.#builder.tensor(members[i]?.dtype ?? 'float32', shape))
    outputs.forEach((i, o) => {
      const result = group.results[i]
      const value = values[o]
      if (result && value) result.value = value
    })
    for (const result of group.results) result.group = undefined
    if (outputs.length === 0 || sizeOf(shape) === 0) return
    const whole = {
      target: this.#builder.target,
      layouts: inputs.map((v) => v.layout),
      dtypes: inputs.map((v) => v.dtype),
      members,
      outputs,
      shape,
    }
    const kernel = kernelOfRoot ? kernelOfRoot.kernel(members.length > 1 ? finishing(whole) : undefined) : elementwiseKernel(whole)
    this.#builder.dispatch(kernel, [...(kernelOfRoot?.inputs ?? []), ...inputs, ...values].map((v) => v.buffer))
  }
}

// Whether a group's root, if it has one, can go on to these operands.
function takesAll({ root, shape }: Group, operands: readonly Operand[]): boolean {
  if (!root?.alike) return true
  return operands.every((operand) => {
    if (isScalar(operand)) return true
    const layout = isLazy(operand) ? denseLayout(operand.shape) : operand.layout
    return sizeOf(layout.shape) === 1 || layout.strides.every((stride) => stride === 0) || (sameShape(layout.shape, shape) && isDense(layout))
  })
}

// The place of a value, stretched to the group's shape, among the group's inputs.
function inputOf(group: Group, value: Value, shape: StaticShape): number {
  const layout = broadcastLayout(value.layout, shape)
  const known = group.inputs.findIndex(
    (v) => v.buffer === value.buffer && v.layout.offset === layout.offset && v.layout.strides.join() === layout.strides.join(),
  )
  if (known >= 0) return known
  group.inputs.push({ ...value, layout })
  return group.inputs.length - 1
}
