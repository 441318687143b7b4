// A command of an app as its users start it, for tests: in a process of its own, in a folder of its own.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** How a process ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A process that was started. */
export interface Started {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  /** Waits until it has printed `text` on standard error, or ended. */
  readonly said: (text: string) => Promise<void>
}

/** Starts the commands of one app. */
export class CommandLine {
  /** Where they run; it is empty at first. */
  readonly folder: string = mkdtempSync(join(tmpdir(), 'dynconv-cli-'))
  readonly #main: string
  readonly #children: Set<ChildProcess> = new Set()

  /** `main`: the URL of the app's TypeScript entry. */
  constructor(main: URL) {
    this.#main = fileURLToPath(main)
  }

  start(...args: readonly string[]): Started {
    const child = spawn(process.execPath, ['--import', tsx, this.#main, ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.folder })
    this.#children.add(child)
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data: Buffer) => (stdout += String(data)))
    child.stderr.on('data', (data: Buffer) => (stderr += String(data)))
    const ended = once(child, 'close').then(([code, signal]: (number | NodeJS.Signals | null)[]): Ended => {
      this.#children.delete(child)
      return { code: typeof code === 'number' ? code : null, signal: typeof signal === 'string' ? signal : null, stdout, stderr }
    })
    const said = async (text: string): Promise<void> => {
      while (!stderr.includes(text) && child.exitCode === null) await once(child.stderr, 'data')
    }
    return { child, ended, said }
  }

  run(...args: readonly string[]): Promise<Ended> {
    return this.start(...args).ended
  }

  /** Ends what still runs: after each test, so that a failed one leaves nothing behind. */
  killAll(): void {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  /** Removes the folder. */
  async dispose(): Promise<void> {
    this.killAll()
    await rm(this.folder, { recursive: true, force: true })
  }
}

const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
