// Turns: what must not run at the same time (runs, reads and writes of one store) runs in the order in which it was asked for.

/** Does one thing after another. */
export class Queue {
  #last: Promise<void> = Promise.resolve()
  #waiting: number = 0

  /** Starts `job` when everything before it has ended, well or badly; gives what it gives. */
  run<T>(job: () => Promise<T> | T): Promise<T> {
    const ended = (): void => {
      this.#waiting--
    }
    this.#waiting++
    const result = this.#last.then(job)
    this.#last = result.then(ended, ended)
    return result
  }

  /** The same for the end of something: in the same turn where nothing is going on. */
  end(job: () => void): Promise<void> {
    if (this.#waiting > 0) return this.run(job)
    job()
    return Promise.resolve()
  }
}
