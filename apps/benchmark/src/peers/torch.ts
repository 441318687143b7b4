// PyTorch in a subprocess, which times its own work and answers a line for each command (peer/torch_peer.py).

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { PeakMemory } from '../memory.ts'
import { ordinaryEnvironment } from '../process.ts'
import type { Workload } from '../workloads.ts'
import type { Peer, PeerVariant } from './peer.ts'

/** How PyTorch may run a network. */
export const torchModes = ['eager', 'channels_last', 'compile'] as const

/** One of them. */
export type TorchMode = (typeof torchModes)[number]

/** How to start PyTorch. */
export interface TorchOptions {
  /** A Python that has it. */
  readonly python: string
  readonly threads: number
  readonly modes: readonly TorchMode[]
}

type Answer = { readonly [key: string]: unknown }

/** A running PyTorch. */
export class TorchPeer implements Peer {
  readonly vendor: string = 'PyTorch'
  readonly modes: readonly TorchMode[]
  readonly #process: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #reader: Interface
  readonly #options: TorchOptions
  #errors: string = ''
  #version: string = ''

  private constructor(options: TorchOptions, environment: NodeJS.ProcessEnv) {
    const { python, threads, modes } = options
    const script = fileURLToPath(new URL('../../peer/torch_peer.py', import.meta.url))
    this.modes = modes
    this.#options = options
    this.#process = spawn(python, [script, String(threads)], { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
    this.#process.stderr.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-2000)
    })
    // A broken pipe shows as the end of its answers, which says why.
    this.#process.stdin.on('error', () => undefined)
    this.#reader = createInterface({ input: this.#process.stdout })
    this.#lines = this.#reader[Symbol.asyncIterator]()
  }

  /** Starts it. @throws Error with what Python said, when it has no PyTorch */
  static async start(options: TorchOptions, environment: NodeJS.ProcessEnv = process.env): Promise<TorchPeer> {
    const peer = new TorchPeer(options, environment)
    try {
      await once(peer.#process, 'spawn')
    } catch (cause) {
      throw new Error(`--peer ${options.python}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    }
    peer.#version = String((await peer.#answer()).version)
    return peer
  }

  get description(): string {
    return `PyTorch ${this.#version} (${this.#options.threads} threads)`
  }

  async prepare(workload: Workload, numBases: number, mode: string): Promise<PeerVariant> {
    const { id, firstRunSeconds } = await this.#ask({ prepare: workload, numBases, mode })
    return {
      name: `PyTorch ${mode} ${numBases ? `dynamic K=${numBases}` : 'static'}`,
      library: `PyTorch ${mode}`,
      vendor: this.vendor,
      numBases,
      firstRunSeconds: Number(firstRunSeconds),
      run: async (times) => numbers((await this.#ask({ run: id, times })).ms),
      peakMemory: () => this.#peakMemory(workload, numBases, mode),
      free: async () => {
        await this.#ask({ free: id })
      },
    }
  }

  // An arrow function, so that it may be taken off the peer.
  readonly gemmMacsPerSecond: () => Promise<number> = async () => Number((await this.#ask({ gemm: true })).macsPerSecond)

  // Beyond what PyTorch takes once it is loaded, in a process of its own with the allocator that users have.
  async #peakMemory(workload: Workload, numBases: number, mode: string): Promise<PeakMemory> {
    const other = await TorchPeer.start(this.#options, ordinaryEnvironment())
    try {
      const { loadBytes, runBytes } = await other.#ask({ memory: workload, numBases, mode })
      return { loadBytes: Number(loadBytes), runBytes: Number(runBytes) }
    } finally {
      await other.stop()
    }
  }

  async stop(): Promise<void> {
    this.#reader.close()
    this.#process.stdin.end()
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const ended = once(this.#process, 'exit')
    this.#process.kill()
    await ended
  }

  async #ask(command: object): Promise<Answer> {
    this.#process.stdin.write(`${JSON.stringify(command)}\n`)
    const answer = await this.#answer()
    if (typeof answer.error === 'string') throw new Error(answer.error)
    return answer
  }

  async #answer(): Promise<Answer> {
    const line = await this.#lines.next()
    if (line.done) throw new Error(`PyTorch ended: ${this.#errors.trim().split('\n').at(-1) || 'without a word'}`)
    return JSON.parse(line.value) as Answer
  }
}

function numbers(value: unknown): readonly number[] {
  if (!Array.isArray(value)) throw new Error('PyTorch answered without times')
  return value.map(Number)
}
