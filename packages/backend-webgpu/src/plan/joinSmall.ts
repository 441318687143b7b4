// Small steps as one dispatch (kernels/steps.ts). The routing of a layer is a dozen products, sums and chains of elements on a few
// hundred numbers, where a dispatch costs a card more than its work. A small step waits until something reads what it makes;
// those that wait by then go together. What they write becomes parts of one buffer, so that an adapter's bindings suffice.

import type { DType } from '@dynconv/core'
import { maxStepItems, type SmallStep, type StepArray, stepsKernel } from '../kernels/steps.ts'
import { type Items, storedBytes, type Target } from '../wgsl/kernel.ts'
import { type Part, type PlanBuffer, type Program, ProgramBuilder, type StatePlace, type Step, touched, written } from './program.ts'

interface Small {
  readonly step: Extract<Step, { readonly kind: 'dispatch' }>
  readonly items: Items
}

// Beyond, several workgroups for each step are worth a dispatch.
const maxIterations = 256
const maxWorkgroups = 4

/** The same program in fewer dispatches. On a processor a dispatch costs little, and barriers make kernels take long to compile. */
export function joinSmall(program: Program, target: Target, placeOf: (state: string) => StatePlace | undefined = () => undefined): Program {
  if (target.kind === 'software') return program
  const joining = new Joining(program, target, placeOf)
  const steps = program.steps.slice(0, program.fixedSteps)
  let waiting: Small[] = []
  const go = (): void => {
    steps.push(...joining.joined(waiting))
    waiting = []
  }
  for (const step of program.steps.slice(program.fixedSteps)) {
    const small = smallOf(step)
    if (!small && waiting.some((before) => joining.dependent(before.step, step))) go()
    if (small) waiting.push(small)
    else steps.push(step)
  }
  go()
  const { buffers, parts } = joining.builder
  return { ...program, steps, buffers, parts }
}

function smallOf(step: Step): Small | undefined {
  if (step.kind !== 'dispatch' || step.kernel.groups.some((groups) => groups > maxWorkgroups)) return undefined
  const items = step.kernel.items?.()
  const fits = items && items.count <= maxStepItems && items.iterations <= maxIterations
  return fits && step.buffers.every(({ source }) => source.kind !== 'faults') ? { step, items } : undefined
}

interface Gathered {
  /** Undefined: the buffer that the group will write to. */
  readonly buffer: PlanBuffer | undefined
  readonly dtype: DType
  access: StepArray['access']
}

/** The arrays of a group, and for each binding of each step the element of which array it begins with. */
interface Arrangement {
  readonly arrays: readonly Gathered[]
  readonly places: readonly (readonly { readonly array: number; readonly start: number }[])[]
}

class Joining {
  readonly builder: ProgramBuilder
  readonly #placeOf: (state: string) => StatePlace | undefined
  readonly #writers: Map<number, number> = new Map()
  readonly #wholes: ReadonlySet<number>
  readonly #shared: Map<number, PlanBuffer> = new Map()

  constructor(program: Program, target: Target, placeOf: (state: string) => StatePlace | undefined) {
    this.builder = new ProgramBuilder(target, new Set(), program)
    this.#placeOf = placeOf
    this.#wholes = new Set([...program.parts.values()].map(({ whole }) => whole.id))
    for (const step of program.steps) for (const { id } of written(step)) this.#writers.set(id, (this.#writers.get(id) ?? 0) + 1)
  }

  /** Whether one of two steps touches what the other writes. */
  dependent(a: Step, b: Step): boolean {
    const meet = (writing: Step, other: Step): boolean => written(writing).some((x) => touched(other).some((y) => this.#overlap(x, y)))
    return meet(a, b) || meet(b, a)
  }

  #overlap(a: PlanBuffer, b: PlanBuffer): boolean {
    return a.id === b.id || this.builder.parts.get(a.id)?.whole.id === b.id || this.builder.parts.get(b.id)?.whole.id === a.id
  }

  /** Steps, in order, as few dispatches. */
  joined(steps: readonly Small[]): readonly Step[] {
    const [first, ...rest] = steps
    if (!first) return []
    const group = [first]
    for (const step of rest) {
      if (!this.#fits([...group, step])) break
      group.push(step)
    }
    return [group.length > 1 ? this.#dispatch(group) : first.step, ...this.joined(rest.slice(group.length - 1))]
  }

  #fits(group: readonly Small[]): boolean {
    const { arrays } = this.#arranged(group)
    const twice = arrays.some((a) => arrays.some((b) => a !== b && a.buffer === b.buffer && b.access === 'read_write'))
    return !twice && arrays.length + 1 <= this.builder.target.maxBindings
  }

  #arranged(group: readonly Small[]): Arrangement {
    const arrays: Gathered[] = []
    const made = new Set(this.#madeBy(group))
    const places = group.map(({ step: { kernel, buffers }, items }) =>
      buffers.map((buffer, b) => {
        const dtype = items.bindings[b]?.dtype ?? 'float32'
        const { whole, offset } = made.has(buffer) ? { whole: undefined, offset: 0 } : this.#placed(buffer)
        const known = arrays.find((array) => array.buffer === whole && array.dtype === dtype)
        const array: Gathered = known ?? { buffer: whole, dtype, access: 'read' }
        if (!known) arrays.push(array)
        if (kernel.access[b] === 'read_write') array.access = 'read_write'
        return { array: arrays.indexOf(array), start: offset / storedBytes(dtype, this.builder.target) }
      }),
    )
    return { arrays, places }
  }

  // The buffers that nothing but this group writes to, and that may become parts of another one.
  #madeBy(group: readonly Small[]): readonly PlanBuffer[] {
    return group.flatMap(({ step: { kernel, buffers }, items }) =>
      buffers.filter(({ id, source }, b) => {
        const own = kernel.access[b] === 'read_write' && items.bindings[b]?.dtype === 'float32' && source.kind === 'temporary'
        return own && this.#writers.get(id) === 1 && !this.builder.parts.has(id) && !this.#wholes.has(id)
      }),
    )
  }

  #placed(buffer: PlanBuffer): Part {
    const part = this.builder.parts.get(buffer.id)
    if (part) return part
    const place = buffer.source.kind === 'state' ? this.#placeOf(buffer.source.name) : undefined
    if (!place) return { whole: buffer, offset: 0 }
    const whole = this.#shared.get(place.shared) ?? this.builder.buffer(place.bytes, 'states', { kind: 'states', shared: place.shared })
    this.#shared.set(place.shared, whole)
    return { whole, offset: place.offset }
  }

  #dispatch(group: readonly Small[]): Step {
    const own = this.builder.joined(this.#madeBy(group), 'what small steps write')
    const { arrays, places } = this.#arranged(group)
    // Since the last barrier.
    let open: readonly Small[] = []
    const steps = group.map((small, s): SmallStep => {
      const waits = open.some((before) => this.dependent(before.step, small.step))
      open = waits ? [small] : [...open, small]
      return { label: small.step.kernel.label, items: small.items, arrays: (places[s] ?? []).map(({ array }) => array), waits }
    })
    const starts = this.builder.constant('int32', places.flat().map(({ start }) => start))
    return { kind: 'dispatch', kernel: stepsKernel(this.builder.target, steps, arrays), buffers: [...arrays.map(({ buffer }) => buffer ?? own), starts.buffer] }
  }
}
