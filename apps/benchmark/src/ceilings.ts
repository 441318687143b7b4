// What this machine can do, measured: the multiply-adds of large products, and the bytes that processors move when they copy
// and when they only read. Each ceiling is the best of several tries, for it is to be a bound. A time over such a bound is
// a share of the machine.

import { Worker } from 'node:worker_threads'
import { compile, type HostTensor, Module, Parameter, type Tensor } from '@dynconv/core'
import type { RunningEngine } from '@dynconv/app-kit/engines'
import { randomImages } from './images.ts'
import { timed } from './measure.ts'
import type { Work } from './work.ts'

/** The measured peak of products. */
export interface GemmPeak {
  /** `onnx`, `PyTorch`. */
  readonly library: string
  readonly macsPerSecond: number
  /** Whether it runs on the machine's own processors. */
  readonly host: boolean
}

/** How fast memory moves. */
export interface MemoryPeak {
  /** How much was touched. */
  readonly bytes: number
  /** The faster one of copying (each byte counted as read and as written) and of reading. */
  readonly bytesPerSecond: number
}

/** All that was measured. */
export interface Ceilings {
  readonly gemm: readonly GemmPeak[]
  /** From small to large. */
  readonly memory: readonly MemoryPeak[]
}

/** A row's bounds. */
export interface Bound {
  readonly arithmeticSeconds: number
  /** Undefined on a device whose memory was not measured. */
  readonly memorySeconds: number | undefined
  /** The greater of the bounds over the time: 1 is all that the machine can do. */
  readonly share: number
}

/** The bounds of work that took `seconds` in `library`. Undefined when nothing fitting was measured. */
export function boundOf(work: Work, seconds: number, library: string, ceilings: Ceilings): Bound | undefined {
  const own = ceilings.gemm.find((g) => g.library === library)
  const rivals = own?.host === false ? [own] : ceilings.gemm.filter((g) => g.host)
  const peak = Math.max(...rivals.map((g) => g.macsPerSecond))
  if (!(peak > 0)) return undefined
  const bandwidth = own?.host === false ? undefined : bandwidthFor(work.bytes, ceilings)
  const arithmeticSeconds = work.leastMacs / peak
  const memorySeconds = bandwidth === undefined ? undefined : work.bytes / bandwidth
  return { arithmeticSeconds, memorySeconds, share: Math.max(arithmeticSeconds, memorySeconds ?? 0) / seconds }
}

/** The bandwidth of work that touches `bytes`: that of the largest measured set that is not larger, for less is faster. */
export function bandwidthFor(bytes: number, { memory }: Ceilings): number | undefined {
  return (memory.findLast((m) => m.bytes <= bytes) ?? memory[0])?.bytesPerSecond
}

class Products extends Module {
  readonly weight: Parameter

  constructor(weight: HostTensor) {
    super()
    this.weight = new Parameter(weight)
  }

  override forward(x: Tensor): Tensor {
    const w = this.weight.value
    return x.matmul(w).matmul(w).matmul(w).mean([0])
  }
}

/** The peak of three products [n, n] x [n, n] in a row on an engine, n doubled until they take long enough. */
export async function engineGemmPeak({ name, backend, host }: RunningEngine, tries: number = 7): Promise<GemmPeak> {
  let best = 0
  for (let n = 256; n <= 2048; n *= 2) {
    const x = randomImages([n, n])
    const program = await compile(new Products(x), { backend, inputs: [{ shape: [n, n] }] })
    try {
      await program.run([x])
      const times = await timed(tries, () => program.run([x]))
      const seconds = Math.min(...times) / 1e3
      best = Math.max(best, (3 * n ** 3) / seconds)
      if (seconds > 0.1) break
    } finally {
      program.dispose()
    }
  }
  return { library: name, macsPerSecond: best, host }
}

// Plain JavaScript, for a worker that needs no loader: it copies one half of its memory over the other, or looks through it
// for a byte that is not there (the C library does both with its widest instructions), and answers the seconds of each try.
const workerCode = `
const { parentPort, workerData: { bytes, tries, gate } } = require('node:worker_threads')
const memory = Buffer.alloc(bytes, 1)
const half = bytes >> 1
const repeat = Math.max(1, Math.ceil(2 ** 26 / bytes))
const ways = [() => memory.copy(memory, half, 0, half), () => memory.indexOf(0)]
for (const way of ways) way()
const all = ways.map((way) => Array.from({ length: tries }, () => {
  const turn = Atomics.add(gate, 0, 1) + 1
  const goal = Math.ceil(turn / gate[1]) * gate[1]
  while (Atomics.load(gate, 0) < goal);
  const start = performance.now()
  for (let i = 0; i < repeat; i++) way()
  return (performance.now() - start) / 1e3 / repeat
}))
parentPort.postMessage(all)
`

/** The bandwidth of `threads` threads that touch `bytes` together. */
export async function memoryPeak(bytes: number, threads: number, tries: number = 5): Promise<MemoryPeak> {
  const gate = new Int32Array(new SharedArrayBuffer(8))
  gate[1] = threads
  const each = Math.floor(bytes / threads / 2) * 2
  const answers = await Promise.all(Array.from({ length: threads }, () => answerOf(new Worker(workerCode, { eval: true, workerData: { bytes: each, tries, gate } }))))
  // A try ends with its slowest thread. A copy reads one half and writes the other: all bytes move once, as in a reading.
  const rates = [0, 1].flatMap((way) => Array.from({ length: tries }, (_, t) => (each * threads) / Math.max(...answers.map((a) => a[way]?.[t] ?? Number.POSITIVE_INFINITY))))
  return { bytes, bytesPerSecond: Math.max(...rates) }
}

async function answerOf(worker: Worker): Promise<readonly (readonly number[])[]> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

const memorySizes: readonly number[] = [1, 4, 16, 32, 64, 128, 256].map((mib) => mib * 2 ** 20)

/** Measures all ceilings of engines and memory; a peer's peak may be given along. */
export async function measureCeilings(engines: readonly RunningEngine[], threads: number, others: readonly GemmPeak[] = []): Promise<Ceilings> {
  const gemm: GemmPeak[] = [...others]
  for (const engine of engines) gemm.push(await engineGemmPeak(engine))
  const memory: MemoryPeak[] = []
  for (const bytes of memorySizes) memory.push(await memoryPeak(bytes, threads))
  return { gemm, memory }
}
