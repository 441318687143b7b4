// A small sound engine: every op by its own reference, its result rounded to its dtype and written between sentinels. The
// suite is tested on it, and on what becomes of it when a bug is planted. For tests; as an engine it is slow.

import { type Backend, type Kernel, kernelBackend, type KernelTable, type OpDef, type OpName, ops, type RefTensor, copyHostTensor, fromNumbers, type HostTensor, type StaticType, toRef } from '@dynconv/core'
import type { Target } from '../run/outcomes.ts'
import { guarded, guardedCopy, isIntact } from '../run/guards.ts'

/** Kernels over host tensors. */
export type FloatKernels = KernelTable<HostTensor>

/** A bug. */
export interface Sabotage {
  /** Kernels in place of sound ones. */
  readonly kernels?: (sound: Required<FloatKernels>) => FloatKernels
  /** Something around the whole backend. */
  readonly wrap?: (backend: Backend) => Backend
  /** Ops that supports() refuses, with the reason. */
  readonly refuses?: { readonly [K in OpName]?: string }
}

/** Writes numbers into a new tensor of `type`, rounded. */
export function written(type: StaticType, values: ArrayLike<number>): HostTensor {
  const t = guarded(type.dtype, type.shape)
  t.data.set(fromNumbers(type.dtype, type.shape, values).data)
  return t
}

/** The sound engine, or what a bug makes of it. */
export function floatTarget(name: string, bug: Sabotage = {}): Target {
  // Everything that was made, until it has been looked at.
  const made = new Set<HostTensor>()
  const watch = <T>(result: T): T => {
    const list = Array.isArray(result) ? (result as readonly HostTensor[]) : [result as HostTensor]
    for (const t of list) made.add(t)
    return result
  }
  const sound = soundKernels()
  const kernels = watched({ ...sound, ...bug.kernels?.(sound) }, watch)
  return {
    name,
    create: () => {
      const backend = kernelBackend<HostTensor>({
        name,
        capabilities: { dtypes: { float32: 'arithmetic', float16: 'arithmetic', int32: 'arithmetic', bool: 'arithmetic' }, device: 'float32 in plain JavaScript' },
        kernels,
        supports: ({ op }) => (bug.refuses?.[op] === undefined ? true : { reason: bug.refuses[op] }),
        upload: (value) => watch(guardedCopy(value)),
        download: (value, { dtype, shape }) => copyHostTensor({ ...value, dtype, shape }),
      })
      return Promise.resolve(bug.wrap?.(backend) ?? backend)
    },
    checkGuards: () => {
      const broken = [...made].filter((t) => !isIntact(t)).map((t) => `the bytes beside a ${t.dtype}[${t.shape.join(', ')}] were overwritten`)
      made.clear()
      return broken
    },
  }
}

function soundKernels(): Required<FloatKernels> {
  const kernelOf =
    (def: OpDef<OpName>): Kernel<HostTensor, OpName> =>
    (attrs, inputs, types) => {
      const result = def.reference(attrs, inputs.map(toRef), types)
      const list: readonly RefTensor[] = 'data' in result ? [result] : result
      return list.map((t, i) => written(types[i] ?? { dtype: 'float32', shape: t.shape }, t.data))
    }
  // Boundary: each row gets the kernel of its own op; fromEntries cannot say so.
  return Object.fromEntries(Object.entries(ops).map(([name, def]) => [name, kernelOf(def as OpDef<OpName>)])) as Required<FloatKernels>
}

function watched(kernels: FloatKernels, watch: <T>(result: T) => T): FloatKernels {
  const rows = Object.entries(kernels) as readonly (readonly [string, Kernel<HostTensor, OpName>])[]
  return Object.fromEntries(rows.map(([name, kernel]): readonly [string, Kernel<HostTensor, OpName>] => [name, (...args) => watch(kernel(...args))])) as FloatKernels
}
