// The blocked layout as the backend takes it: a name, a policy for each graph, and the conversion of stored weights.

import { type Graph, GraphError, type HostTensor } from '@dynconv/core'
import { plainKernels } from '../kernels/table.ts'
import type { Layout, LayoutPolicy } from '../lowering.ts'
import type { Engine } from '../session.ts'
import { fromKernelLayout, toKernelLayout } from './host.ts'
import type { Nchwc } from './nchwc.ts'
import { blockedPolicy } from './policy.ts'
import { probeNchwc } from './probe.ts'

/** What chooses memory layouts. */
export interface BlockedLayouts {
  /** For people: `NCHWc block 16`. */
  readonly name: string
  policy(graph: Graph): LayoutPolicy
  convertState(value: HostTensor, from: Layout, to: Layout, inPlace: boolean): HostTensor
}

/** The blocked layout of `engine`; undefined where it has none. */
export async function blockedLayouts(engine: Engine): Promise<BlockedLayouts | undefined> {
  const nchwc = await probeNchwc(engine)
  return nchwc && layoutsOf(nchwc, engine.threads)
}

/** The blocked layout of a known block, for programs of so many threads. */
export function layoutsOf(nchwc: Nchwc, threads: number): BlockedLayouts {
  const { block } = nchwc
  return {
    name: `NCHWc block ${block}`,
    policy: (graph) => blockedPolicy({ graph, nchwc, threads, kernels: plainKernels }),
    convertState: (value, from, to, inPlace) => {
      if (from === 'plain' && to === 'kernel') return toKernelLayout(value, block, inPlace)
      if (from === 'kernel' && to === 'plain') return fromKernelLayout(value, block, inPlace)
      throw new GraphError(`onnx: no conversion of a state from layout ${from} to ${to}`)
    },
  }
}
