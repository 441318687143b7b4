// What the blocked kernels share while one graph is lowered: the plan, and values in further orders, made once.

import { GraphError, type Node, type StaticShape, type ValueId } from '@dynconv/core'
import type { KernelTable, Lowering } from '../lowering.ts'
import type { ModelBuilder } from '../model.ts'
import type { Assignment, BlockedNode } from './assign.ts'
import { blockedNode, isOnlyRead } from './assign.ts'
import type { FusionPlan } from './fuse.ts'
import { affine, reorderOutput } from './nchwc.ts'

/** The lowering of one graph with blocked values. */
export class Context {
  readonly lowering: Lowering
  readonly model: ModelBuilder
  readonly block: number
  /** How many threads the program uses. */
  readonly threads: number
  readonly assignment: Assignment
  readonly plan: FusionPlan
  /** The plain kernels, for ops that do not mind how memory is ordered. */
  readonly kernels: KernelTable
  readonly #made: Map<string, string> = new Map()

  constructor(lowering: Lowering, options: { readonly block: number; readonly threads: number; readonly assignment: Assignment; readonly plan: FusionPlan; readonly kernels: KernelTable }) {
    this.lowering = lowering
    this.model = lowering.model
    this.block = options.block
    this.threads = options.threads
    this.assignment = options.assignment
    this.plan = options.plan
    this.kernels = options.kernels
  }

  /** The value `key` names, made on the first call. */
  once(key: string, make: () => string): string {
    const known = this.#made.get(key)
    if (known !== undefined) return known
    const name = make()
    this.#made.set(key, name)
    return name
  }

  /** A value in blocked order. */
  blocked(id: ValueId): string {
    return this.lowering.get(id, 'blocked')
  }

  /** Images as [N, H, W, C], or groups of their channels apart, [N g, H, W, C/g]. */
  channelsLast(id: ValueId, groups: number = 1): string {
    return this.once(`last:${id}:${groups}`, () => {
      const { lowering, model } = this
      const [batch = 0, channels = 0, height = 0, width = 0] = this.shape(id)
      const share = channels / groups
      const apart = (name: string): string => (groups === 1 ? name : model.reshape(name, [batch * groups, share, height, width]))
      if (!lowering.has(id, 'blocked')) return model.transpose(apart(lowering.get(id)), [0, 2, 3, 1])
      // A single block of channels is channels-last already.
      if (share === this.block) return model.reshape(this.blocked(id), [batch * groups, height, width, share])
      return reorderOutput(model, apart(this.blocked(id)), share, true)
    })
  }

  /** Whether a value is a state that the program leaves as it is: what depends on it alone is computed once. */
  onlyReads(id: ValueId): boolean {
    return isOnlyRead(this.lowering.graph, id)
  }

  shape(id: ValueId): StaticShape {
    return this.lowering.type(id).shape
  }

  /** The convolution of a node that is known to run in blocks. */
  convolution(node: Node): BlockedNode {
    const found = blockedNode(this.lowering.graph, node, this.block)
    if (!found) throw new GraphError(`onnx: ${node.op} does not run in blocks`)
    return found
  }

  /** x - mean per channel, blocked: shared by a normalisation's forward and backward. */
  centred(x: ValueId, mean: string): string {
    return this.once(`centred:${x}:${mean}`, () => {
      const [, channels = 0] = this.shape(x)
      const shift = this.model.op('Neg', [mean])
      return affine(this.model, this.blocked(x), channels, ones(this.model, channels), { bias: shift })
    })
  }
}

function ones(model: ModelBuilder, length: number): string {
  return model.constant({ dtype: 'float32', shape: [length], data: new Float32Array(length).fill(1) })
}
