import { describe, expect, test } from 'vitest'
import {
  type Axis,
  blockCount,
  columnShifts,
  im2colPixels,
  type KernelBlocks,
  pixelBlocks,
  pixelRuns,
  residueBlocks,
  residues,
  rowShiftPixels,
  rowShifts,
  shiftWalk,
  turnedBlocks,
  winogradGrad,
  winogradInput,
} from './indices.ts'

const axis = (input: number, kernel: number, stride: number, dilation: number, before: number, after: number): Axis => ({
  input,
  output: Math.floor((input + before + after - (kernel - 1) * dilation - 1) / stride) + 1,
  kernel,
  stride,
  dilation,
  before,
})

const axes: readonly Axis[] = [
  axis(8, 3, 1, 1, 1, 1),
  axis(7, 3, 2, 1, 1, 1),
  axis(9, 2, 1, 3, 0, 2),
  axis(6, 1, 2, 1, 0, 0),
  axis(5, 5, 1, 1, 2, 2),
  axis(10, 4, 3, 1, 2, 0),
]

// What the convolution of one row or column reads: the input position of output p at kernel position u.
const reads = (a: Axis, p: number, u: number): number | undefined => {
  const at = p * a.stride + u * a.dilation - a.before
  return at >= 0 && at < a.input ? at : undefined
}

describe.each(axes)('axis %o', (a) => {
  test('row shifts are what each output row meets at each kernel row', () => {
    const index = rowShifts(a)
    expect(index).toHaveLength(a.kernel * a.output)
    for (let u = 0; u < a.kernel; u++) for (let p = 0; p < a.output; p++) expect(index[u * a.output + p]).toBe(reads(a, p, u) ?? a.input)
  })

  test('row shifts over pixels keep the column', () => {
    const columns = axis(3, 1, 1, 1, 0, 0)
    const index = rowShiftPixels(a, columns)
    let at = 0
    for (let p = 0; p < a.output; p++) {
      for (let c = 0; c < 3; c++) {
        for (let u = 0; u < a.kernel; u++) {
          const row = reads(a, p, u)
          expect(index[at++]).toBe(row === undefined ? a.input * 3 : row * 3 + c)
        }
      }
    }
    expect(index).toHaveLength(at)
  })

  test('column shifts find the output column that meets an input column', () => {
    const rows = axis(2, 1, 1, 1, 0, 0)
    const index = columnShifts(rows, a)
    let at = 0
    for (let p = 0; p < 2; p++) {
      for (let c = 0; c < a.input; c++) {
        for (let v = 0; v < a.kernel; v++) {
          const q = Array.from({ length: a.output }, (_, i) => i).find((i) => reads(a, i, v) === c)
          expect(index[at++]).toBe(q === undefined ? 2 * a.output : p * a.output + q)
        }
      }
    }
    expect(index).toHaveLength(at)
  })

  test('im2col reads the pixel of each tap', () => {
    const columns = axis(4, 2, 1, 1, 1, 0)
    const index = im2colPixels(a, columns)
    let at = 0
    for (let p = 0; p < a.output; p++) {
      for (let q = 0; q < columns.output; q++) {
        for (let u = 0; u < a.kernel; u++) {
          for (let v = 0; v < 2; v++) {
            const [r, c] = [reads(a, p, u), reads(columns, q, v)]
            expect(index[at++]).toBe(r === undefined || c === undefined ? a.input * 4 : r * 4 + c)
          }
        }
      }
    }
    expect(index).toHaveLength(at)
  })
})

describe.each([8, 16])('images blocked over pixels, block %i', (b) => {
  const channels = 2 * b
  // Which (channel, row, column) each number of the result must be, or undefined for a zero.
  const expected = (rows: Axis, width: number) => (place: number): readonly number[] | undefined => {
    const [inBlock, rest] = [place % b, Math.floor(place / b)]
    const [i, u, kb] = [rest % channels, Math.floor(rest / channels) % rows.kernel, Math.floor(rest / channels / rows.kernel)]
    const pixel = kb * b + inBlock
    const r = reads(rows, Math.floor(pixel / width), u)
    return r === undefined ? undefined : [i, r, pixel % width]
  }

  test.each(axes)('tiles, rows %o', (rows) => {
    const width = 2 * b
    const index = pixelBlocks(rows, axis(width, 3, 1, 1, 1, 1), channels / b, b)
    const want = expected(rows, width)
    const perRow = width / b
    // A tile holds b channels by b pixels.
    index.forEach((tile, t) => {
      const [c, p] = [Math.floor(tile / (rows.input * perRow)), tile % (rows.input * perRow)]
      // The zero tile is the first beyond the last channel.
      expect([c * b, Math.floor(p / perRow), (p % perRow) * b]).toEqual(want(t * b * b) ?? [channels, 0, 0])
    })
    expect(index).toHaveLength(rows.output * perRow * rows.kernel * (channels / b))
  })

  test.each([b, b / 2, b / 4])('runs, %i pixels a row', (width) => {
    for (const rows of [axis(8, 3, 1, 1, 1, 1), axis(8, 2, 1, 2, 2, 0), axis(16, 3, 2, 1, 1, 0)]) {
      const run = width
      const index = pixelRuns(rows, axis(width, 3, 1, 1, 1, 1), channels, b, run)
      const want = expected(rows, width)
      index.forEach((at, t) => {
        const [i = 0, r = 0, column = 0] = want(t * run) ?? [channels, 0, 0]
        expect(at * run).toBe((i * rows.input + r) * width + column)
      })
      expect(index).toHaveLength((rows.output * width * rows.kernel * channels) / run)
    }
  })
})

test('a shift along a row is a convolution with a single 1', () => {
  for (const a of axes.filter((candidate) => candidate.stride === 1)) {
    for (let v = 0; v < a.kernel; v++) {
      const { taps, at, before, after } = shiftWalk(a, v)
      expect(a.output + before + after - taps + 1).toBe(a.input)
      for (let c = 0; c < a.input; c++) {
        const q = c + at - before
        const found = q >= 0 && q < a.output ? q : undefined
        expect(found).toBe(Array.from({ length: a.output }, (_, i) => i).find((i) => reads(a, i, v) === c))
      }
    }
  }
})

test('sub-pixel taps meet the same pairs as the convolution', () => {
  for (const a of axes.filter((candidate) => candidate.dilation === 1)) {
    const { stride } = a
    const all = residues(a)
    expect(all).toHaveLength(stride)
    // Every (input h, output p, tap u) with h = p s + u - before, written as residue r = h mod s, cell h div s, e = p - cell.
    const expected = new Set<string>()
    for (let p = 0; p < a.output; p++) {
      for (let u = 0; u < a.kernel; u++) {
        const h = reads(a, p, u)
        if (h !== undefined) expected.add([h % stride, p - Math.floor(h / stride), u].join())
      }
    }
    const found = new Set(all.flatMap(({ first, taps }, r) => taps.flatMap((u, j) => (u < 0 ? [] : [[r, first + j, u].join()]))))
    for (const pair of expected) expect(found).toContain(pair)
    // As many pixels as there are cells, from padding that cuts nothing off.
    for (const { taps, pads } of all) {
      expect(Math.min(...pads)).toBeGreaterThanOrEqual(0)
      expect(a.output + pads[0] + pads[1] - taps.length + 1).toBe(Math.ceil(a.input / stride))
    }
  }
})

// Blocks by their coordinates, so that an order can be read off.
const coordinates = (k: KernelBlocks): ReadonlyMap<number, readonly number[]> => {
  const [kh, kw] = k.kernelSize
  const result = new Map<number, readonly number[]>()
  for (let n = 0; n < k.count; n++)
    for (let g = 0; g < k.groups; g++)
      for (let o = 0; o < k.outBlocks; o++)
        for (let i = 0; i < k.inBlocks; i++) for (let u = 0; u < kh; u++) for (let v = 0; v < kw; v++) result.set(result.size, [n, g, o, i, u, v])
  return result
}

test('turned blocks exchange the channels and reverse the taps', () => {
  const k: KernelBlocks = { count: 2, groups: 2, outBlocks: 3, inBlocks: 2, kernelSize: [3, 2] }
  const at = coordinates(k)
  const index = turnedBlocks(k)
  expect(new Set(index).size).toBe(blockCount(k))
  let place = 0
  for (let n = 0; n < 2; n++)
    for (let g = 0; g < 2; g++)
      for (let i = 0; i < 2; i++)
        for (let o = 0; o < 3; o++)
          for (let u = 0; u < 3; u++) for (let v = 0; v < 2; v++) expect(at.get(index[place++] ?? -1)).toEqual([n, g, o, i, 2 - u, 1 - v])
})

test('sub-pixel blocks put each tap where its residue reads it, and the zero block elsewhere', () => {
  const k: KernelBlocks = { count: 2, groups: 1, outBlocks: 2, inBlocks: 3, kernelSize: [3, 1] }
  const [rows, columns] = [residues(axis(8, 3, 2, 1, 1, 1)), residues(axis(6, 1, 3, 1, 0, 0))]
  const at = coordinates(k)
  for (const r of rows) {
    for (const s of columns) {
      const index = residueBlocks(k, r, s)
      let place = 0
      for (let n = 0; n < 2; n++)
        for (let i = 0; i < 3; i++)
          for (let o = 0; o < 2; o++)
            for (const u of r.taps)
              for (const v of s.taps) {
                const block = index[place++] ?? -1
                expect(block === blockCount(k) ? 'zero' : at.get(block)).toEqual(u < 0 || v < 0 ? 'zero' : [n, 0, o, i, u, v])
              }
      expect(index).toHaveLength(place)
    }
  }
})

test('Winograd windows overlap by two pixels, tiles of dY lie side by side', () => {
  const input = winogradInput(4, 6, 2, 1)
  // Sample 1 of 4x6 pixels and a zero row; tile (0, 0) begins at (-1, -1), so its place (1, 1) is pixel (0, 0).
  const [samples, tiles] = [2, 6]
  expect(input).toHaveLength(16 * samples * tiles)
  expect(input[0]).toBe(25 + 24)
  expect(input[5 * samples * tiles]).toBe(25)
  // Sample 2, tile (1, 2): place (2, 1) is pixel (3, 4).
  expect(input[9 * samples * tiles + tiles + 5]).toBe(2 * 25 + 3 * 6 + 4)
  const grad = winogradGrad(4, 6, 2, 1)
  expect([...grad].sort((a, b) => a - b)).toEqual(Array.from({ length: 48 }, (_, i) => 24 + i))
  expect(grad[3 * samples * tiles + 5]).toBe(24 + 3 * 6 + 5)
})
