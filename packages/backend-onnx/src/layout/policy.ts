// The layout policy of an engine with the blocked layout: assigns, plans, and lowers what the plan says; what it leaves
// goes to the plain kernels.

import type { Graph, Node, StaticShape, ValueId } from '@dynconv/core'
import type { KernelTable, Layout, LayoutPolicy, Lowering } from '../lowering.ts'
import type { ModelBuilder } from '../model.ts'
import { type Assignment, assign } from './assign.ts'
import { Context } from './context.ts'
import { emitConv } from './convolutions.ts'
import { isConvNode, isDynamic } from './convNode.ts'
import { type FusionPlan, planFusions, type SumPlan } from './fuse.ts'
import { toKernelLayout } from './host.ts'
import { beginNorm, lowerBlocked } from './kernels.ts'
import { activate, type Activation, conv, filled, type Nchwc, pointwise, reorderInput, reorderOutput } from './nchwc.ts'
import { notesOf } from './notes.ts'
import { emitNorm, type PendingNorm } from './norm.ts'
import { fromPlain, movesNothing, toPlain, viewOf } from './views.ts'

/** What a policy is made for. It serves one lowering of this graph. */
export interface PolicyOptions {
  readonly graph: Graph
  readonly nchwc: Nchwc
  /** How many threads a program uses. */
  readonly threads: number
  /** The plain kernels: elementwise ones run on blocked values too. */
  readonly kernels: KernelTable
}

/** The layouts and kernels for `graph` on an engine with the blocked layout. */
export function blockedPolicy(options: PolicyOptions): LayoutPolicy {
  const { block } = options.nchwc
  const assignment = assign(options.graph, block)
  return new BlockedPolicy(options, assignment, planFusions(options.graph, assignment, block))
}

class BlockedPolicy implements LayoutPolicy {
  readonly #options: PolicyOptions
  readonly #assignment: Assignment
  readonly #plan: FusionPlan
  /** Absorbed normalisations whose result waits for the root of its sum. */
  readonly #pending: Map<Node, PendingNorm> = new Map()
  #context: Context | undefined

  constructor(options: PolicyOptions, assignment: Assignment, plan: FusionPlan) {
    this.#options = options
    this.#assignment = assignment
    this.#plan = plan
  }

  stateLayout(name: string): Layout {
    return this.#assignment.stateLayout(name)
  }

  lower(node: Node, lowering: Lowering): boolean {
    const ctx = this.#contextOf(lowering)
    if (this.#plan.absorbed.has(node)) {
      const pending = beginNorm(node, ctx)
      if (pending) this.#pending.set(node, pending)
      return true
    }
    const sum = this.#plan.sums.get(node)
    if (!sum) return lowerBlocked(node, ctx)
    lowering.set(sum.output, this.#emitSum(sum, ctx), 'blocked')
    return true
  }

  convert(lowering: Lowering, id: ValueId, name: string, from: Layout, to: Layout): string {
    const { block } = this.#options.nchwc
    const { model } = lowering
    const { dtype, shape } = lowering.type(id)
    const constant = to === 'kernel' ? lowering.producer(id) : undefined
    if (constant?.op === 'constant' && dtype === 'float32') return lowering.constant(toKernelLayout(constant.attrs.value, block))
    const plain = from === 'plain' ? name : leave(model, name, shape, from, block, dtype === 'float32')
    return to === 'plain' ? plain : enter(model, plain, shape, to, block, dtype === 'float32')
  }

  #contextOf(lowering: Lowering): Context {
    const { nchwc, threads, kernels } = this.#options
    if (this.#context) return this.#context
    for (const line of notesOf(lowering.graph, this.#assignment, this.#plan, nchwc.block)) lowering.note(line)
    this.#context = new Context(lowering, { block: nchwc.block, threads, assignment: this.#assignment, plan: this.#plan, kernels })
    return this.#context
  }

  // The terms that others computed are added up first; then each maker takes what is there into its own result, the last
  // one with the activation. Values per channel go to the first maker that has room for them.
  #emitSum(plan: SumPlan, ctx: Context): string {
    const { model } = ctx
    const [batch = 1, channels = 0] = plan.shape
    const [first, ...others] = plan.terms.map((id) => ctx.blocked(id))
    let sum = first === undefined ? undefined : others.reduce((a, b) => model.op('Add', [a, b]), first)
    let bias = this.#perChannel(plan, ctx, 1, channels)
    let sampleBias = batch === 1 ? undefined : this.#perChannel(plan, ctx, batch, channels)
    plan.makers.forEach((maker, i) => {
      const pending = this.#pending.get(maker)
      const dynamic = isDynamic(pending && 'into' in pending ? pending.into : maker)
      const last = i === plan.makers.length - 1
      const activation = last && (sampleBias === undefined || dynamic) && takesActivation(maker) ? plan.activation : undefined
      const extra = { bias, sum, activation, ...(dynamic ? { sampleBias } : {}) }
      bias = undefined
      if (dynamic) sampleBias = undefined
      sum = pending ? emitNorm(ctx, pending, extra) : isConvNode(maker) ? emitConv(maker, ctx, extra) : sum
      if (activation !== undefined) return
      if (last && sampleBias !== undefined) sum = addPerSample(model, sum ?? '', plan.shape, sampleBias, plan.activation)
      else if (last && plan.activation !== undefined) sum = activate(model, sum ?? '', plan.activation)
    })
    return sum ?? ''
  }

  // The sum of the terms [batch, C, 1, 1], as [C] or [N, C].
  #perChannel(plan: SumPlan, ctx: Context, batch: number, channels: number): string | undefined {
    const { lowering, model } = ctx
    const names = plan.perChannel
      .filter((id) => (lowering.type(id).shape.at(-4) ?? 1) === batch)
      .map((id) => model.reshape(lowering.get(id), batch === 1 ? [channels] : [batch, channels]))
    return names.length === 0 ? undefined : names.reduce((a, b) => model.op('Add', [a, b]))
  }
}

// Input gradients have no activation (nothing that trains puts one there).
function takesActivation(maker: Node): boolean {
  return maker.op !== 'conv2dInputGrad' && maker.op !== 'dynamicConv2dInputGrad'
}

// x + bias[n, c], through a depthwise convolution of all samples side by side.
function addPerSample(model: ModelBuilder, x: string, shape: StaticShape, bias: string, activation: Activation | undefined): string {
  const [n = 1, c = 0, h = 0, w = 0] = shape
  const side = model.reshape(x, [1, n * c, h, w])
  const sum = conv(model, side, filled(model, 1, [n * c, 1, 1, 1]), { ...pointwise, groups: n * c }, { bias: model.reshape(bias, [n * c]), activation })
  return model.reshape(sum, shape)
}

// The engine's reordering knows float32 images; everything else goes through the views.
function enter(model: ModelBuilder, name: string, shape: StaticShape, to: Layout, block: number, float: boolean): string {
  const view = viewOf(shape, to, block)
  if (to === 'blocked' && float && !movesNothing(view.split, view.perm)) return reorderInput(model, name)
  return fromPlain(model, name, shape, view)
}

function leave(model: ModelBuilder, name: string, shape: StaticShape, from: Layout, block: number, float: boolean): string {
  const view = viewOf(shape, from, block)
  const [, channels = 0] = shape
  if (from === 'blocked' && float && !movesNothing(view.split, view.perm)) return reorderOutput(model, name, channels)
  return toPlain(model, name, shape, view)
}
