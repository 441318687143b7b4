// Seeded pseudo-random numbers, the same on every machine: xoshiro128** (Blackman and Vigna, 2018), its state filled by
// splitmix32. Normal numbers by Box-Muller. Not for cryptography.

import { ValueError } from './backend/errors.ts'

/** A reproducible stream of pseudo-random numbers; further numbers after the seed pick independent streams. */
export class Random {
  readonly #s: Uint32Array = new Uint32Array(4)
  #spare: number | undefined

  /** @example new Random(seed, epoch, sample) */
  constructor(seed: number, ...stream: readonly number[]) {
    let h = 0x9e3779b9
    for (const n of [seed, ...stream]) {
      // Both halves of a large integer count.
      h = mix((h ^ (n >>> 0)) >>> 0)
      h = mix((h ^ (Math.floor(n / 2 ** 32) >>> 0)) >>> 0)
    }
    for (let i = 0; i < 4; i++) {
      h = (h + 0x9e3779b9) >>> 0
      this.#s[i] = mix(h)
    }
    if (this.#s.every((x) => x === 0)) this.#s[0] = 1
  }

  /** A uniform integer in [0, 2^32). */
  nextUint32(): number {
    const s = this.#s
    const [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = s
    const result = Math.imul(rotl(Math.imul(s1, 5), 7), 9) >>> 0
    const t = s1 << 9
    const a = s2 ^ s0
    const b = s3 ^ s1
    s[1] = s1 ^ a
    s[0] = s0 ^ b
    s[2] = a ^ t
    s[3] = rotl(b, 11)
    return result
  }

  /** A uniform number in [0, 1), with 53 random bits. */
  uniform(): number {
    const high = this.nextUint32() >>> 5
    const low = this.nextUint32() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** A uniform integer in [0, n), without bias. @throws ValueError unless n is an integer from 1 to 2^32 */
  int(n: number): number {
    if (!(Number.isInteger(n) && n >= 1 && n <= 2 ** 32)) throw new ValueError(`Random.int: n must be an integer from 1 to 2^32, got ${n}`)
    const limit = Math.floor(2 ** 32 / n) * n
    for (;;) {
      const x = this.nextUint32()
      if (x < limit) return x % n
    }
  }

  /** A standard normal number. */
  normal(): number {
    if (this.#spare !== undefined) {
      const spare = this.#spare
      this.#spare = undefined
      return spare
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()))
    const angle = 2 * Math.PI * this.uniform()
    this.#spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }

  /** Shuffles in place (Fisher-Yates) and returns its argument. */
  shuffle<T extends { length: number; [index: number]: unknown }>(list: T): T {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.int(i + 1)
      const kept = list[i]
      list[i] = list[j]
      list[j] = kept
    }
    return list
  }
}

function rotl(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k))
}

// The finaliser of splitmix32.
function mix(h: number): number {
  let x = h
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
  return (x ^ (x >>> 15)) >>> 0
}
