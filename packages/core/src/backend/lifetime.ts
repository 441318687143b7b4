// The end of something that may be in use at that moment: it is refused to newcomers at once, and freed when the last
// user is done.

import { DisposedError } from './errors.ts'

/** What is kept while it is used. */
export interface Kept {
  use<R>(body: () => Promise<R>): Promise<R>
}

/** Runs `body` with all of `kept` kept until it is done. @throws DisposedError */
export function useAll<R>([first, ...rest]: readonly Kept[], body: () => Promise<R>): Promise<R> {
  return first ? first.use(() => useAll(rest, body)) : body()
}

/** Guards a resource that is used asynchronously and disposed by hand. */
export class Lifetime {
  readonly #what: string
  readonly #free: () => void | Promise<void>
  readonly #freed: Promise<void>
  #settle: (freed: void | Promise<void>) => void = () => undefined
  #users: number = 0
  #ended: boolean = false

  /** `what` speaks in errors: `onnx: this executable`. `free` is called once, in the same turn where nobody is using it. */
  constructor(what: string, free: () => void | Promise<void>) {
    this.#what = what
    this.#free = free
    this.#freed = new Promise((resolve) => {
      this.#settle = resolve
    })
    // Who does not wait for the end is not told that it failed.
    this.#freed.catch(() => undefined)
  }

  /** @throws DisposedError */
  check(): void {
    if (this.#ended) throw new DisposedError(`${this.#what} was disposed`)
  }

  /** Runs `body` with the resource kept until it is done. @throws DisposedError */
  async use<R>(body: () => Promise<R> | R): Promise<R> {
    this.check()
    this.#users++
    try {
      return await body()
    } finally {
      this.#users--
      if (this.#ended && this.#users === 0) this.#settle(this.#free())
    }
  }

  /** Ends it; the promise is done when it is freed. Twice is harmless. */
  end(): Promise<void> {
    if (!this.#ended) {
      this.#ended = true
      if (this.#users === 0) this.#settle(this.#free())
    }
    return this.#freed
  }
}
