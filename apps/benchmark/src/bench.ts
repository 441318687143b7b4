// Runs the workloads, ours and the peers', and collects the report.

import { type Ceilings, type GemmPeak, measureCeilings } from './ceilings.ts'
import type { RunningEngine } from '@dynconv/app-kit/engines'
import { describeMachine } from './machine.ts'
import { interleave, type MeasureOptions } from './measure.ts'
import type { PeakMemory } from './memory.ts'
import { type Choice, choicesOf, ownInfo, ownVariant, type OwnVariant } from './ours.ts'
import type { Peer, PeerVariant } from './peers/peer.ts'
import { type Report, reportVersion, type Result, rowsOf } from './report.ts'
import type { Workload } from './workloads.ts'

/** What to run. */
export interface BenchOptions {
  readonly engines: readonly RunningEngine[]
  readonly peers: readonly Peer[]
  readonly workloads: readonly Workload[]
  readonly threads: number
  readonly measure: Omit<MeasureOptions, 'progress'>
  /** Whether the machine's ceilings are measured first. */
  readonly ceilings: boolean
  /** Measures the peak memory of a variant; unless given, nobody does. */
  readonly memory?: (engine: string, workload: Workload, choice: Choice) => Promise<PeakMemory>
  /** Which of our variants are wanted, by name; all unless given. */
  readonly wanted?: (name: string) => boolean
  /** Peers that are not there, and why. */
  readonly notRun?: readonly string[]
  /** Told what is being done, and how many parts of it are. */
  readonly progress?: (what: string, done: number, total: number) => void
  /** Told what the backend chose. */
  readonly explain?: (text: string) => void
}

/** Measures everything. */
export async function bench(options: BenchOptions): Promise<Report> {
  const { engines, peers, workloads, measure: how } = options
  const notRun: string[] = [...(options.notRun ?? [])]
  const ceilings = options.ceilings ? await ceilingsOf(options) : undefined
  const results: Result[] = []
  for (const workload of workloads) results.push(await measure(options, workload, notRun))
  return {
    version: reportVersion,
    machine: describeMachine(engines.map(({ name, backend }) => `${name}: ${backend.capabilities.device}`), peers.map((p) => p.description)),
    method: [
      `${how.rounds} interleaved rounds after ${how.warmup} to warm up, ${how.restMs} ms of rest before each turn; short work in bursts (at least ${how.burstMs ?? 30} ms, the first two runs, or 5 ms, dropped); ${options.threads} threads; raised malloc thresholds on all sides`,
    ],
    ceilings,
    workloads,
    rows: results.flatMap((result) => rowsOf(result, ceilings)),
    notRun,
  }
}

async function ceilingsOf({ engines, peers, threads, progress }: BenchOptions): Promise<Ceilings> {
  progress?.('what the machine can do', 0, 1)
  const others: GemmPeak[] = []
  for (const { vendor, gemmMacsPerSecond } of peers) if (gemmMacsPerSecond) others.push({ library: vendor, macsPerSecond: await gemmMacsPerSecond(), host: true })
  const ceilings = await measureCeilings(engines, threads, others)
  progress?.('what the machine can do', 1, 1)
  return ceilings
}

async function measure(options: BenchOptions, workload: Workload, notRun: string[]): Promise<Result> {
  const { engines, peers, measure: how, progress, wanted } = options
  const own: OwnVariant[] = []
  const foreign: PeerVariant[] = []
  // One variant that cannot run does not cost the others their row.
  const attempt = async <T>(name: string, action: () => Promise<T>): Promise<T | undefined> => {
    how.signal?.throwIfAborted()
    try {
      return await action()
    } catch (error) {
      how.signal?.throwIfAborted()
      notRun.push(`${workload.name}: ${name}: ${error instanceof Error ? error.message : String(error)}`)
      return undefined
    }
  }
  try {
    const memories = new Map<string, PeakMemory>()
    const tasks = engines
      .flatMap((engine) => choicesOf(workload).map((choice) => ({ engine, choice, name: ownInfo(engine.name, workload, choice).name })))
      .filter(({ name }) => wanted?.(name) ?? true)
    for (const { engine, choice, name } of tasks) {
      const variant = await attempt(name, () => ownVariant(engine, workload, choice))
      if (variant) own.push(variant)
    }
    for (const peer of peers) {
      const refusal = peer.refuses?.(workload)
      if (refusal !== undefined) {
        notRun.push(`${workload.name}: ${peer.vendor}: ${refusal}`)
        continue
      }
      for (const mode of peer.modes) {
        for (const numBases of [0, ...workload.bases]) {
          const variant = await attempt(`${peer.vendor} ${mode} ${numBases ? `dynamic K=${numBases}` : 'static'}`, () => peer.prepare(workload, numBases, mode))
          if (variant) foreign.push(variant)
        }
      }
    }
    const variants = [...own, ...foreign]
    const timings = await interleave(variants, { ...how, progress: (done, total) => progress?.(workload.name, done, total) })
    for (const variant of own) options.explain?.(`${workload.name}, ${variant.name}:\n${variant.explain()}`)
    const { memory } = options
    if (memory && hasMemory(workload)) {
      for (const [i, { engine, choice, name }] of tasks.entries()) {
        progress?.(`${workload.name}, memory`, i, tasks.length)
        const peak = await attempt(`${name}, memory`, () => memory(engine.name, workload, choice))
        if (peak) memories.set(name, peak)
      }
      for (const [i, variant] of foreign.entries()) {
        progress?.(`${workload.name}, memory of peers`, i, foreign.length)
        const peak = await attempt(`${variant.name}, memory`, async () => variant.peakMemory?.())
        if (peak) memories.set(variant.name, peak)
      }
      progress?.(`${workload.name}, memory`, 1, 1)
    }
    return {
      workload,
      timings: timings.map((t, i) => ({ ...t, firstRunSeconds: variants[i]?.firstRunSeconds, work: own[i]?.work, memory: memories.get(t.name) })),
    }
  } finally {
    for (const variant of own) variant.dispose()
    for (const variant of foreign) await variant.free().catch(() => undefined)
  }
}

// Of single layers the peak is the engine's slack more than anything else.
function hasMemory({ group }: Workload): boolean {
  return group !== 'layers' && group !== 'blocks'
}
