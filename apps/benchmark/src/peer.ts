// The peer: PyTorch in a subprocess, which times its own work and answers a line for each command (peer/torch_peer.py).

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Variant } from './measure.ts'
import { numBases, type Workload } from './workloads.ts'

/** How PyTorch may run a network; the best one counts. */
export type PeerMode = 'eager' | 'channels_last' | 'compile'

/** Every mode. */
export const peerModes: readonly PeerMode[] = ['eager', 'channels_last', 'compile']

/** A variant in the peer, to be freed after its workload. */
export interface PeerVariant extends Variant {
  readonly free: () => Promise<void>
}

type Answer = { readonly [key: string]: string | number }

/** A running PyTorch. */
export class Peer {
  readonly #process: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #reader: Interface
  #errors: string = ''
  /** PyTorch's version. */
  version: string = ''

  private constructor(python: string, threads: number) {
    const script = fileURLToPath(new URL('../peer/torch_peer.py', import.meta.url))
    this.#process = spawn(python, [script, String(threads), String(numBases)], { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#process.stderr.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-2000)
    })
    this.#reader = createInterface({ input: this.#process.stdout })
    this.#lines = this.#reader[Symbol.asyncIterator]()
  }

  /** Starts it. @throws Error with what Python said, when it has no PyTorch */
  static async start(python: string, threads: number): Promise<Peer> {
    const peer = new Peer(python, threads)
    await Promise.race([once(peer.#process, 'spawn'), once(peer.#process, 'error').then(([error]) => Promise.reject(new Error(`--peer ${python}: ${String(error)}`)))])
    const { version } = await peer.#answer()
    peer.version = String(version)
    return peer
  }

  /** Builds a workload in one mode. */
  async prepare(workload: Workload, dynamic: boolean, mode: PeerMode): Promise<PeerVariant> {
    const { id } = await this.#ask({ prepare: workload, dynamic, mode })
    return {
      name: `PyTorch ${mode} ${dynamic ? 'dynamic' : 'static'}`,
      run: async () => Number((await this.#ask({ run: id })).ms),
      free: async () => {
        await this.#ask({ free: id })
      },
    }
  }

  /** Ends it. */
  stop(): void {
    this.#reader.close()
    this.#process.stdin.end()
    this.#process.kill()
  }

  async #ask(command: object): Promise<Answer> {
    this.#process.stdin.write(`${JSON.stringify(command)}\n`)
    const answer = await this.#answer()
    if (answer.error !== undefined) throw new Error(`PyTorch: ${String(answer.error)}`)
    return answer
  }

  async #answer(): Promise<Answer> {
    const line = await this.#lines.next()
    if (line.done) throw new Error(`PyTorch ended: ${this.#errors.trim().split('\n').at(-1) ?? 'without a word'}`)
    return JSON.parse(line.value) as Answer
  }
}
