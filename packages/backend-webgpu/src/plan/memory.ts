// Which temporaries share memory. A buffer is needed from the first step that touches it to the last (results to the end).
// What fixed steps (fixed.ts) leave for the others is needed for ever.
// The largest come first; each takes the smallest piece of memory whose buffers are all needed at other times, or a piece
// of its own. WebGPU tracks whole buffers (one dispatch may not read and write the same), so a piece is a buffer. Temporaries
// that are parts of another one have its piece.

import { type PlanBuffer, type Program, touched, wholeOf } from './program.ts'

/** The pieces of memory of a program's temporaries. */
export interface MemoryPlan {
  /** Bytes of each piece. */
  readonly pieces: readonly number[]
  /** The piece of each temporary, by the buffer's number. */
  readonly pieceOf: ReadonlyMap<number, number>
  /** Bytes of all temporaries together, had each a piece of its own. */
  readonly unsharedBytes: number
}

interface Interval {
  readonly buffer: PlanBuffer
  first: number
  last: number
}

/** Shares out the memory. */
export function planMemory({ steps, parts, fixedSteps, outputs, commits }: Pick<Program, 'steps' | 'parts' | 'fixedSteps' | 'outputs' | 'commits'>): MemoryPlan {
  const intervals = new Map<number, Interval>()
  const touch = (part: PlanBuffer, at: number): void => {
    const buffer = wholeOf(parts, part)
    if (buffer.source.kind !== 'temporary') return
    const known = intervals.get(buffer.id)
    if (known) known.last = at
    else intervals.set(buffer.id, { buffer, first: at, last: at })
  }
  steps.forEach((step, at) => {
    for (const buffer of touched(step)) touch(buffer, at)
  })
  for (const { buffer } of outputs) touch(buffer, steps.length)
  for (const { from } of commits) touch(from, steps.length)

  for (const interval of intervals.values()) if (interval.first < fixedSteps && interval.last >= fixedSteps) interval.last = steps.length

  const pieces: { bytes: number; readonly intervals: Interval[] }[] = []
  const pieceOf = new Map<number, number>()
  const bySize = [...intervals.values()].sort((a, b) => b.buffer.bytes - a.buffer.bytes || a.first - b.first)
  for (const interval of bySize) {
    // Those that come later are smaller: they fit wherever the time is free. The last piece is the smallest.
    const free = pieces.findLastIndex((piece) => piece.intervals.every((other) => other.last < interval.first || interval.last < other.first))
    const index = free >= 0 ? free : pieces.push({ bytes: interval.buffer.bytes, intervals: [] }) - 1
    pieces[index]?.intervals.push(interval)
    pieceOf.set(interval.buffer.id, index)
  }
  return { pieces: pieces.map((p) => p.bytes), pieceOf, unsharedBytes: bySize.reduce((sum, i) => sum + i.buffer.bytes, 0) }
}
