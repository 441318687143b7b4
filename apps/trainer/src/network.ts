// The networks that a run can name, and what they cost layer by layer.

import { type Backend, cost, type DynamicConvForm, DynamicConv2d, type Graph, type Module, prepare, producers, routings, temperatureState, traceModule } from '@dynconv/core'
import { type ConvFactory, dynamic, mobilenetV2, ordinary, resnet } from '@dynconv/models'
import { type ModelName, type RunConfig, temperatureOf } from './config.ts'
import type { DataFacts } from './data.ts'

// What every network takes from the run.
interface Common {
  readonly classes: number
  readonly inChannels: number
  readonly conv: ConvFactory
  readonly seed: number
  /** 'imagenet' shrinks large images at once. */
  readonly stem: 'cifar' | 'imagenet'
}

interface Plan {
  /** Channels of the first convolution. */
  readonly width: number
  readonly build: (width: number, common: Common) => Module
}

// Each stage has twice the channels of the one before.
function residual(width: number, blocks: readonly number[]): Plan {
  return { width, build: (first, common) => resnet({ ...common, widths: blocks.map((_, stage) => first * 2 ** stage), blocks }) }
}

const plans: { readonly [M in ModelName]: Plan } = {
  resnet8: residual(16, [1, 1, 1]),
  resnet14: residual(16, [2, 2, 2]),
  resnet20: residual(16, [3, 3, 3]),
  resnet18: residual(64, [2, 2, 2, 2]),
  mobilenetv2: { width: 32, build: (first, common) => mobilenetV2({ ...common, width: first / 32 }) },
}

/** The longest side, in pixels, of images that the networks do not shrink before the first block. */
const smallImage = 64

/** The network of a run, with its initial values and the temperature of its first epoch. */
export function buildNetwork(config: RunConfig, facts: Pick<DataFacts, 'classes' | 'channels' | 'height' | 'width'>): Module {
  const { width, build } = plans[config.model]
  const net = build(config.width ?? width, {
    classes: facts.classes.length,
    inChannels: facts.channels,
    conv: config.bases > 1 ? dynamic({ numBases: config.bases }) : ordinary,
    seed: config.seed,
    stem: Math.max(facts.height, facts.width) > smallImage ? 'imagenet' : 'cifar',
  })
  net.loadState(temperatureState(net, temperatureOf(config)(0)), { strict: false })
  return net
}

/** What one layer costs. */
export interface LayerCost {
  /** The module's path; '' for ops that belong to no layer. */
  readonly name: string
  /** The module's class. */
  readonly kind: string
  readonly parameters: number
  /** Multiply-adds for one image. */
  readonly macs: number
  /** Of a dynamic convolution: how the backend would compute it. */
  readonly form: Exclude<DynamicConvForm, 'auto'> | undefined
  /** Why that form. */
  readonly reason: string | undefined
}

/** What a network costs. */
export interface NetworkCost {
  readonly parameters: number
  /** Multiply-adds for one image. */
  readonly macs: number
  /** Images in the batch that the forms were chosen for. */
  readonly batch: number
  readonly layers: readonly LayerCost[]
}

/** What `net` costs in inference, at `batch` images of [C, H, W], computed as `backend` would. */
export function networkCost(net: Module, facts: Pick<DataFacts, 'channels' | 'height' | 'width'>, backend: Backend, batch: number = 1): NetworkCost {
  const { graph } = traceModule(net, { inputs: [{ shape: [batch, facts.channels, facts.height, facts.width] }] })
  const prepared = prepare(graph, backend)
  const macs = macsByModule(prepared.graph)
  const choices = new Map(prepared.choices.map((choice) => [choice.bases, choice]))
  const parameters = new Map<string, number>()
  for (const [name, parameter] of net.namedParameters()) {
    const at = parentOf(name)
    parameters.set(at, (parameters.get(at) ?? 0) + parameter.data.data.length)
  }
  const modules = net.namedModules()
  const names = [...modules.keys(), ''].filter((name) => parameters.has(name) || macs.has(name))
  const layers = [...new Set(names)].map((name): LayerCost => {
    const module = modules.get(name)
    const choice = module instanceof DynamicConv2d ? choices.get(`${name}.bases`) : undefined
    return {
      name,
      kind: name && module ? module.constructor.name : 'other',
      parameters: parameters.get(name) ?? 0,
      macs: (macs.get(name) ?? 0) / batch,
      form: choice?.form,
      reason: choice?.reason,
    }
  })
  const total = (of: (layer: LayerCost) => number): number => layers.reduce((sum, layer) => sum + of(layer), 0)
  return { parameters: total((l) => l.parameters), macs: total((l) => l.macs), batch, layers }
}

/** Whether a network has a routing to anneal and to watch. */
export function hasRouting(net: Module): boolean {
  return routings(net).size > 0
}

// A node's multiply-adds belong to the module whose parameter it reads, directly or through ops that only change its form.
function macsByModule(graph: Graph): ReadonlyMap<string, number> {
  const states = new Map(graph.states.map((state) => [state.value, state.name]))
  const made = producers(graph)
  const owner = (id: number): string | undefined => {
    const state = states.get(id)
    if (state !== undefined) return parentOf(state)
    const node = graph.nodes[made.get(id) ?? -1]
    const [source] = node?.inputs ?? []
    return node && source !== undefined && ['cast', 'reshape', 'transpose', 'broadcastTo'].includes(node.op) ? owner(source) : undefined
  }
  const result = new Map<string, number>()
  cost(graph).perNode.forEach(({ macs }, i) => {
    if (!macs) return
    const name = (graph.nodes[i]?.inputs ?? []).map(owner).find((found) => found !== undefined) ?? ''
    result.set(name, (result.get(name) ?? 0) + macs)
  })
  return result
}

function parentOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('.')))
}
