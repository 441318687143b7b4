// Runs the workloads, ours and the peer's, and collects the report.

import type { Backend } from '@dynconv/core'
import { describeMachine } from './machine.ts'
import { interleave } from './measure.ts'
import { layerVariant, type OwnVariant, stepVariant } from './ours.ts'
import { Peer, type PeerMode, type PeerVariant } from './peer.ts'
import { type Report, type Result, rowsOf } from './report.ts'
import type { Workload } from './workloads.ts'

/** What to run. */
export interface BenchOptions {
  readonly backend: Backend
  readonly workloads: readonly Workload[]
  readonly rounds: number
  readonly warmup: number
  /** The Python that has PyTorch; undefined: no peer. */
  readonly python: string | undefined
  readonly peerModes: readonly PeerMode[]
  readonly threads: number
  /** Told what is being done: a workload's name and the share of it that is done. */
  readonly progress: (workload: string, done: number, total: number) => void
  /** Told what the backend chose. */
  readonly explain?: (text: string) => void
}

/** Measures everything. */
export async function bench(options: BenchOptions): Promise<Report> {
  const notRun: string[] = []
  const peer = await startPeer(options, notRun)
  try {
    const results: Result[] = []
    for (const workload of options.workloads) results.push(await measure(options, workload, peer))
    return {
      machine: describeMachine(options.backend.capabilities.device, peer ? `PyTorch ${peer.version} (${options.threads} threads)` : 'none'),
      rows: results.flatMap(rowsOf),
      notRun: [...notRun, ...results.flatMap((r) => r.notRun)],
    }
  } finally {
    peer?.stop()
  }
}

async function startPeer(options: BenchOptions, notRun: string[]): Promise<Peer | undefined> {
  if (options.python !== undefined) return Peer.start(options.python, options.threads)
  notRun.push('PyTorch: no --peer PYTHON was given (a Python with torch: python3 -m venv V && V/bin/pip install torch numpy)')
  return undefined
}

async function measure(options: BenchOptions, workload: Workload, peer: Peer | undefined): Promise<Result> {
  const { backend } = options
  const notRun: string[] = []
  const own: OwnVariant[] = []
  const foreign: PeerVariant[] = []
  try {
    if (workload.kind === 'layer') {
      for (const form of [undefined, 'kernels', 'outputs', 'auto'] as const) own.push(await layerVariant(backend, workload, form))
    } else {
      for (const isDynamic of [false, true]) own.push(await stepVariant(backend, workload, isDynamic))
    }
    for (const mode of peer ? options.peerModes : []) {
      for (const isDynamic of [false, true]) {
        try {
          const variant = await peer?.prepare(workload, isDynamic, mode)
          if (!variant) continue
          // torch.compile fails at its first run, not before.
          await variant.run()
          foreign.push(variant)
        } catch (error) {
          notRun.push(`${workload.name}: PyTorch ${mode} ${isDynamic ? 'dynamic' : 'static'}: ${error instanceof Error ? error.message : String(error)}`)
        }
      }
    }
    const timings = await interleave([...own, ...foreign], {
      rounds: options.rounds,
      warmup: options.warmup,
      restMs: 50,
      progress: (done, total) => options.progress(workload.name, done, total),
    })
    for (const variant of own) options.explain?.(`${workload.name}, ${variant.name}:\n${variant.explain()}`)
    return { workload, timings, notRun }
  } finally {
    for (const variant of own) variant.dispose()
    for (const variant of foreign) await variant.free()
  }
}
