// A whole measurement: starts engines and peers, shows progress, measures, and stops all of them again, whatever happens.

import { bench } from './bench.ts'
import { startEngines, stopEngines } from '@dynconv/app-kit/engines'
import { ownPeakMemory } from './memory.ts'
import type { Peer } from './peers/peer.ts'
import { type TorchMode, TorchPeer } from './peers/torch.ts'
import { tfjsOpsEngines } from './peers/tfjsOps.ts'
import { progressBar } from './progress.ts'
import type { Report } from './report.ts'
import type { Workload } from './workloads.ts'

/** Peers that come from npm: their names on the command line, and in reports. */
const vendors = { grouped: 'ONNX Runtime grouped', tfjs: 'TensorFlow.js operators' } as const

type NpmPeer = keyof typeof vendors

/** Their names on the command line. */
export const npmPeers: readonly NpmPeer[] = ['grouped', 'tfjs']

/** Those that are called so in reports. */
export function npmPeersCalled(names: readonly (string | undefined)[]): readonly NpmPeer[] {
  return npmPeers.filter((peer) => names.includes(vendors[peer]))
}

/** What to measure, and how. */
export interface SessionOptions {
  readonly workloads: readonly Workload[]
  /** Our engines, by name. */
  readonly engines: readonly string[]
  readonly rounds: number
  /** Rounds before them that do not count; 3 unless given. */
  readonly warmup?: number
  readonly threads: number
  readonly ceilings: boolean
  readonly memory: boolean
  /** Of `npmPeers`; others are passed over. */
  readonly peers: readonly string[]
  /** A Python that has PyTorch. */
  readonly peer?: string | undefined
  readonly peerModes?: readonly TorchMode[]
  /** Which of our variants are wanted, by name; all unless given. */
  readonly wanted?: (name: string) => boolean
  /** Whether to print what the engines chose. */
  readonly explain?: boolean
}

/** Milliseconds before each turn: the spinning threads of other libraries have come to rest. */
const REST_MS = 50

/** Measures. @throws BackendUnavailableError for an engine that is not there; Error for a Python without PyTorch */
export async function measureReport(options: SessionOptions, signal: AbortSignal): Promise<Report> {
  const { threads, workloads } = options
  const peers: Peer[] = []
  const engines = await startEngines([...new Set(options.engines)], { threads })
  const bar = progressBar()
  try {
    const notRun = await startPeers(options, peers)
    return await bench({
      engines,
      peers,
      workloads,
      threads,
      notRun,
      ceilings: options.ceilings,
      measure: { rounds: options.rounds, warmup: options.warmup ?? 3, restMs: REST_MS, signal },
      ...(options.memory ? { memory: (engine, workload, choice) => ownPeakMemory({ engine, threads, workload, choice }, signal) } : {}),
      progress: (what, done, total) => bar.show(what, done, total),
      ...(options.wanted ? { wanted: options.wanted } : {}),
      ...(options.explain ? { explain: (text: string) => console.log(text) } : {}),
    })
  } finally {
    bar.stop()
    for (const peer of peers) await peer.stop()
    await stopEngines(engines)
  }
}

const torchHint = 'no --peer PYTHON was given (a Python with torch: python3 -m venv V && V/bin/pip install torch numpy)'

// Adds to `started`, so that those started are stopped when a later one fails; gives why others are not there.
async function startPeers({ peer: python, peerModes = ['eager', 'channels_last'], peers, threads, engines }: SessionOptions, started: Peer[]): Promise<readonly string[]> {
  const notRun: string[] = []
  if (python === undefined) notRun.push(`PyTorch: ${torchHint}`)
  else started.push(await TorchPeer.start({ python, threads, modes: peerModes }))
  // On the engine that ours uses in the same run.
  const engine = tfjsOpsEngines.find((name) => engines.includes(`tfjs:${name}`))
  const starters: { readonly [P in NpmPeer]: () => Promise<Peer> } = {
    grouped: async () => (await import('./peers/grouped.ts')).groupedPeer(vendors.grouped, threads),
    tfjs: async () => (await import('./peers/tfjsOps.ts')).tfjsOpsPeer(vendors.tfjs, engine),
  }
  for (const name of npmPeers) {
    if (!peers.includes(name)) {
      notRun.push(`peer '${name}': not asked for`)
      continue
    }
    try {
      started.push(await starters[name]())
    } catch (error) {
      notRun.push(`peer '${name}': ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return notRun
}
